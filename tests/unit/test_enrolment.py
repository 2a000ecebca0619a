"""Who becomes a host: one-time tokens and what is wrong with them, keys that speak for hosts, and hosts that are removed."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from lamina.agent.simulated.host import simulated_host
from lamina.hosts import certificates
from lamina.hosts.join_tokens import JoinToken, secret_hash
from lamina.hosts.remote import RemoteCompute
from lamina.model.errors import AlreadyExists, BadRequest, Conflict, Forbidden, InUse, LaminaError, NotFound, Unauthorized, Unavailable
from lamina.model.servers import VmState
from lamina.operations import discovery, enrolment
from lamina.operations.control_plane import ControlPlane
from lamina.store import enrolments, hosts, servers
from tests.contract.machines import StillClock, described
from tests.unit.test_servers import server

HOUR = 3600.0


@pytest.fixture
def cloud(plane: ControlPlane) -> ControlPlane:
    """Where hosts may join, on a clock that stands still."""
    return dataclasses.replace(
        plane, clock=StillClock(), settings=dataclasses.replace(plane.settings, agents_url="https://control:8775")
    )


class Machine:
    """One that wants to be a host."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.request = certificates.request(certificates.new_key(), name)

    def enrol(self, cloud: ControlPlane, token: str) -> bytes:
        """Its certificate, DER."""
        pem = enrolment.enrol(cloud, JoinToken.parse(token).secret, self.name, self.request)
        return x509.load_pem_x509_certificate(pem).public_bytes(serialization.Encoding.DER)


def token(cloud: ControlPlane, host: str | None = None, life: float = HOUR) -> str:
    return enrolment.new_token(cloud, host, life)[1]


def enrolled(cloud: ControlPlane) -> list[str]:
    with cloud.db.read() as tx:
        return [e.host for e in enrolments.enrolled(tx)]


def test_a_token_makes_a_host(cloud: ControlPlane) -> None:
    certificate = Machine("host").enrol(cloud, token(cloud))
    assert enrolment.speaks_for(cloud, certificate) == "host"
    assert isinstance(cloud.hosts.of("host"), RemoteCompute)
    with cloud.db.read() as tx:
        (used,) = enrolments.list_tokens(tx)
    assert (used.used_by, used.used_at) == ("host", cloud.clock.now())


def test_a_token_is_kept_as_a_hash_only(cloud: ControlPlane) -> None:
    text = token(cloud)
    cloud.db.close()
    for file in cloud.settings.state.glob("lamina.db*"):
        assert JoinToken.parse(text).secret.encode() not in file.read_bytes()


@pytest.mark.parametrize(
    ("wrong", "error", "told"),
    [
        ("used", Conflict, r"was used by host first at \d{4}-\d\d-\d\d"),
        ("expired", Unauthorized, "ran out at"),
        ("another host's", Forbidden, "is for host another, not for host"),
        ("unknown", Unauthorized, "is not known here"),
        ("taken back", Unauthorized, "is not known here"),
        ("joined", AlreadyExists, "'lamina fleet remove host' lets it join anew"),
        ("our own", AlreadyExists, "is run by this Lamina itself"),
        ("request", BadRequest, "request: "),
        ("name", BadRequest, "is not a host name"),
    ],
)
def test_what_is_wrong_is_told_and_changes_nothing(
    cloud: ControlPlane, tmp_path: Path, wrong: str, error: type[LaminaError], told: str
) -> None:
    machine, text = Machine("host"), token(cloud, "another" if wrong == "another host's" else None)
    if wrong == "used":
        Machine("first").enrol(cloud, text)
    elif wrong == "expired":
        cloud.clock.sleep(HOUR)
    elif wrong == "unknown":
        text = JoinToken.new("ab" * 32).text()
    elif wrong == "taken back":
        with cloud.db.write() as tx:
            enrolments.delete_token(tx, enrolments.list_tokens(tx)[0].id)
    elif wrong == "joined":
        Machine("host").enrol(cloud, token(cloud))
    elif wrong == "our own":
        cloud.hosts.join("host", simulated_host(described("mdev"), tmp_path, cloud.clock).compute)
    elif wrong == "request":
        machine.request = b"nonsense"
    elif wrong == "name":
        machine.name = "no/name"
    before = enrolled(cloud)
    with pytest.raises(error, match=told):
        machine.enrol(cloud, text)
    assert enrolled(cloud) == before
    with cloud.db.read() as tx:
        found = enrolments.find_token(tx, secret_hash(JoinToken.parse(text).secret))
    assert found is None or found.used_by in (None, "first")


