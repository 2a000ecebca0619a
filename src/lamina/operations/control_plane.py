"""The control plane: what every operation and every API handler works with."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from typing import Any

from lamina.hosts.directory import Hosts
from lamina.model.clock import Clock
from lamina.model.settings import ADDRESS_WINDOW, Settings
from lamina.operations.login_limits import LoginLimits
from lamina.saga.probe import Probe
from lamina.saga.runner import Runner
from lamina.saga.steps import Kind
from lamina.scheduling.index import Index
from lamina.store.audit_ledger import Ledger
from lamina.store.database import Database
from lamina.store.good_tokens import GoodTokens


@dataclasses.dataclass(frozen=True, slots=True)
class ControlPlane:
    """One process's view of the whole: its settings, its database, its clock, its hosts, what runs operations, what places."""

    settings: Settings
    db: Database
    clock: Clock
    hosts: Hosts
    runner: Runner[ControlPlane]
    index: Index
    tokens: GoodTokens
    logins: LoginLimits
    ledger: Ledger

    @classmethod
    def assemble(
        cls,
        settings: Settings,
        db: Database,
        clock: Clock,
        hosts: Hosts,
        kinds: Iterable[Kind[ControlPlane, Any]],
        *,
        alone: bool = True,
        probe: Probe | None = None,
    ) -> ControlPlane:
        """Put the parts together; nothing runs before `start`."""
        runner: Runner[ControlPlane] = Runner(db, clock, kinds, lease=settings.lease, alone=alone, probe=probe)
        logins = LoginLimits(failures=settings.address_failures, window=ADDRESS_WINDOW, at_once=settings.logins_at_once)
        plane = cls(settings, db, clock, hosts, runner, Index(db, settings.driver_trust), GoodTokens(db), logins, Ledger(db))
        runner.attach(plane)
        return plane

    def start(self) -> None:
        self.ledger.start()
        self.runner.start()

    def stop(self) -> None:
        self.runner.stop()
        self.ledger.stop()
        self.db.close()
