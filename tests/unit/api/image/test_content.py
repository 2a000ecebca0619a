"""Contents of images: what is taken, what is refused, and that files and rows never get out of step."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from lamina.model.errors import BadRequest
from lamina.operations import image_contents as content
from lamina.operations.control_plane import ControlPlane
from lamina.store import images

IMAGES = "/image/v2/images"
OCTETS = {"Content-Type": "application/octet-stream"}
Headers = Callable[..., dict[str, str]]

_QCOW2 = b"QFI\xfb"
_BACKING, _DATA_FILE = 1, 4


def qcow2(*, disk: int = 1 << 20, backing: bytes = b"", incompatible: int = 0, version: int = 3) -> bytes:
    """A QCOW2 header (QEMU, docs/interop/qcow2.txt) followed by zeros."""
    offset = 112 if backing else 0
    until_size = struct.pack(">4sIQIIQ", _QCOW2, version, offset, len(backing), 16, disk)
    header = until_size + bytes(40) + struct.pack(">QQQII", incompatible, 0, 0, 4, 112)
    return header.ljust(112, b"\0") + backing.ljust(1024, b"\0") + bytes(64 * 1024)


def queued(client: TestClient, headers: dict[str, str], **facts: Any) -> str:
    answer = client.post(IMAGES, headers=headers, json={"disk_format": "raw", "container_format": "bare"} | facts)
    assert answer.status_code == 201, answer.text
    image_id: str = answer.json()["id"]
    return image_id


def files(cloud: ControlPlane) -> set[str]:
    return {path.name for path in cloud.settings.images.iterdir()}


def test_content_is_kept_with_its_digests(cloud: ControlPlane, client: TestClient, headers: Headers) -> None:
    demo = headers("demo")
    image_id = queued(client, demo)
    data = bytes(range(256)) * 5000
    assert client.get(f"{IMAGES}/{image_id}/file", headers=demo).status_code == 204
    assert client.put(f"{IMAGES}/{image_id}/file", headers=demo | OCTETS, content=data).status_code == 204
    image = client.get(f"{IMAGES}/{image_id}", headers=demo).json()
    assert (image["status"], image["size"], image["virtual_size"]) == ("active", len(data), len(data))
    assert image["checksum"] == hashlib.md5(data, usedforsecurity=False).hexdigest()
    assert (image["os_hash_algo"], image["os_hash_value"]) == ("sha512", hashlib.sha512(data).hexdigest())
    back = client.get(f"{IMAGES}/{image_id}/file", headers=demo)
    assert back.content == data
    assert back.headers["Content-MD5"] == image["checksum"]
    assert back.headers["Content-Type"] == "application/octet-stream"
    assert files(cloud) == {image_id}
    assert client.delete(f"{IMAGES}/{image_id}", headers=demo).status_code == 204
    assert files(cloud) == set()


def test_a_qcow2_knows_its_disk(client: TestClient, headers: Headers) -> None:
    demo = headers("demo")
    image_id = queued(client, demo, disk_format="qcow2")
    data = qcow2(disk=7 << 30)
    assert client.put(f"{IMAGES}/{image_id}/file", headers=demo | OCTETS, content=data).status_code == 204
    image = client.get(f"{IMAGES}/{image_id}", headers=demo).json()
    assert (image["size"], image["virtual_size"]) == (len(data), 7 << 30)


@pytest.mark.parametrize(
    ("declared", "data", "why"),
    [
        ("qcow2", qcow2(backing=b"/etc/shadow"), "backing"),
        ("qcow2", qcow2(incompatible=_DATA_FILE), "data_file"),
        ("qcow2", qcow2(incompatible=1 << 40), "features"),
        ("qcow2", qcow2(version=9), "features"),
        ("qcow2", qcow2(disk=2**64 - 1), "bytes"),
        ("qcow2", qcow2()[:40], "qcow2"),
        ("qcow2", b"x" * 100_000, "raw"),
        ("qcow2", b"", "raw"),
        ("raw", qcow2(), "qcow2"),
        ("raw", qcow2(backing=b"/etc/shadow"), "qcow2"),
        ("vmdk", b"# Disk DescriptorFile\n" + b"x" * 1000, "vmdk"),
        ("vmdk", b"KDMV" + b"\xff" * 100_000, "vmdk"),
        ("vdi", b"x" * 1000, "raw"),
        ("iso", qcow2(), "qcow2"),
    ],
)
def test_what_is_not_as_declared_or_not_safe_is_refused(
    cloud: ControlPlane, client: TestClient, headers: Headers, declared: str, data: bytes, why: str
) -> None:
    demo = headers("demo")
    image_id = queued(client, demo, disk_format=declared)
    answer = client.put(f"{IMAGES}/{image_id}/file", headers=demo | OCTETS, content=data)
    assert answer.status_code == 400, answer.text
    assert why in answer.json()["message"]
    assert files(cloud) == set()
    image = client.get(f"{IMAGES}/{image_id}", headers=demo).json()
    assert (image["status"], image["size"], image["checksum"]) == ("queued", None, None)


def test_a_partitioned_disk_is_raw(tmp_path: Path) -> None:
    entry = struct.pack("<B3sB3sII", 0x80, b"\0\2\0", 0x83, b"\0\0\0", 2048, 4096)
    disk = tmp_path / "disk"
    disk.write_bytes(bytes(446) + entry + bytes(48) + b"\x55\xaa" + bytes(512 * 4096))
    assert content.inspect(disk, "raw").virtual_size == disk.stat().st_size
    with pytest.raises(BadRequest, match="found to be gpt"):
        content.inspect(disk, "qcow2")


def test_content_is_given_once(cloud: ControlPlane, client: TestClient, headers: Headers) -> None:
    demo = headers("demo")
    image_id = queued(client, demo)
    path = f"{IMAGES}/{image_id}/file"
    assert client.put(path, headers=demo | OCTETS, content=b"first").status_code == 204
    assert client.put(path, headers=demo | OCTETS, content=b"second").status_code == 409
    assert client.get(path, headers=demo).content == b"first"
    assert files(cloud) == {image_id}
    change = [{"op": "replace", "path": "/disk_format", "value": "qcow2"}]
    sent = demo | {"Content-Type": "application/openstack-images-v2.1-json-patch"}
    assert client.patch(f"{IMAGES}/{image_id}", headers=sent, json=change).status_code == 403


def test_who_is_second_with_content_leaves_the_first_alone(
    cloud: ControlPlane, client: TestClient, headers: Headers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both saw the image queued; the other came to its end while this one was still being looked into."""
    demo = headers("demo")
    image_id = queued(client, demo)
    inspect = content.inspect

    def overtaken(path: Path, declared: str) -> content.Facts:
        monkeypatch.setattr(content, "inspect", inspect)
        assert client.put(f"{IMAGES}/{image_id}/file", headers=demo | OCTETS, content=b"first").status_code == 204
        return inspect(path, declared)

    monkeypatch.setattr(content, "inspect", overtaken)
    assert client.put(f"{IMAGES}/{image_id}/file", headers=demo | OCTETS, content=b"second").status_code == 409
    assert client.get(f"{IMAGES}/{image_id}/file", headers=demo).content == b"first"
    assert files(cloud) == {image_id}


