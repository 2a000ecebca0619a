"""A host whose compute service is a process of its own that dials in: the same calls, by way of its mailbox."""

from __future__ import annotations

from collections.abc import Callable
from typing import Concatenate, ParamSpec, TypeVar, cast

from lamina.hosts.directory import Compute
from lamina.hosts.mailbox import Mailbox
from lamina.hosts.wire import METHODS

P = ParamSpec("P")
T = TypeVar("T")

#: seconds that an answer may take: of a look at the host, and of work there, which may be the download of an image or a disk
LOOK_TIMEOUT = 30.0
WORK_TIMEOUT = 3600.0


def _by_mail(method: Callable[Concatenate[Compute, P], T], timeout: float) -> Callable[Concatenate[RemoteCompute, P], T]:
    wire = METHODS[method.__name__]

    def ask(self: RemoteCompute, /, *values: P.args, **named: P.kwargs) -> T:
        result = self.mailbox.call(wire.name, wire.encode(*values, **named), timeout)
        if result.failure is not None:
            raise result.failure.as_error()
        return cast(T, wire.decode(result.answer))

    ask.__doc__ = method.__doc__
    return ask


class RemoteCompute:
    """Raises `HostUnreachable` where the host is silent, and besides what the host's own compute service raises."""

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox = mailbox

    report = _by_mail(Compute.report, LOOK_TIMEOUT)
    ensure_vgpus = _by_mail(Compute.ensure_vgpus, WORK_TIMEOUT)
    release_vgpus = _by_mail(Compute.release_vgpus, WORK_TIMEOUT)
    ensure_domain = _by_mail(Compute.ensure_domain, WORK_TIMEOUT)
    set_power = _by_mail(Compute.set_power, WORK_TIMEOUT)
    remove_domain = _by_mail(Compute.remove_domain, WORK_TIMEOUT)
    send_disk = _by_mail(Compute.send_disk, WORK_TIMEOUT)
    take_disk = _by_mail(Compute.take_disk, WORK_TIMEOUT)
    console_output = _by_mail(Compute.console_output, LOOK_TIMEOUT)
    console = _by_mail(Compute.console, LOOK_TIMEOUT)
