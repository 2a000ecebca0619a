"""Build what the lab is made of, as far as that is not done yet: `python -m lab`."""

from __future__ import annotations

from lab.stages import CACHE, Lab

Lab(CACHE).build()