def test_whoever_lost_the_answer_asks_again(cloud: ControlPlane) -> None:
    machine, text = Machine("host"), token(cloud)
    first, again = machine.enrol(cloud, text), machine.enrol(cloud, text)
    assert first != again
    assert {enrolment.speaks_for(cloud, first), enrolment.speaks_for(cloud, again)} == {"host"}
    with pytest.raises(Conflict, match="was used by host host"):
        Machine("host").enrol(cloud, text)
    cloud.clock.sleep(HOUR)
    with pytest.raises(Unauthorized, match="ran out"):
        machine.enrol(cloud, text)


@pytest.mark.parametrize("life", [0, 59, 7 * 86400 + 1])
def test_a_token_has_its_time(cloud: ControlPlane, life: float) -> None:
    with pytest.raises(BadRequest, match="60 seconds to 7 days"):
        token(cloud, life=life)


def test_where_hosts_cannot_dial_in_there_are_no_tokens(plane: ControlPlane) -> None:
    with pytest.raises(Unavailable, match="--agents HOST:PORT"):
        token(plane)


def test_old_tokens_are_forgotten(cloud: ControlPlane) -> None:
    token(cloud)
    cloud.clock.sleep(HOUR + 8 * 86400)
    token(cloud)
    with cloud.db.read() as tx:
        assert len(enrolments.list_tokens(tx)) == 1


# ------------------------------------------------------------------------------------------------ certificates in use


def test_a_certificate_is_renewed_for_the_same_key_only(cloud: ControlPlane) -> None:
    machine = Machine("host")
    first = machine.enrol(cloud, token(cloud))
    cloud.clock.sleep(20 * 86400)
    renewed = certificates.facts(enrolment.renew(cloud, "host", machine.request))
    assert renewed.not_after == cloud.clock.now() + certificates.HOST_LIFE
    assert enrolment.speaks_for(cloud, first) == "host"
    with pytest.raises(Forbidden, match="joined with another key"):
        enrolment.renew(cloud, "host", Machine("host").request)


def test_a_host_whose_certificate_ran_out_joins_anew(cloud: ControlPlane) -> None:
    Machine("host").enrol(cloud, token(cloud))
    cloud.clock.sleep(certificates.HOST_LIFE + 1)
    machine = Machine("host")
    assert enrolment.speaks_for(cloud, machine.enrol(cloud, token(cloud))) == "host"


def test_after_a_restart_every_host_is_known(cloud: ControlPlane) -> None:
    Machine("host").enrol(cloud, token(cloud))
    cloud.hosts.leave("host")
    enrolment.join_all(cloud)
    assert cloud.hosts.names() == ["host"]


# ------------------------------------------------------------------------------------------------ removing


def discovered(cloud: ControlPlane, tmp_path: Path) -> bytes:
    """A host that has joined and reported; its certificate."""
    certificate = Machine("host").enrol(cloud, token(cloud))
    report = simulated_host(described("vfio"), tmp_path, cloud.clock).compute.report()
    with cloud.db.write() as tx:
        discovery.record(tx, report, None, cloud.clock.now())
    return certificate


def test_a_removed_host_is_none_of_ours(cloud: ControlPlane, tmp_path: Path) -> None:
    certificate = discovered(cloud, tmp_path)
    enrolment.remove(cloud, "host")
    with pytest.raises(Unauthorized, match="it was removed, or has joined anew since"):
        enrolment.speaks_for(cloud, certificate)
    assert cloud.hosts.names() == []
    with cloud.db.read() as tx:
        assert (hosts.all_hosts(tx), hosts.gpus_of(tx)) == ([], [])
        assert tx.exec_driver_sql("SELECT count(*) FROM providers").scalar() == 0
    with pytest.raises(NotFound):
        enrolment.remove(cloud, "host")


def test_a_removed_host_may_join_anew_and_its_old_key_stays_worthless(cloud: ControlPlane, tmp_path: Path) -> None:
    old = discovered(cloud, tmp_path)
    enrolment.remove(cloud, "host")
    new = Machine("host").enrol(cloud, token(cloud))
    assert enrolment.speaks_for(cloud, new) == "host"
    with pytest.raises(Unauthorized):
        enrolment.speaks_for(cloud, old)


def test_a_host_with_servers_stays(cloud: ControlPlane, tmp_path: Path) -> None:
    certificate = discovered(cloud, tmp_path)
    with cloud.db.write() as tx:
        servers.insert(tx, [dataclasses.replace(server(VmState.ACTIVE), host="host")])
    with pytest.raises(InUse, match="has servers"):
        enrolment.remove(cloud, "host")
    assert enrolment.speaks_for(cloud, certificate) == "host"


def test_a_host_of_our_own_is_not_removed(cloud: ControlPlane, tmp_path: Path) -> None:
    cloud.hosts.join("host", simulated_host(described("mdev"), tmp_path, cloud.clock).compute)
    with pytest.raises(Conflict, match="is run by this Lamina itself"):
        enrolment.remove(cloud, "host")
