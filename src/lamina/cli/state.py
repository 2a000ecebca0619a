"""Where a Lamina keeps its state when nobody says otherwise: the XDG state directory of the user who runs it."""

from __future__ import annotations

import os
from pathlib import Path


def default_state() -> Path:
    """`$XDG_STATE_HOME/lamina`, or `~/.local/state/lamina`; a relative XDG_STATE_HOME is ignored, as the XDG rules say."""
    named = Path(os.environ.get("XDG_STATE_HOME", ""))
    base = named if named.is_absolute() else Path.home() / ".local" / "state"
    return base / "lamina"
