"""Which versions of NVIDIA's Virtual GPU Manager, the driver of a host that makes vGPUs, have known vulnerabilities. Pure.

Lamina cannot mend them; it can say where they are, and place nothing new there. Versions are compared as numbers, branch by branch.
The facts and their sources are in ``driver_advisories.toml``; an operator may give a newer file of the same form.
"""

from __future__ import annotations

import dataclasses
import functools
import re
import tomllib
from collections.abc import Iterable, Iterator
from importlib import resources as package
from typing import Annotated, Literal

import msgspec

from lamina.model import decoding
from lamina.model.errors import BadRequest
from lamina.model.gpus import Gpu

#: the kernel module
NVIDIA_DRIVER = "nvidia"
#: two to four decimal numbers with dots between them
VERSION = r"[0-9]{1,5}(\.[0-9]{1,5}){1,3}"
_VERSION = re.compile(VERSION)


@dataclasses.dataclass(frozen=True, slots=True, order=True)
class DriverVersion:
    """``535.104.05`` is after ``535.54.03`` and before ``535.104.06``."""

    numbers: tuple[int, ...]
    #: as it was written
    text: str = dataclasses.field(compare=False)

    @classmethod
    def parse(cls, text: str) -> DriverVersion:
        """Two to four decimal numbers with dots between them. Raises `BadRequest` on anything else."""
        if not text.isascii() or not _VERSION.fullmatch(text):
            raise BadRequest(f"{text[:40]!r} is not a version of a driver: it looks like 535.104.05")
        return cls(tuple(int(number) for number in text.split(".")), text)

    @property
    def branch(self) -> int:
        return self.numbers[0]

    def __str__(self) -> str:
        return self.text


@dataclasses.dataclass(frozen=True, slots=True)
class Advisory:
    """What one bulletin says of one branch: affected is what is before `fixed_in`, or up to `through`; one of the two is there."""

    bulletin: str
    cves: tuple[str, ...]
    branch: int
    fixed_in: DriverVersion | None
    through: DriverVersion | None
    severity: str
    #: year, month and day on which NVIDIA published it or last changed it
    date: str
    source: str

    def affects(self, version: DriverVersion) -> bool:
        if version.branch != self.branch:
            return False
        if self.fixed_in is not None:
            return version < self.fixed_in
        return self.through is not None and version <= self.through


_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=200)]


class _Bulletin(msgspec.Struct, forbid_unknown_fields=True):
    date: Annotated[str, msgspec.Meta(pattern=r"\A[0-9]{4}-[0-9]{2}-[0-9]{2}\Z")]
    severity: Literal["low", "medium", "high", "critical"]
    cves: list[Annotated[str, msgspec.Meta(pattern=r"\ACVE-[0-9]{4}-[0-9]{4,7}\Z")]]
    source: _Text
    fixed_in: dict[str, str] = {}
    affected_through: dict[str, str] = {}


def parse(text: str, named: str) -> tuple[Advisory, ...]:
    """A file's advisories, the newest first. Raises `BadRequest` that names the file and what is wrong in it."""
    try:
        bulletins = decoding.from_plain(tomllib.loads(text), dict[str, _Bulletin])
        found = [advisory for name, bulletin in bulletins.items() for advisory in _advisories(name, bulletin)]
    except (tomllib.TOMLDecodeError, RecursionError, msgspec.ValidationError) as error:
        raise BadRequest(f"{named}: {error}") from error
    except BadRequest as error:
        raise BadRequest(f"{named}: {error.message}") from error
    return tuple(sorted(found, key=lambda a: (a.date, a.bulletin, a.branch), reverse=True))


def _advisories(name: str, bulletin: _Bulletin) -> Iterator[Advisory]:
    if not bulletin.cves or not (bulletin.fixed_in or bulletin.affected_through):
        raise BadRequest(f"bulletin {name} has no CVE, or names no version")
    if bulletin.fixed_in.keys() & bulletin.affected_through.keys():
        raise BadRequest(f"bulletin {name} says two things of one branch")
    for fixed, versions in ((True, bulletin.fixed_in), (False, bulletin.affected_through)):
        for branch, said in versions.items():
            version = DriverVersion.parse(said)
            if branch != str(version.branch):
                raise BadRequest(f"bulletin {name}: {said} is not of branch {branch[:40]}")
            yield Advisory(
                bulletin=name,
                cves=tuple(bulletin.cves),
                branch=version.branch,
                fixed_in=version if fixed else None,
                through=None if fixed else version,
                severity=bulletin.severity,
                date=bulletin.date,
                source=bulletin.source,
            )


@functools.cache
def shipped() -> tuple[Advisory, ...]:
    """Those that come along."""
    text = package.files("lamina.model").joinpath("driver_advisories.toml").read_text(encoding="utf-8")
    return parse(text, "driver_advisories.toml")


@dataclasses.dataclass(frozen=True, slots=True)
class DriverTrust:
    """What is known of drivers, and whether hosts with a vulnerable one are given new vGPUs."""

    advisories: tuple[Advisory, ...] = dataclasses.field(default_factory=shipped)
    refuse: bool = False

    def against(self, version: str | None) -> tuple[Advisory, ...]:
        """What there is against a driver, the newest first; nothing against one of which nobody tells the version, or not as a version."""
        if version is None:
            return ()
        try:
            parsed = DriverVersion.parse(version)
        except BadRequest:
            return ()
        return tuple(advisory for advisory in self.advisories if advisory.affects(parsed))

    def problem(self, gpus: Iterable[Gpu]) -> str | None:
        """A sentence about the driver of a host with these GPUs, or None where there is nothing against it."""
        return self.told(driver_of(gpus))

    def told(self, version: str | None) -> str | None:
        """The same of one version."""
        found = self.against(version)
        return _sentence(version, found) if version is not None and found else None


def driver_of(gpus: Iterable[Gpu]) -> str | None:
    """The version of NVIDIA's driver on a host with these GPUs: one kernel has one. None where none tells of it."""
    return next((gpu.driver_version for gpu in gpus if gpu.driver == NVIDIA_DRIVER and gpu.driver_version is not None), None)


def _sentence(version: str, found: tuple[Advisory, ...]) -> str:
    cves = sorted({cve for advisory in found for cve in advisory.cves})
    newest = found[0]
    mend = f"{newest.fixed_in} has the updates" if newest.fixed_in is not None else f"a version after {newest.through} has the updates"
    named = ", ".join(cves[:3]) + (f" and {len(cves) - 3} more" if len(cves) > 3 else "")
    return f"its NVIDIA driver {version} has {len(cves)} known vulnerabilities ({named}): {mend}"
