"""A host whose compute service is a process of its own that dials in: the same calls, by way of its mailbox."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

from lamina.hosts.directory import Compute
from lamina.hosts.mailbox import Mailbox
from lamina.hosts.wire import METHODS
from lamina.model.errors import HostError
from lamina.model.hosts import DomainReport, DomainSpec, HostReport, Landing, VgpuReport

P = ParamSpec("P")
T = TypeVar("T")

#: seconds that an answer may take: of a look at the host, and of work there, which may be the download of an image or a disk
LOOK_TIMEOUT = 30.0
WORK_TIMEOUT = 3600.0


def _by_mail(
    method: Callable[Concatenate[Compute, P], T], timeout: float, *, looks: bool = False
) -> Callable[Concatenate[RemoteCompute, P], T]:
    """The method by mail. What only looks at the host does not wait for it to dial in first."""
    wire = METHODS[method.__name__]

    def ask(self: RemoteCompute, /, *values: P.args, **named: P.kwargs) -> T:
        first_dial = 0.0 if looks else self._first_dial
        result = self.mailbox.call(wire.name, wire.encode(*values, **named), timeout, first_dial)
        if result.failure is not None:
            raise result.failure.as_error()
        answer = wire.decode(result.answer)
        _must_be_its_own(self.mailbox.host, answer, values)
        return cast(T, answer)

    ask.__doc__ = method.__doc__
    return ask


def _must_be_its_own(host: str, answer: Any, asked: Sequence[Any]) -> None:
    """A host speaks for itself, and of what it was asked. Raises `HostError` for an answer about another host's things."""
    if isinstance(answer, HostReport | Landing) and answer.host != host:
        raise HostError(f"Host {host} answers as if it were host {answer.host[:80]!r}.")
    if isinstance(answer, tuple):  # where the vGPUs are that it was to make
        wanted = {(spec.uuid, spec.server_id) for specs in asked if isinstance(specs, list | tuple) for spec in specs}
        told = {(made.uuid, made.server_id) for made in answer if isinstance(made, VgpuReport)}
        if told != wanted:
            raise HostError(f"Host {host} was asked for {len(wanted)} vGPUs and tells of others.")
    if isinstance(answer, DomainReport):
        servers = {each.server_id if isinstance(each, DomainSpec) else each for each in asked if isinstance(each, DomainSpec | str)}
        if answer.server_id not in servers:
            raise HostError(f"Host {host} tells of another server's domain than it was asked for.")


class RemoteCompute:
    """Raises `HostUnreachable` where the host is silent, and besides what the host's own compute service raises."""

    def __init__(self, mailbox: Mailbox, first_dial: float = 0.0) -> None:
        self.mailbox = mailbox
        self._first_dial = first_dial

    report = _by_mail(Compute.report, LOOK_TIMEOUT, looks=True)
    ensure_vgpus = _by_mail(Compute.ensure_vgpus, WORK_TIMEOUT)
    release_vgpus = _by_mail(Compute.release_vgpus, WORK_TIMEOUT)
    ensure_domain = _by_mail(Compute.ensure_domain, WORK_TIMEOUT)
    set_power = _by_mail(Compute.set_power, WORK_TIMEOUT)
    suspend_domain = _by_mail(Compute.suspend_domain, WORK_TIMEOUT)
    resume_domain = _by_mail(Compute.resume_domain, WORK_TIMEOUT)
    fit_domain = _by_mail(Compute.fit_domain, WORK_TIMEOUT)
    remove_domain = _by_mail(Compute.remove_domain, WORK_TIMEOUT)
    renew_disk = _by_mail(Compute.renew_disk, WORK_TIMEOUT)
    send_disk = _by_mail(Compute.send_disk, WORK_TIMEOUT)
    take_disk = _by_mail(Compute.take_disk, WORK_TIMEOUT)
    expect_domain = _by_mail(Compute.expect_domain, WORK_TIMEOUT)
    send_domain = _by_mail(Compute.send_domain, WORK_TIMEOUT)
    transfer = _by_mail(Compute.transfer, LOOK_TIMEOUT)
    stop_transfer = _by_mail(Compute.stop_transfer, WORK_TIMEOUT)
    console_output = _by_mail(Compute.console_output, LOOK_TIMEOUT, looks=True)
    console = _by_mail(Compute.console, LOOK_TIMEOUT, looks=True)
