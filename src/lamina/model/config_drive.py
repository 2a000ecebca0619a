"""The config drive: how a server learns who it is, whose keys it takes and what it is to run. Pure.

There is no metadata service here, so this drive is the only way. The paths and names are OpenStack's (Nova, "Metadata",
"Config drives"; nova/api/metadata/base.py). cloud-init reads the newest dated folder that it knows, which is
2018-08-27 (cloudinit/sources/helpers/openstack.py), cloudbase-init reads ``latest``; so both are there and alike.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from typing import Any

from lamina.model.networks import Port
from lamina.model.servers import Server

FOLDERS = ("openstack/2018-08-27", "openstack/latest")


def needed(server: Server) -> bool:
    """Whether the server gets the drive: it was asked for, or there is something that it could not learn otherwise."""
    return server.config_drive or server.user_data is not None or server.public_key is not None


def files(server: Server, ports: Sequence[Port]) -> dict[str, bytes]:
    """Path -> content. The same server and ports give the same bytes, so that a domain defined again is the same."""
    found: dict[str, bytes] = {"ec2/latest/meta-data.json": _json(_ec2(server))}
    if server.user_data is not None:
        found["ec2/latest/user-data"] = base64.b64decode(server.user_data)
    for folder in FOLDERS:
        found[f"{folder}/meta_data.json"] = _json(_meta_data(server))
        found[f"{folder}/network_data.json"] = _json(network_data(ports))
        if server.user_data is not None:
            found[f"{folder}/user_data"] = base64.b64decode(server.user_data)
    return found


def _json(value: Any) -> bytes:
    return json.dumps(value, sort_keys=True).encode()


def _meta_data(server: Server) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "uuid": server.id,
        "name": server.name,
        "hostname": server.hostname,
        "project_id": server.project_id,
        "availability_zone": server.zone,
        "launch_index": 0,
        "meta": server.metadata,
        "devices": [],
    }
    if server.key_name is not None and server.public_key is not None:
        shown["public_keys"] = {server.key_name: server.public_key}
        shown["keys"] = [{"name": server.key_name, "type": "ssh", "data": server.public_key}]
    return shown


def _ec2(server: Server) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "instance-id": server.id,
        "hostname": server.hostname,
        "local-hostname": server.hostname,
        "ami-launch-index": 0,
        "reservation-id": server.reservation_id,
        "instance-type": server.flavor.name,
        "placement": {"availability-zone": server.zone},
    }
    if server.key_name is not None and server.public_key is not None:
        shown["public-keys"] = {"0": {"openssh-key": server.public_key, "_name": f"0={server.key_name}"}}
    return shown


def network_data(ports: Sequence[Port]) -> dict[str, Any]:
    """Links with their MAC addresses; on each the guest asks by DHCP for the addresses that Lamina does not know."""
    links = [
        {"id": f"tap{port.id[:11]}", "vif_id": port.id, "type": "bridge", "mtu": None, "ethernet_mac_address": port.mac} for port in ports
    ]
    networks = [
        {"id": f"network{port.position}", "type": "ipv4_dhcp", "link": link["id"], "network_id": port.network_id}
        for port, link in zip(ports, links, strict=True)
    ]
    return {"links": links, "networks": networks, "services": []}
