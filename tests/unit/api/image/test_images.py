"""Images: who sees them, what may be said of them, how they are listed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from starlette.testclient import TestClient

from lamina.operations.control_plane import ControlPlane

IMAGES = "/image/v2/images"
PATCH = {"Content-Type": "application/openstack-images-v2.1-json-patch"}
Headers = Callable[..., dict[str, str]]


def made(client: TestClient, headers: dict[str, str], **facts: Any) -> dict[str, Any]:
    answer = client.post(IMAGES, headers=headers, json=facts)
    assert answer.status_code == 201, answer.text
    image: dict[str, Any] = answer.json()
    return image


def listed(client: TestClient, headers: dict[str, str], query: str = "") -> list[str]:
    answer = client.get(f"{IMAGES}{query}", headers=headers)
    assert answer.status_code == 200, answer.text
    return [image["name"] for image in answer.json()["images"]]


def patched(client: TestClient, headers: dict[str, str], image_id: str, *changes: dict[str, Any]) -> Any:
    return client.patch(f"{IMAGES}/{image_id}", headers=headers | PATCH, json=list(changes))


def test_the_version_document(client: TestClient) -> None:
    document = client.get("/image/")
    assert document.status_code == 300
    assert document.json() == client.get("/image/v2").json() == client.get("/image/v2/").json() == client.get("/image").json()
    assert document.json()["versions"][0] == {
        "id": "v2.7",
        "status": "CURRENT",
        "links": [{"rel": "self", "href": "http://127.0.0.1:8774/image/v2/"}],
    }


def test_an_image_is_made(client: TestClient, headers: Headers, project_ids: dict[str, str]) -> None:
    formats = {"disk_format": "raw", "container_format": "bare"}
    image = made(client, headers("demo"), name="a", min_ram=64, tags=["x", "x"], os_distro="debian", **formats)
    assert image == {
        "id": image["id"],
        "name": "a",
        "owner": project_ids["demo"],
        "status": "queued",
        "visibility": "shared",
        "protected": False,
        "os_hidden": False,
        "disk_format": "raw",
        "container_format": "bare",
        "size": None,
        "virtual_size": None,
        "checksum": None,
        "os_hash_algo": None,
        "os_hash_value": None,
        "min_disk": 0,
        "min_ram": 64,
        "tags": ["x"],
        "os_distro": "debian",
        "created_at": "2027-01-15T08:00:00Z",
        "updated_at": "2027-01-15T08:00:00Z",
        "self": f"/v2/images/{image['id']}",
        "file": f"/v2/images/{image['id']}/file",
        "schema": "/v2/schemas/image",
    }
    assert client.get(f"{IMAGES}/{image['id']}", headers=headers("demo")).json() == image


def test_an_id_is_given_once(client: TestClient, headers: Headers) -> None:
    image = made(client, headers("demo"), id="5DA4FAE6-54A8-4A6E-90A3-8E2B5D1D0A11")
    assert image["id"] == "5da4fae6-54a8-4a6e-90a3-8e2b5d1d0a11"
    assert client.post(IMAGES, headers=headers("admin"), json={"id": image["id"]}).status_code == 409


@pytest.mark.parametrize(
    ("facts", "status"),
    [
        ({"id": "../../etc/passwd"}, 400),
        ({"id": 7}, 400),
        ({"name": 7}, 400),
        ({"name": "x" * 256}, 400),
        ({"name": "x\x00"}, 400),
        ({"visibility": "secret"}, 400),
        ({"disk_format": "ami"}, 400),
        ({"container_format": "ova"}, 400),
        ({"min_disk": -1}, 400),
        ({"min_ram": 2**31}, 400),
        ({"min_ram": "64"}, 400),
        ({"protected": "true"}, 400),
        ({"tags": "x"}, 400),
        ({"tags": [""]}, 400),
        ({"tags": ["x" * 256]}, 400),
        ({"tags": [str(n) for n in range(129)]}, 400),
        ({"os_distro": 7}, 400),
        ({"os_distro": None}, 400),
        ({"x" * 256: ""}, 400),
        ({str(n): "" for n in range(129)}, 400),
        ({"status": "active"}, 403),
        ({"size": 7}, 403),
        ({"checksum": "x"}, 403),
        ({"locations": []}, 403),
        ({"file": "x"}, 403),
        ({"owner": "somebody"}, 403),
        ({"visibility": "public"}, 403),
    ],
)
def test_what_may_not_be_said(client: TestClient, headers: Headers, facts: dict[str, Any], status: int) -> None:
    demo = headers("demo")
    answer = client.post(IMAGES, headers=demo, json=facts)
    assert answer.status_code == status, answer.text
    assert answer.json()["message"]
    assert listed(client, demo) == []


def test_a_reader_makes_nothing(client: TestClient, headers: Headers, stranger: Callable[..., str]) -> None:
    stranger("eve", "reader")
    assert client.post(IMAGES, headers=headers("eve"), json={}).status_code == 403
    assert listed(client, headers("eve")) == []


def test_a_token_without_project_names_the_owner(client: TestClient, headers: Headers, project_ids: dict[str, str]) -> None:
    system = headers("admin", "system")
    assert client.post(IMAGES, headers=system, json={}).status_code == 400
    assert made(client, system, owner=project_ids["demo"])["owner"] == project_ids["demo"]


def test_another_projects_image_looks_like_none(client: TestClient, headers: Headers, stranger: Callable[..., str]) -> None:
    stranger("eve")
    eve = headers("eve")
    for visibility in ("private", "shared"):
        foreign = made(client, headers("demo"), name=visibility, visibility=visibility)["id"]
        nothing = "5da4fae6-54a8-4a6e-90a3-8e2b5d1d0a11"
        octets = {"Content-Type": "application/octet-stream"}
        for method, rest, content, kind in (
            ("GET", "", b"", {}),
            ("DELETE", "", b"", {}),
            ("PATCH", "", b"[]", PATCH),
            ("GET", "/file", b"", {}),
            ("PUT", "/file", b"x", octets),
            ("PUT", "/tags/t", b"", {}),
            ("DELETE", "/tags/t", b"", {}),
            ("GET", "/members", b"", {}),
            ("POST", "/members", b"", {}),
        ):
            there = client.request(method, f"{IMAGES}/{foreign}{rest}", content=content, headers=eve | kind)
            not_there = client.request(method, f"{IMAGES}/{nothing}{rest}", content=content, headers=eve | kind)
            assert there.status_code == not_there.status_code == 404, f"{method} {rest}"
            assert there.text.replace(foreign, nothing) == not_there.text
        assert listed(client, eve, "?visibility=all") == []
        assert listed(client, headers("admin"), f"?visibility={visibility}") == [visibility]
        assert client.get(f"{IMAGES}?marker={foreign}", headers=eve).status_code == 400


def test_open_images_are_seen_and_not_touched(client: TestClient, headers: Headers) -> None:
    admin, demo = headers("admin"), headers("demo")
    for visibility, usual in (("public", ["public"]), ("community", [])):
        image = made(client, admin, name=visibility, visibility=visibility)
        assert client.get(f"{IMAGES}/{image['id']}", headers=demo).json() == image
        assert listed(client, demo) == usual
        assert listed(client, demo, f"?visibility={visibility}") == [visibility]
        assert client.delete(f"{IMAGES}/{image['id']}", headers=demo).status_code == 403
        assert patched(client, demo, image["id"], {"op": "replace", "path": "/name", "value": "mine"}).status_code == 403
        assert client.put(f"{IMAGES}/{image['id']}/tags/t", headers=demo).status_code == 403
        client.delete(f"{IMAGES}/{image['id']}", headers=admin)


def test_an_admin_makes_an_image_public(client: TestClient, headers: Headers) -> None:
    image = made(client, headers("demo"), name="a")
    change = {"op": "replace", "path": "/visibility", "value": "public"}
    assert patched(client, headers("demo"), image["id"], change).status_code == 403
    assert patched(client, headers("admin"), image["id"], change).json()["visibility"] == "public"
    rename = {"op": "replace", "path": "/name", "value": "b"}
    assert patched(client, headers("demo"), image["id"], rename).json() == image | {"name": "b", "visibility": "public"}


def test_a_patch_changes_and_takes_away(cloud: ControlPlane, client: TestClient, headers: Headers) -> None:
    demo = headers("demo")
    image = made(client, demo, name="a", **{"some/key~": "1", "other": "2"})
    cloud.clock.sleep(5)
    answer = patched(
        client,
        demo,
        image["id"],
        {"op": "replace", "path": "/some~1key~0", "value": "3"},
        {"op": "remove", "path": "/other"},
        {"op": "add", "path": "/new", "value": "4"},
        {"op": "replace", "path": "/tags", "value": ["t"]},
        {"op": "replace", "path": "/min_disk", "value": 2},
    )
    assert answer.status_code == 200, answer.text
    want = image | {"some/key~": "3", "new": "4", "tags": ["t"], "min_disk": 2, "updated_at": "2027-01-15T08:00:05Z"}
    del want["other"]
    assert answer.json() == want == client.get(f"{IMAGES}/{image['id']}", headers=demo).json()


@pytest.mark.parametrize(
    ("change", "status"),
    [
        ({"op": "move", "path": "/name", "from": "/x"}, 400),
        ({"op": "replace", "path": "/name"}, 400),
        ({"op": "replace", "path": "name", "value": "x"}, 400),
        ({"op": "replace", "path": "/", "value": "x"}, 400),
        ({"op": "add", "path": "/tags/0", "value": "x"}, 400),
        ({"op": "replace", "path": "/min_ram", "value": "x"}, 400),
        ({"op": "add", "path": "/prop", "value": 7}, 400),
        ({"op": "replace", "path": "/status", "value": "active"}, 403),
        ({"op": "remove", "path": "/id"}, 403),
        ({"op": "remove", "path": "/name"}, 403),
        ({"op": "replace", "path": "/owner", "value": "somebody"}, 403),
        ({"op": "replace", "path": "/prop", "value": "x"}, 409),
        ({"op": "remove", "path": "/prop"}, 409),
    ],
)
def test_a_patch_with_one_bad_step_changes_nothing(client: TestClient, headers: Headers, change: dict[str, Any], status: int) -> None:
    demo = headers("demo")
    image = made(client, demo, name="a")
    answer = patched(client, demo, image["id"], {"op": "replace", "path": "/name", "value": "b"}, change)
    assert answer.status_code == status, answer.text
    assert client.get(f"{IMAGES}/{image['id']}", headers=demo).json() == image


def test_a_patch_has_its_own_content_type(client: TestClient, headers: Headers) -> None:
    demo = headers("demo")
    image = made(client, demo)
    answer = client.patch(f"{IMAGES}/{image['id']}", headers=demo, json=[])
    assert answer.status_code == 415
    assert "application/openstack-images-v2.1-json-patch" in answer.json()["message"]


def test_a_protected_image_stays(client: TestClient, headers: Headers) -> None:
    demo = headers("demo")
    image = made(client, demo, protected=True)
    path = f"{IMAGES}/{image['id']}"
    assert client.delete(path, headers=demo).status_code == 403
    assert client.delete(path, headers=headers("admin")).status_code == 403
    patched(client, demo, image["id"], {"op": "replace", "path": "/protected", "value": False})
    assert client.delete(path, headers=demo).status_code == 204
    assert client.get(path, headers=demo).status_code == 404


def test_tags(client: TestClient, headers: Headers) -> None:
    demo = headers("demo")
    path = f"{IMAGES}/{made(client, demo, tags=['a'])['id']}"
    assert client.put(f"{path}/tags/b", headers=demo).status_code == 204
    assert client.put(f"{path}/tags/b", headers=demo).status_code == 204
    assert client.get(path, headers=demo).json()["tags"] == ["a", "b"]
    assert client.put(f"{path}/tags/{'x' * 256}", headers=demo).status_code == 400
    assert client.delete(f"{path}/tags/a", headers=demo).status_code == 204
    assert client.delete(f"{path}/tags/a", headers=demo).status_code == 404
    assert client.get(path, headers=demo).json()["tags"] == ["b"]


def test_nobody_is_a_member(client: TestClient, headers: Headers) -> None:
    demo = headers("demo")
    path = f"{IMAGES}/{made(client, demo)['id']}/members"
    assert client.get(path, headers=demo).json() == {"members": [], "schema": "/v2/schemas/members"}
    assert client.post(path, headers=demo, json={"member": "x"}).status_code == 501


@pytest.mark.parametrize(
    ("query", "names"),
    [
        ("", ["d", "c", "b", "a"]),
        ("?sort=name:asc", ["a", "b", "c", "d"]),
        ("?sort=min_ram", None),
        ("?sort_key=name", ["d", "c", "b", "a"]),
        ("?sort_key=disk_format&sort_key=name&sort_dir=asc&sort_dir=desc", ["d", "b", "c", "a"]),
        ("?sort_key=name&sort_dir=up", None),
        ("?sort_key=name&sort_dir=asc&sort_dir=asc", None),
        ("?name=b", ["b"]),
        ("?name=in:a,c", ["c", "a"]),
        ("?tag=odd", ["c", "a"]),
        ("?tag=odd&tag=first", ["a"]),
        ("?kind=x", ["b", "a"]),
        ("?status=active", []),
        ("?status=queued&limit=2", ["d", "c"]),
        ("?disk_format=raw", ["c", "a"]),
        ("?protected=true", []),
        ("?protected=maybe", None),
        ("?os_hidden=true", ["hidden"]),
        ("?size_min=1", []),
        ("?size_max=none", None),
        ("?min_ram=2", ["b"]),
        ("?visibility=shared", ["d", "c", "b", "a"]),
        ("?visibility=none", None),
        ("?limit=-1", None),
        ("?limit=0", []),
        ("?limit=1" + "0" * 40, None),
        ("?marker=nothing", None),
        ("?created_at=gt:2020", None),
        ("?member_status=all", ["d", "c", "b", "a"]),
    ],
)
def test_a_list_is_filtered_and_sorted(
    cloud: ControlPlane, client: TestClient, headers: Headers, query: str, names: list[str] | None
) -> None:
    demo = headers("demo")
    described: list[dict[str, Any]] = [
        {"name": "a", "tags": ["odd", "first"], "kind": "x", "disk_format": "raw"},
        {"name": "b", "kind": "x"},
        {"name": "c", "tags": ["odd"], "disk_format": "raw"},
        {"name": "d", "kind": "y"},
        {"name": "hidden", "os_hidden": True},
    ]
    for number, facts in enumerate(described):
        made(client, demo, min_ram=number + 1, **facts)
        cloud.clock.sleep(1)
    if names is None:
        answer = client.get(f"{IMAGES}{query}", headers=demo)
        assert answer.status_code == 400
        assert answer.json()["message"].partition(":")[0] in query
    else:
        assert listed(client, demo, query) == names


@pytest.mark.parametrize("order", ["name:asc", "name:desc", "disk_format:asc,name:desc", "size", "id:asc"])
def test_pages_follow_each_other(client: TestClient, headers: Headers, order: str) -> None:
    demo = headers("demo")
    for number in range(7):
        made(client, demo, name=f"{number // 2}", disk_format="raw" if number % 2 else None)
    everything = [image["id"] for image in client.get(f"{IMAGES}?sort={order}", headers=demo).json()["images"]]
    assert len(set(everything)) == 7
    read, link = [], f"/v2/images?sort={order}&limit=3"
    while link:
        page = client.get(f"/image{link}", headers=demo).json()
        read += [image["id"] for image in page["images"]]
        assert "marker" not in page["first"]
        link = page.get("next")
    assert read == everything


def test_schemas_and_import_methods(client: TestClient, headers: Headers) -> None:
    demo = headers("demo")
    schema = client.get("/image/v2/schemas/image", headers=demo).json()
    image = made(client, demo)
    assert set(image) == set(schema["properties"])
    assert client.get("/image/v2/schemas/images", headers=demo).json()["properties"]["images"]["items"] == schema
    assert client.get("/image/v2/info/import", headers=demo).json()["import-methods"]["value"] == []
