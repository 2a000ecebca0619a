"""``python -m lamina_review`` is the command `lamina-review`."""
from __future__ import annotations

from lamina_review.cli import main

main()
