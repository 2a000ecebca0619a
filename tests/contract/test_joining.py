"""Joining and speaking for oneself, over a real port with mutual TLS."""

from __future__ import annotations

import dataclasses
import hashlib
import stat
from collections.abc import Iterator
from pathlib import Path

import httpx
import msgspec
import pytest

from lamina.hosts import certificates, joining, membership
from lamina.hosts.authority import authority
from lamina.hosts.contents import RemoteDepot, RemoteImages
from lamina.hosts.join_tokens import JoinToken
from lamina.hosts.membership import Membership
from lamina.hosts.wire import Calls, Poll
from lamina.model import ids
from lamina.model.clock import SystemClock
from lamina.model.errors import AlreadyExists, BadRequest, Conflict, HostError, HostUnreachable, Unauthorized, Unavailable
from lamina.model.servers import VmState
from lamina.operations import enrolment
from lamina.operations.control_plane import ControlPlane
from lamina.store import enrolments, images, servers
from tests.contract.dialled import control_plane, joined
from tests.unit.test_servers import server


class Skewed(SystemClock):
    def now(self) -> float:
        return super().now() - 61


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with control_plane(tmp_path_factory.mktemp("control")) as plane:
        yield plane


@pytest.fixture
def name() -> str:
    """A host that nobody has seen."""
    return f"host-{ids.new_uuid()}"


def url(plane: ControlPlane) -> str:
    assert plane.settings.agents_url is not None
    return plane.settings.agents_url


def token(plane: ControlPlane, host: str) -> JoinToken:
    return JoinToken.parse(enrolment.new_token(plane, host, 3600.0)[1])


def is_unused(plane: ControlPlane, host: str) -> bool:
    with plane.db.read() as tx:
        (row,) = [t for t in enrolments.list_tokens(tx) if t.host == host]
        return row.used_at is None and enrolments.find(tx, host) is None


def test_a_host_that_has_joined_has_its_files_for_itself(plane: ControlPlane, tmp_path: Path, name: str) -> None:
    assert joined(plane, name, tmp_path) == Membership.read(tmp_path) == Membership(tmp_path / "membership", name, (url(plane),))
    files = list((tmp_path / "membership").iterdir())
    assert {f.name for f in files} == {"key.pem", "certificate.pem", "authority.pem", "joined.json"}
    assert {stat.S_IMODE(f.stat().st_mode) for f in files} == {0o600}
    assert Membership.read(tmp_path).certificate().names == (name,)


@pytest.mark.weakness(522)
def test_the_secret_is_not_sent_to_another_control_plane(plane: ControlPlane, tmp_path: Path, name: str) -> None:
    meant = token(plane, name)
    with control_plane(tmp_path / "other") as other:
        with pytest.raises(Unauthorized, match="is not where this join token was made: its authority is another one"):
            joining.join([url(other)], meant, name, tmp_path / "host", SystemClock())
        assert enrolments_of(other) == []
    assert is_unused(plane, name)
    assert not (tmp_path / "host").exists()


def enrolments_of(plane: ControlPlane) -> list[str]:
    with plane.db.read() as tx:
        return [e.host for e in enrolments.enrolled(tx)]


def test_clocks_that_differ_are_told_with_both_times(plane: ControlPlane, tmp_path: Path, name: str) -> None:
    with pytest.raises(Conflict, match=r"differ by 61 seconds: it is .* UTC at the control plane and .* UTC here"):
        joining.join([url(plane)], token(plane, name), name, tmp_path, Skewed())
    assert is_unused(plane, name)


def test_what_the_control_plane_says_against_it_is_the_error_it_is(plane: ControlPlane, tmp_path: Path, name: str) -> None:
    joined(plane, name, tmp_path / "first")
    with pytest.raises(AlreadyExists, match=f"Host {name} has joined already"):
        joined(plane, name, tmp_path / "second")
    with pytest.raises(Conflict, match="has not joined a Lamina"):
        Membership.read(tmp_path / "second")


