"""The one settings object: read once at start, passed down, never looked up."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from lamina.model.driver_advisories import DriverTrust
from lamina.model.policies import PolicyName
from lamina.model.rates import Rate


@dataclasses.dataclass(frozen=True, slots=True)
class Keystone:
    """A real Keystone that knows all users, and whom Lamina is for it: a user who may validate tokens (the role ``service``)."""

    #: with its version, without a trailing slash: https://keystone.example.org/v3
    auth_url: str
    username: str
    password: str = dataclasses.field(repr=False)
    project_name: str = "service"
    user_domain_name: str = "Default"
    project_domain_name: str = "Default"
    #: who is trusted to have certified it, instead of those whom the system trusts
    ca_file: Path | None = None


@dataclasses.dataclass(frozen=True, slots=True)
class Limits:
    """What a connection may cost. Times are in seconds, sizes in bytes."""

    #: at once, of one listener; up to as many more are told so, and further ones are closed
    connections: int = 1000
    #: of a request's address, and of all its headers
    url: int = 1 << 14
    head: int = 1 << 16
    #: from the first byte of a request, or the beginning of a connection, to the end of the headers
    head_time: float = 10.0
    #: from the end of the headers to the end of a JSON body
    body_time: float = 30.0
    #: between two pieces of an image that is sent or fetched
    idle_time: float = 60.0
    #: between two requests on one connection
    keep_alive: float = 5.0


#: logins from one address that may fail, and in how many seconds: a person's slips, and far from a list of passwords
ADDRESS_FAILURES, ADDRESS_WINDOW = 60, 600
#: more than clients ask, less than would keep others waiting
RATE_LIMIT = Rate(per_second=500, burst=10_000)


@dataclasses.dataclass(frozen=True, slots=True)
class Settings:
    """How this process runs. Times are in seconds."""

    state: Path
    #: what all control planes of a fleet have in common beside the database, or None where there is one: then it is in `state`
    shared: Path | None = None
    #: base of every address in answers and in the catalog, without a trailing slash
    public_url: str = "http://127.0.0.1:8774"
    #: where hosts of other machines dial in, or None where they cannot
    agents_url: str | None = None
    region: str = "RegionOne"
    #: who says whose a token is; None for Lamina itself
    keystone: Keystone | None = None
    #: rules of oslo.policy that replace the defaults
    policy_file: Path | None = None
    #: how long a token is good for
    token_life: float = 3600.0
    #: how many failed logins in a row lock a user out, and for how long after the last one
    login_failures: int = 10
    lockout: float = 300.0
    #: how many logins from one address may fail, whoever they name, in `ADDRESS_WINDOW`; None for as many as like
    address_failures: int | None = ADDRESS_FAILURES
    #: how many logins are checked or wait for it at once; a check takes 19 MiB and a processor for some 20 ms
    logins_at_once: int = 32
    #: how often each project may ask this process, in reads, and each address that shows no token; None for as often as it likes
    rate_limit: Rate | None = RATE_LIMIT
    #: how long a process may be silent before another takes over its operations
    lease: float = 6.0
    #: how long after the start of a process what is to be done on a host waits for the host to dial in here
    first_dial: float = 0.0
    #: how often hosts are asked for a report, and what is out of order is mended
    report_interval: float = 10.0
    #: how long what should not be on a host, or be paid for, is looked at before it is removed; it is seen twice at least
    orphan_grace: float = 60.0
    #: how long a resize waits for a person's word before it is confirmed; None for ever (Nova's resize_confirm_window)
    resize_confirm_window: float | None = None
    #: a host silent for longer than this is `down` (Nova's service_down_time)
    service_down: float = 60.0
    #: how many hosts are tried for one server before its creation ends in ERROR
    max_attempts: int = 3
    #: how servers are placed where their flavor has no policy of its own
    policy: PolicyName = PolicyName.SPREAD
    #: what is known against drivers of hosts, and what follows from it
    driver_trust: DriverTrust = dataclasses.field(default_factory=DriverTrust)
    #: largest JSON body, largest image, in bytes
    max_body: int = 1 << 20
    max_image: int = 1 << 40
    #: whether /metrics answers whoever reaches the port, and not only an administrator
    open_metrics: bool = False
    #: what a connection of a client may cost
    limits: Limits = Limits()

    @property
    def common(self) -> Path:
        """Where lies what every control plane of the fleet has to find."""
        return self.shared or self.state

    @property
    def images(self) -> Path:
        """Where image contents lie, one file an image."""
        return self.common / "images"

    @property
    def depot(self) -> Path:
        """Where disks lie on their way from one host to another, each under its server's id."""
        return self.common / "depot"
