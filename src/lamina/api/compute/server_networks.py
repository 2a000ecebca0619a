"""Networks of a server: which it asks for, its interfaces, and the addresses that nobody here knows."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import msgspec
import sqlalchemy as sa

from lamina.model import decoding, ids
from lamina.model.errors import BadRequest
from lamina.model.networks import Port, commonest
from lamina.store import hosts

#: most interfaces of one server; each takes a slot of its own on the machine's PCI bus
MOST_INTERFACES = 16


class Wanted(msgspec.Struct, forbid_unknown_fields=True):
    uuid: str | None = None
    port: str | None = None
    fixed_ip: str | None = None
    tag: str | None = None


def networks_asked_for(tx: sa.Connection, asked: str | list[dict[str, Any]] | None) -> tuple[str, ...]:
    """Names of the networks to give a server a port on. Raises `BadRequest` that names the field.

    ``none`` is none; ``auto``, or nothing said, is the network that most hosts have.
    """
    if asked == "none":
        return ()
    known = [host.networks for host in hosts.all_hosts(tx)]
    if asked in (None, "auto", []):
        network = commonest(known)
        return () if network is None else (network,)
    if isinstance(asked, str):
        raise BadRequest("networks: 'none', 'auto' or a list of networks by their id")
    if len(asked or ()) > MOST_INTERFACES:
        raise BadRequest(f"networks: {len(asked or ())} are more than {MOST_INTERFACES}")
    by_id = {ids.network_id(name): name for names in known for name in names}
    return tuple(_network(f"networks[{index}]", item, by_id) for index, item in enumerate(asked or ()))


def _network(where: str, item: dict[str, Any], by_id: dict[str, str]) -> str:
    try:
        wanted = decoding.from_plain(item, Wanted)
    except msgspec.ValidationError as error:
        raise BadRequest(f"{where}: {error}") from error
    if wanted.port:
        raise BadRequest(f"{where}.port: ports are made with their server here; name a network by its uuid instead")
    if wanted.fixed_ip:
        raise BadRequest(f"{where}.fixed_ip: addresses are handed out by the network itself, not here")
    if wanted.tag:
        raise BadRequest(f"{where}.tag: interfaces have no tags here")
    if not wanted.uuid:
        raise BadRequest(f"{where}.uuid: the id of a network is needed")
    name = by_id.get(ids.parse_uuid(wanted.uuid, f"{where}.uuid"))
    if name is None:
        raise BadRequest(f"{where}.uuid: Network {wanted.uuid} could not be found.")
    return name


def addresses(ports: Iterable[Port]) -> dict[str, list[Any]]:
    """Network name -> the addresses known on it, which are none (nova/api/openstack/compute/views/addresses.py)."""
    return {port.network: [] for port in ports}


def interface(port: Port, *, running: bool, tagged: bool) -> dict[str, Any]:
    """A port as ``os-interface`` shows it; `tagged` where the version has interfaces' tags, which are none here."""
    shown: dict[str, Any] = {
        "port_id": port.id,
        "net_id": port.network_id,
        "mac_addr": port.mac,
        "fixed_ips": [],
        "port_state": "ACTIVE" if running else "DOWN",
    }
    return shown | ({"tag": None} if tagged else {})
