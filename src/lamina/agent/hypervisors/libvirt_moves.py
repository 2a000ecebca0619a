"""Moves of running domains to other hosts' libvirt: each in a thread of its own, which this host's libvirt outlives.

Source: libvirt, "Guest migration". The two daemons settle between them where the domain runs (peer to peer): it is on there only
once all of it has arrived, and here it is then shut off, defined still, and with its disk, until it is removed.
"""

from __future__ import annotations

import ipaddress
import threading
import time
from collections.abc import Callable
from typing import Any

import libvirt
import structlog

from lamina.agent.hypervisors import domain_xml
from lamina.agent.hypervisors.libvirt_connection import Connection
from lamina.model import ids
from lamina.model.errors import BadRequest, HypervisorError, LaminaError
from lamina.model.hosts import Landing, PowerState, Transfer

log = structlog.get_logger()

#: seconds that a move may take, and that libvirt has to end one
MOVE = 86400.0
END = 60.0
_LOOK = 0.2


class Moves:
    """Thread-safe. ``transport`` is how this host's libvirt reaches others: ``tls`` or ``tcp``."""

    def __init__(self, connection: Connection, transport: str) -> None:
        self._connection = connection
        self._transport = transport
        self._threads: dict[str, threading.Thread] = {}
        #: why the last move of a domain came to nothing
        self._why: dict[str, str] = {}
        self._lock = threading.Lock()

    def begin(self, server_id: str, domain: Any, landing: Landing) -> None:
        """Nothing where the domain is on its way already. Raises `HypervisorError`."""
        if self._runs(server_id, domain):
            return
        uri = f"qemu+{self._transport}://{_host_of(landing.address)}/system"

        def describe(_: Any) -> tuple[str, str]:
            return domain.XMLDesc(libvirt.VIR_DOMAIN_XML_MIGRATABLE), domain.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE)

        live, kept = self._connection.ask("describe a domain", describe)
        disks = domain_xml.own_disks(live)
        params: dict[str, Any] = {
            libvirt.VIR_MIGRATE_PARAM_DEST_XML: domain_xml.moved(live, landing.definition),
            libvirt.VIR_MIGRATE_PARAM_PERSIST_XML: domain_xml.moved(kept, landing.definition),
        }
        flags = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PEER2PEER | libvirt.VIR_MIGRATE_PERSIST_DEST
        if disks:
            flags |= libvirt.VIR_MIGRATE_NON_SHARED_DISK
            params[libvirt.VIR_MIGRATE_PARAM_MIGRATE_DISKS] = disks
        if self._transport == "tls":
            flags |= libvirt.VIR_MIGRATE_TLS

        def move() -> None:
            try:
                self._connection.ask("move a domain", lambda _: domain.migrateToURI3(uri, params, flags), MOVE)
            except LaminaError as error:
                log.info("domain stays", server=server_id, why=error.message)
                self._why[server_id] = error.message

        with self._lock:
            if server_id not in self._threads or not self._threads[server_id].is_alive():
                self._why.pop(server_id, None)
                self._threads[server_id] = threading.Thread(target=move, name="move", daemon=True)
                self._threads[server_id].start()

    def _runs(self, server_id: str, domain: Any) -> bool:
        """Also one that this process's predecessor began."""
        thread = self._threads.get(server_id)
        return (thread is not None and thread.is_alive()) or bool(self._figures(domain))

    def _figures(self, domain: Any) -> dict[str, Any]:
        """What libvirt tells of the job that the domain is in; nothing where it is in none."""

        def ask(_: Any) -> dict[str, Any]:
            try:
                told: dict[str, Any] = domain.jobStats()
            except libvirt.libvirtError as error:
                if error.get_error_code() in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_OPERATION_INVALID):
                    return {}
                raise
            return told if told.get("type", libvirt.VIR_DOMAIN_JOB_NONE) != libvirt.VIR_DOMAIN_JOB_NONE else {}

        return self._connection.ask("tell of a domain's job", ask)

    def look(self, server_id: str, domain: Any, power: Callable[[], PowerState]) -> Transfer:
        """The power state is asked for last: once no move runs, it stays what it is."""
        thread = self._threads.get(server_id)
        alive, told = thread is not None and thread.is_alive(), self._figures(domain)
        figures = {name: int(told.get(name, 0)) for name in _FIGURES}
        return Transfer(alive or bool(told), power(), self._why.get(server_id), **figures)

    def stop(self, server_id: str, domain: Any) -> None:
        """Raises `HypervisorError` where libvirt does not end it."""

        def abort(_: Any) -> None:
            try:
                domain.abortJob()
            except libvirt.libvirtError as error:
                if error.get_error_code() != libvirt.VIR_ERR_OPERATION_INVALID:  # there is none
                    raise

        end = time.monotonic() + END
        while self._runs(server_id, domain):
            if time.monotonic() >= end:
                raise HypervisorError(f"libvirt does not end the move of server {server_id}.")
            self._connection.ask("end a domain's move", abort)
            time.sleep(_LOOK)


_FIGURES = tuple(f"{what}_{figure}" for what in ("memory", "disk") for figure in ("total", "processed", "remaining"))


def _host_of(address: str) -> str:
    """A name or an address, as a URI has it: what comes from another host says nothing else to this host's libvirt."""
    try:
        return f"[{address}]" if ipaddress.ip_address(address).version == 6 else address
    except ValueError:
        pass
    try:
        return ids.parse_host_name(address)
    except BadRequest as error:
        raise HypervisorError(f"The host to move to is at no address that there is: {error.message}") from error
