"""This machine as a host: its compute service, or a sentence about what it lacks for that."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import structlog

from lamina.agent import closed, configuration
from lamina.agent.compute import ComputeService
from lamina.agent.depot import Depot
from lamina.agent.images import Images
from lamina.model.clock import Clock
from lamina.model.errors import BadRequest, HostError

log = structlog.get_logger()

_INSTEAD = "'lamina doctor --host' tells what is missing and what mends it; '--fleet demo' runs simulated hosts instead"


def this_machine(
    config: Path | None, state: Path, clock: Clock, images: Images, depot: Depot, *, host: str | None = None
) -> tuple[str, ComputeService]:
    """The name of this host and its compute service, with what a boot has lost brought back.

    `host` is the name where the settings have none; without it that is the machine's.

    Raises `BadRequest` without Python's binding of libvirt, and for settings that are wrong, `Conflict` where libvirt or the journal
    is open to other users.
    """
    if importlib.util.find_spec("libvirt") is None:
        raise BadRequest(f"Python's binding of libvirt is not installed here. {_INSTEAD}.")
    from lamina.agent.real_host import real_host

    known = configuration.load(config, host=host)
    if not known.open_libvirt_socket:
        closed.must_not_be_open_to_all()
    closed.must_be_closed(state)
    compute = real_host(known, state, clock, images, depot)
    for problem in compute.restore():
        log.warning("not brought back", why=problem)
    return known.host, compute


def must_serve(name: str, compute: ComputeService) -> None:
    """Raises `BadRequest` where this machine cannot run servers with vGPUs now."""
    try:
        report = compute.report()
    except HostError as error:
        raise BadRequest(f"This machine, {name}, cannot run servers: {error.message} {_INSTEAD}.") from error
    if not report.gpus:
        why = "".join(f" {problem}." for problem in report.problems)
        raise BadRequest(f"No GPU of this machine, {name}, makes vGPUs.{why} {_INSTEAD}.")