def test_an_answer_that_was_lost_costs_nothing(plane: ControlPlane, tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    once = token(plane, name)
    with monkeypatch.context() as patch:

        def lost(*_given: object) -> Membership:
            raise Unavailable("the answer was lost")

        patch.setattr(Membership, "write", lost)
        with pytest.raises(Unavailable):
            joining.join([url(plane)], once, name, tmp_path, SystemClock())
    assert name in enrolments_of(plane)
    joining.join([url(plane)], once, name, tmp_path, SystemClock())
    assert poll(plane, Membership.read(tmp_path)).status_code == 200


def test_nothing_answers_there(tmp_path: Path, plane: ControlPlane, name: str) -> None:
    with pytest.raises(Unavailable, match=r"https://127\.0\.0\.1:1 does not answer"):
        joining.join(["https://127.0.0.1:1"], token(plane, name), name, tmp_path, SystemClock())


@pytest.mark.parametrize("wrong", ["http://control:8775", "control:8775", "https://control", "https://control:x", "https://control:1/path", "https://:1"])
@pytest.mark.weakness(319)
def test_a_url_that_is_none(wrong: str) -> None:
    with pytest.raises(BadRequest, match="https://control:8775"):
        joining.base_url(wrong)


@pytest.mark.weakness(295)
def test_a_listener_under_another_name_is_not_trusted(plane: ControlPlane, tmp_path: Path, name: str) -> None:
    elsewhere = url(plane).replace("127.0.0.1", "localhost")
    with pytest.raises(Unavailable, match="its certificate is for other names: name this one with --advertise there"):
        joining.join([elsewhere], token(plane, name), name, tmp_path, SystemClock())
    assert is_unused(plane, name)


# ------------------------------------------------------------------------------------------------ speaking for oneself


def poll(plane: ControlPlane, member: Membership) -> httpx.Response:
    with httpx.Client(verify=member.tls(), trust_env=False) as client:
        return client.post(f"{url(plane)}/agents/v1/poll", content=msgspec.json.encode(Poll(ids.new_uuid())))


def forged(plane: ControlPlane, folder: Path, name: str, *, since: float) -> Membership:
    """A certificate that our authority made for `name`, at another time and for another key than the host's."""
    now = plane.clock.now()
    ca = authority(plane.settings.state, now)
    key = membership.key_of(folder)
    certificate = certificates.host(ca, name, certificates.request(key, name), now + since)
    return Membership.write(folder, name, (url(plane),), ca.certificate, certificate)


def test_a_poll_is_answered_at_once_the_first_time(plane: ControlPlane, tmp_path: Path, name: str) -> None:
    answer = poll(plane, joined(plane, name, tmp_path))
    calls = msgspec.json.decode(answer.content, type=Calls)
    assert (calls.calls, calls.park) == ([], 25.0)
    assert abs(calls.time - plane.clock.now()) < 60


@pytest.mark.weakness(306)
def test_who_shows_no_certificate_is_nobody(plane: ControlPlane, tmp_path: Path, name: str) -> None:
    member = joined(plane, name, tmp_path)
    trusting = membership.trusting((member.folder / "authority.pem").read_bytes())
    with httpx.Client(verify=trusting, trust_env=False, headers={"X-Auth-Token": "nonsense"}) as client:
        for method, path in (("POST", "/poll"), ("POST", "/renew"), ("GET", f"/images/{ids.new_uuid()}/file"), ("GET", "/no/such")):
            answer = client.request(method, f"{url(plane)}/agents/v1{path}")
            assert (answer.status_code, answer.json()["error"]["code"]) == (401, "lamina.unauthorized")


@pytest.mark.weakness(290)
def test_a_certificate_for_another_key_speaks_for_nobody(plane: ControlPlane, tmp_path: Path, name: str) -> None:
    joined(plane, name, tmp_path / "host")
    answer = poll(plane, forged(plane, tmp_path / "thief", name, since=0))
    assert (answer.status_code, answer.json()["error"]["code"]) == (401, "lamina.unauthorized")


@pytest.mark.parametrize(
    ("since", "told"),
    [
        (-2 * certificates.HOST_LIFE, r"This host's certificate ran out at .* UTC: join anew"),
        (certificates.HOST_LIFE, r"is valid from .* UTC only, and it is .* UTC by the clock here"),
    ],
)
@pytest.mark.weakness(298)
def test_a_certificate_out_of_its_time_is_refused_by_tls(plane: ControlPlane, tmp_path: Path, name: str, since: float, told: str) -> None:
    joined(plane, name, tmp_path / "host")
    late = forged(plane, tmp_path / "late", name, since=since)
    with pytest.raises(httpx.TransportError):
        poll(plane, late)
    with pytest.raises(Conflict, match=told):
        late.must_be_valid(plane.clock.now())


@pytest.mark.weakness(295)
def test_a_certificate_of_another_authority_is_refused_by_tls(plane: ControlPlane, tmp_path: Path, name: str) -> None:
    member = joined(plane, name, tmp_path)
    ca = certificates.authority(plane.clock.now())
    member.renewed(certificates.host(ca, name, certificates.request(member.key(), name), plane.clock.now()))
    with pytest.raises(httpx.TransportError) as refused:
        poll(plane, member)
    assert "does not take this host's certificate" in joining.why_not(url(plane), refused.value).message


def test_the_listeners_own_certificate_is_no_hosts(plane: ControlPlane, tmp_path: Path, name: str) -> None:
    member = joined(plane, name, tmp_path)
    folder = plane.settings.state / "authority"
    member.renewed((folder / "listener.pem").read_bytes())
    (member.folder / "key.pem").write_bytes((folder / "listener-key.pem").read_bytes())
    with pytest.raises(httpx.TransportError):
        poll(plane, member)


def test_a_certificate_is_renewed_while_the_old_one_goes_on(plane: ControlPlane, tmp_path: Path, name: str) -> None:
    member = joined(plane, name, tmp_path)
    before = member.certificate()
    old = dataclasses.replace(member, folder=tmp_path / "old")
    old.folder.mkdir()
    for file in member.folder.iterdir():
        (old.folder / file.name).write_bytes(file.read_bytes())
    with httpx.Client(verify=member.tls(), trust_env=False) as client:
        joining.renew(member, client, url(plane))
    after = member.certificate()
    assert (after.key, after.names) == (before.key, before.names)
    assert after.serial != before.serial
    assert [poll(plane, m).status_code for m in (member, old)] == [200, 200]


# ------------------------------------------------------------------------------------------------ images and disks


def placed(plane: ControlPlane, host: str, content: bytes) -> tuple[str, str]:
    """An image, and a server on `host` that begins with it: their ids."""
    image_id, server_id = ids.new_uuid(), ids.new_uuid()
    now = plane.clock.now()
    with plane.db.write() as tx:
        images.add(tx, images.Image(id=image_id, owner="p", created_at=now, updated_at=now, disk_format="raw", container_format="bare"))
        digest = hashlib.sha512(content).hexdigest()
        images.activate(tx, image_id, size=len(content), virtual_size=len(content), checksum="", sha512=digest, now=now)
        servers.insert(tx, [dataclasses.replace(server(VmState.ACTIVE), id=server_id, host=host, image_id=image_id)])
    (plane.settings.images / image_id).write_bytes(content)
    return image_id, server_id


@pytest.mark.weakness(639)
def test_a_host_fetches_the_images_of_its_servers_and_no_others(plane: ControlPlane, tmp_path: Path, name: str) -> None:
    content = bytes(range(256)) * 5000
    image_id, _ = placed(plane, name, content)
    others, _ = placed(plane, "another", b"not for you")
    store = RemoteImages(joined(plane, name, tmp_path))
    store.fetch(image_id, tmp_path / "image")
    assert (tmp_path / "image").read_bytes() == content
    for image in (others, ids.new_uuid()):
        with pytest.raises(HostError, match=f"No server on host {name} needs an image {image}"):
            store.fetch(image, tmp_path / "stolen")
        assert not (tmp_path / "stolen").exists()


def test_a_disk_goes_from_one_host_to_another_by_way_of_the_depot(plane: ControlPlane, tmp_path: Path, name: str) -> None:
    content = b"disk" * 100_000
    _, server_id = placed(plane, name, b"image")
    (tmp_path / "disk").write_bytes(content)
    source = RemoteDepot(joined(plane, name, tmp_path / "source"))
    stranger = RemoteDepot(joined(plane, f"{name}-2", tmp_path / "stranger"))
    with pytest.raises(HostError, match="The depot has no disk of this server"):
        source.fetch(server_id, tmp_path / "early")
    source.bring(server_id, tmp_path / "disk")
    source.fetch(server_id, tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == content
    for steal, file in ((stranger.fetch, tmp_path / "stolen"), (stranger.bring, tmp_path / "disk")):
        with pytest.raises(HostError, match=f"No server {server_id} is on host"):
            steal(server_id, file)
    assert not (tmp_path / "stolen").exists()


def test_a_control_plane_that_is_gone_is_unreachable(plane: ControlPlane, tmp_path: Path, name: str) -> None:
    member = dataclasses.replace(joined(plane, name, tmp_path), control_planes=("https://127.0.0.1:1",))
    with pytest.raises(HostUnreachable, match="does not answer"):
        RemoteImages(member).fetch(ids.new_uuid(), tmp_path / "image")
