"""What a caller may say to make a server, and what becomes of it (Compute API reference, "Create Server")."""

from __future__ import annotations

import base64
import binascii
import dataclasses
import re
import secrets
from typing import Any

import msgspec
import sqlalchemy as sa

from lamina.api.compute.answers import as_bool, read
from lamina.api.compute.scheduler_hints import Hints, group_of, wait_of
from lamina.api.compute.server_networks import networks_asked_for
from lamina.api.routing import Request, Version
from lamina.model import ids
from lamina.model.errors import BadRequest, Forbidden, NotFound
from lamina.model.flavors import Flavor
from lamina.operations.create import NewServer
from lamina.store import flavors, hosts, images, keypairs

NETWORKS_BY_WORD = Version(2, 37)
TAGS = Version(2, 52)
DESCRIPTION = Version(2, 19)
NAMED_HOST = Version(2, 74)
HOSTNAME = Version(2, 90)

#: limits as Nova's defaults have them
MOST_SERVERS = 1000
MOST_METADATA = 128
MOST_TAGS = 50
MOST_USER_DATA = 65535
_HOSTNAME = re.compile(r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?")


class Body(msgspec.Struct, forbid_unknown_fields=True):
    name: str
    flavor: str | int = msgspec.field(name="flavorRef")
    image: str = msgspec.field(default="", name="imageRef")
    networks: str | list[dict[str, Any]] | None = None
    zone: str | None = msgspec.field(default=None, name="availability_zone")
    host: str | None = None
    hypervisor_hostname: str | None = None
    hostname: str | None = None
    description: str | None = None
    key_name: str | None = None
    user_data: str | None = None
    config_drive: bool | str = False
    metadata: dict[str, str] = {}
    tags: list[str] = []
    min_count: int | str = 1
    max_count: int | str | None = None
    return_reservation_id: bool | str = False
    admin_pass: str | None = msgspec.field(default=None, name="adminPass")
    security_groups: list[dict[str, str]] = []
    disk_config: str | None = msgspec.field(default=None, name="OS-DCF:diskConfig")
    block_device_mapping_v2: list[dict[str, Any]] = []
    personality: list[dict[str, str]] = []
    access_ipv4: str | None = msgspec.field(default=None, name="accessIPv4")
    access_ipv6: str | None = msgspec.field(default=None, name="accessIPv6")
    trusted_image_certificates: list[str] | None = None


class CreateBody(msgspec.Struct, forbid_unknown_fields=True):
    server: Body
    hints: Hints | None = msgspec.field(default=None, name="os:scheduler_hints")
    hints_of_old: Hints | None = msgspec.field(default=None, name="OS-SCH-HNT:scheduler_hints")


def name_of(text: str, what: str = "name") -> str:
    """A display name: 1 to 255 printable characters, not blank. Raises `BadRequest`."""
    stripped = text.strip()
    if not 1 <= len(stripped) <= 255 or not stripped.isprintable():
        raise BadRequest(f"{what}: 1 to 255 printable characters are needed")
    return stripped


def description_of(text: str | None) -> str | None:
    if text is not None and (len(text) > 255 or not all(c.isprintable() or c.isspace() for c in text)):
        raise BadRequest("description: at most 255 printable characters")
    return text


def hostname_of(text: str) -> str:
    if not _HOSTNAME.fullmatch(text):
        raise BadRequest("hostname: 1 to 63 letters, digits and dashes, beginning and ending with a letter or digit")
    return text


def metadata_of(items: dict[str, str]) -> dict[str, str]:
    """Checked metadata. Raises `BadRequest`, and `Forbidden` for more than fit."""
    for key, value in items.items():
        if not re.fullmatch(r"[a-zA-Z0-9_:. -]{1,255}", key):
            raise BadRequest(f"metadata: {key[:80]!r} is not a key: 1 to 255 of letters, digits, '_', ':', '.', '-' and space")
        if len(value) > 255:
            raise BadRequest(f"metadata: the value of {key} is longer than 255 characters")
    if len(items) > MOST_METADATA:
        raise Forbidden(f"Maximum number of metadata items exceeds {MOST_METADATA}")
    return items


def tags_of(tags: list[str]) -> tuple[str, ...]:
    """Checked tags, each once. Raises `BadRequest`."""
    for tag in tags:
        if not 1 <= len(tag) <= 60 or "," in tag or "/" in tag or not tag.isprintable():
            raise BadRequest(f"tags: {tag[:80]!r} is not a tag: 1 to 60 printable characters without ',' and '/'")
    if len(tags) > MOST_TAGS:
        raise BadRequest(f"tags: {len(tags)} are more than {MOST_TAGS}")
    return tuple(dict.fromkeys(tags))


def count_of(value: int | str, what: str) -> int:
    text = str(value)
    if isinstance(value, bool) or not re.fullmatch(r"[0-9]{1,9}", text) or not 1 <= int(text) <= MOST_SERVERS:
        raise BadRequest(f"{what}: {text[:80]!r} is not a whole number from 1 to {MOST_SERVERS}")
    return int(text)


def must_be_manual_or_auto(disk_config: str | None) -> None:
    """Both mean the same here: a disk's partitions are the guest's own. Raises `BadRequest` for any other word."""
    if disk_config not in (None, "AUTO", "MANUAL"):
        raise BadRequest("OS-DCF:diskConfig: either 'AUTO' or 'MANUAL'")


def must_be_no_address(address: str | None, what: str) -> None:
    """Raises `BadRequest` rather than forget an address that the caller wants kept."""
    if address:
        raise BadRequest(f"{what}: servers have no addresses here")


def find_flavor(tx: sa.Connection, request: Request, reference: str | int) -> Flavor:
    """The flavor a caller refers to, by its id or by a link that ends with it. Raises `BadRequest`."""
    flavor_id = str(reference).rstrip("/").rsplit("/", 1)[-1]
    project_id = None if request.context.is_admin else request.context.project_id or ""
    try:
        return flavors.get(tx, flavor_id, project_id=project_id)
    except NotFound:
        raise BadRequest(f"flavorRef: Flavor {flavor_id[:80]} could not be found.") from None


@dataclasses.dataclass(frozen=True, slots=True)
class Asked:
    """The servers asked for, and what the answer is to tell of them."""

    new: NewServer
    by_reservation: bool
    admin_pass: str


def new_server(request: Request) -> Asked:
    """What the body of a creation asks for. Raises `BadRequest`, `Forbidden`."""
    parsed = read(request, CreateBody)
    body = parsed.server
    _must_be_served(request, body)
    hints = parsed.hints or parsed.hints_of_old or Hints()
    least = count_of(body.min_count, "min_count")
    most = count_of(body.max_count, "max_count") if body.max_count is not None else least
    if most < least:
        raise BadRequest("min_count must be <= max_count")
    with request.plane.db.read() as tx:
        flavor = find_flavor(tx, request, body.flavor)
        image_id = _image(tx, request, body, flavor)
        zone, host = _place(tx, request, body)
        networks = networks_asked_for(tx, body.networks)
        group_id = group_of(tx, request, hints)
        public_key = public_key_of(tx, request, body.key_name) if body.key_name is not None else None
    if body.hostname is not None and most > 1:
        raise BadRequest("hostname: one host name does not serve several servers")
    new = NewServer(
        name=name_of(body.name),
        flavor=flavor,
        image_id=image_id,
        count=most,
        zone=zone,
        host=host,
        hostname=hostname_of(body.hostname) if body.hostname is not None else None,
        description=description_of(body.description),
        key_name=body.key_name,
        public_key=public_key,
        user_data=user_data_of(body.user_data),
        config_drive=as_bool(body.config_drive, "config_drive"),
        metadata=metadata_of(body.metadata),
        tags=tags_of(body.tags),
        networks=networks,
        group_id=group_id,
        wait=wait_of(hints),
    )
    return Asked(new, as_bool(body.return_reservation_id, "return_reservation_id"), body.admin_pass or secrets.token_urlsafe(12))


def _must_be_served(request: Request, body: Body) -> None:
    """Refuse what this version of the API does not have, and what Lamina does not do. Raises `BadRequest`."""
    for value, since, what in (
        (body.description, DESCRIPTION, "description"),
        (body.tags or None, TAGS, "tags"),
        (body.host, NAMED_HOST, "host"),
        (body.hypervisor_hostname, NAMED_HOST, "hypervisor_hostname"),
        (body.hostname, HOSTNAME, "hostname"),
    ):
        if value is not None and request.version < since:
            raise BadRequest(f"{what}: servers have it from version {since} on")
    if request.version >= NETWORKS_BY_WORD and body.networks is None:
        raise BadRequest(f"networks: say 'none', 'auto' or which ones from version {NETWORKS_BY_WORD} on")
    must_be_manual_or_auto(body.disk_config)
    must_be_no_address(body.access_ipv4, "accessIPv4")
    must_be_no_address(body.access_ipv6, "accessIPv6")
    if body.trusted_image_certificates:
        raise BadRequest("trusted_image_certificates: signatures of images are not checked here")
    if body.personality:
        raise BadRequest("personality: files cannot be put into a server; use user_data")
    if any(set(group) != {"name"} or group["name"] != "default" for group in body.security_groups):
        raise BadRequest("security_groups: there is only the group 'default'")


def _image(tx: sa.Connection, request: Request, body: Body, flavor: Flavor) -> str:
    """The id of the image a server boots from. Raises `BadRequest`."""
    reference = body.image.rstrip("/").rsplit("/", 1)[-1]
    for device in body.block_device_mapping_v2:
        boots_from_image = (device.get("source_type"), device.get("destination_type", "local")) == ("image", "local")
        if not boots_from_image or len(body.block_device_mapping_v2) > 1 or str(device.get("boot_index", 0)) != "0":
            raise BadRequest("block_device_mapping_v2: servers boot from one image onto a local disk; there are no volumes here")
        reference = reference or str(device.get("uuid", ""))
    return find_image(tx, request, reference, flavor)


def find_image(tx: sa.Connection, request: Request, reference: str, flavor: Flavor) -> str:
    """The id of an image that a server of this flavor can boot from, given by its id or a link. Raises `BadRequest`."""
    reference = reference.rstrip("/").rsplit("/", 1)[-1]
    if not reference:
        raise BadRequest("imageRef: an image to boot from is needed")
    if not ids.is_uuid(reference):
        raise BadRequest(f"imageRef: {reference[:80]!r} is not the id of an image")
    project_id = None if request.context.is_admin else request.context.project_id or ""
    try:
        image = images.get(tx, ids.parse_uuid(reference), project_id=project_id)
    except NotFound:
        raise BadRequest(f"imageRef: Image {reference} could not be found.") from None
    if image.status != "active":
        raise BadRequest(f"imageRef: Image {reference} is {image.status}, not active.")
    if flavor.disk_gb and image.min_disk_gb > flavor.disk_gb:
        raise BadRequest("Flavor's disk is too small for requested image.")
    if image.min_memory_mb > flavor.memory_mb:
        raise BadRequest("Flavor's memory is too small for requested image.")
    return image.id


def _place(tx: sa.Connection, request: Request, body: Body) -> tuple[str | None, str | None]:
    """(availability zone, host) asked for, the host by an administrator only. Raises `BadRequest`, `Forbidden`."""
    zone, *named = (body.zone or "").split(":")
    names = {name for name in (body.host, body.hypervisor_hostname, *named) if name}
    if len(named) > 2 or len(names) > 1:
        raise BadRequest("availability_zone, host, hypervisor_hostname: they name one host, whose hypervisor has its name")
    host = next(iter(names), None)
    if host is not None:
        if not request.context.is_admin:
            raise Forbidden("Policy doesn't allow os_compute_api:servers:create:forced_host to be performed.")
        if hosts.find_host(tx, host) is None:
            raise BadRequest(f"host: Compute host {host[:80]} could not be found.")
    if zone and zone not in {h.zone for h in hosts.all_hosts(tx)}:
        raise BadRequest(f"availability_zone: The requested availability zone is not available: {zone[:80]}")
    return zone or None, host


def public_key_of(tx: sa.Connection, request: Request, name: str) -> str:
    """The server keeps it: a keypair may be deleted while servers were made with it. Raises `BadRequest`."""
    try:
        return keypairs.get(tx, request.context.user_id, name).public_key
    except NotFound:
        raise BadRequest(f"key_name: Keypair {name[:80]!r} could not be found.") from None


def user_data_of(text: str | None) -> str | None:
    if text is None:
        return None
    if len(text) > MOST_USER_DATA:
        raise BadRequest(f"user_data: longer than {MOST_USER_DATA} characters")
    try:
        base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise BadRequest("user_data: it is not Base64") from None
    return text