@pytest.mark.parametrize("change", ["deleted", "declared otherwise"])
def test_an_image_changed_while_content_is_sent(
    cloud: ControlPlane, client: TestClient, headers: Headers, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    demo = headers("demo")
    image_id = queued(client, demo)
    inspect = content.inspect

    def meanwhile(path: Path, declared: str) -> content.Facts:
        with cloud.db.write() as tx:
            if change == "deleted":
                images.delete(tx, image_id)
            else:
                tx.exec_driver_sql("UPDATE images SET disk_format = 'qcow2'")
        return inspect(path, declared)

    monkeypatch.setattr(content, "inspect", meanwhile)
    answer = client.put(f"{IMAGES}/{image_id}/file", headers=demo | OCTETS, content=b"data")
    assert answer.status_code == (404 if change == "deleted" else 409)
    assert files(cloud) == set()


@pytest.mark.parametrize("missing", ["disk_format", "container_format"])
def test_formats_are_said_first(client: TestClient, headers: Headers, missing: str) -> None:
    demo = headers("demo")
    image_id = queued(client, demo, **{missing: None})
    answer = client.put(f"{IMAGES}/{image_id}/file", headers=demo | OCTETS, content=b"x")
    assert answer.status_code == 400
    assert missing in answer.json()["message"]


def test_content_is_octets(cloud: ControlPlane, client: TestClient, headers: Headers) -> None:
    demo = headers("demo")
    image_id = queued(client, demo)
    assert client.put(f"{IMAGES}/{image_id}/file", headers=demo, json={}).status_code == 415
    assert files(cloud) == set()


def test_content_of_others(cloud: ControlPlane, client: TestClient, headers: Headers) -> None:
    admin, demo = headers("admin"), headers("demo")
    image_id = queued(client, admin, visibility="public")
    assert client.put(f"{IMAGES}/{image_id}/file", headers=demo | OCTETS, content=b"mine").status_code == 403
    assert files(cloud) == set()
    assert client.put(f"{IMAGES}/{image_id}/file", headers=admin | OCTETS, content=b"theirs").status_code == 204
    assert client.get(f"{IMAGES}/{image_id}/file", headers=demo).content == b"theirs"


def test_a_crash_after_the_file_came_is_swept_up(
    cloud: ControlPlane, client: TestClient, headers: Headers, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The transaction that makes the image active is lost after the file was moved to its place."""
    demo = headers("demo")
    image_id, whole = queued(client, demo), queued(client, demo)
    assert client.put(f"{IMAGES}/{whole}/file", headers=demo | OCTETS, content=b"whole").status_code == 204
    to_disk = content.to_disk

    def crash(path: Path) -> None:
        if path == cloud.settings.images:
            raise OSError("the power went")
        to_disk(path)

    monkeypatch.setattr(content, "to_disk", crash)
    assert client.put(f"{IMAGES}/{image_id}/file", headers=demo | OCTETS, content=b"lost").status_code == 500
    monkeypatch.undo()
    assert files(cloud) == {image_id, whole}
    assert client.get(f"{IMAGES}/{image_id}", headers=demo).json()["status"] == "queued"
    assert client.get(f"{IMAGES}/{image_id}/file", headers=demo).status_code == 204
    (cloud.settings.images / "upload-0123").write_bytes(b"half")
    content.sweep(cloud)
    assert files(cloud) == {whole}
    assert client.put(f"{IMAGES}/{image_id}/file", headers=demo | OCTETS, content=b"again").status_code == 204
    assert client.get(f"{IMAGES}/{image_id}/file", headers=demo).content == b"again"


def test_a_crash_before_the_file_went_is_swept_up(
    cloud: ControlPlane, client: TestClient, headers: Headers, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo = headers("demo")
    image_id = queued(client, demo)
    client.put(f"{IMAGES}/{image_id}/file", headers=demo | OCTETS, content=b"x")

    def crash(*_: Any) -> None:
        raise OSError("the power went")

    monkeypatch.setattr(content, "remove", crash)
    assert client.delete(f"{IMAGES}/{image_id}", headers=demo).status_code == 500
    assert client.get(f"{IMAGES}/{image_id}", headers=demo).status_code == 404
    content.sweep(cloud)
    assert files(cloud) == set()


def test_the_sweep_makes_the_folder(cloud: ControlPlane) -> None:
    cloud.settings.images.rmdir()
    content.sweep(cloud)
    assert files(cloud) == set()
    assert cloud.settings.images.stat().st_mode & 0o777 == 0o700
