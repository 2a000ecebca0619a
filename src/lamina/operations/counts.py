"""What this process has counted of repairs, for those who watch it."""

from __future__ import annotations

from prometheus_client import Counter

REPAIRS = Counter("lamina_repairs_begun", "What was found out of order and is being mended, by what it is.", ["what"])
