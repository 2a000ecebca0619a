"""The control plane: what every operation and every API handler works with."""

from __future__ import annotations

import dataclasses

from lamina.model.clock import Clock
from lamina.model.settings import Settings
from lamina.store.database import Database


@dataclasses.dataclass(frozen=True, slots=True)
class ControlPlane:
    """One process's view of the whole: its settings, its database, its clock."""

    settings: Settings
    db: Database
    clock: Clock
