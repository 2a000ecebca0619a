"""TLS at the public port, over real connections: who is trusted, what is spoken, how a certificate is replaced."""

from __future__ import annotations

import asyncio
import contextlib
import datetime
import socket
import ssl
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from lamina.cli.listening import bind
from lamina.cli.public_port import LOOK, PublicPort
from lamina.cli.tls import Given, Tls, load
from lamina.hosts import certificates
from lamina.hosts.certificates import SERVER_LIFE, Pair
from lamina.hosts.private_files import write_private
from lamina.model.clock import SystemClock
from lamina.model.errors import BadRequest
from lamina.operations.control_plane import ControlPlane
from tests.contract.public import served
from tests.scenario.cloud import eventually

NOW = SystemClock().now()
CA = certificates.authority(NOW)


class Earlier(SystemClock):
    """The clock of a control plane that has not noticed that its certificate has run out."""

    def now(self) -> float:
        return super().now() - 2 * SERVER_LIFE


def made(folder: Path, pair: Pair, called: str = "public") -> Given:
    folder.mkdir(exist_ok=True)
    given = Given(folder / f"{called}.pem", folder / f"{called}-key.pem")
    write_private(given.key, pair.key)
    write_private(given.certificate, pair.certificate)
    return given


def for_loopback(*names: str, now: float = NOW, ca: Pair = CA) -> Pair:
    return certificates.server(ca, ("127.0.0.1", *names), now)


def by_rsa() -> Pair:
    """One that signs itself, for a key of another kind."""
    key = rsa.generate_private_key(65537, 2048)
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "rsa")])
    day = datetime.timedelta(days=1)
    since = datetime.datetime.fromtimestamp(NOW, datetime.UTC) - day
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(since)
        .not_valid_after(since + 9 * day)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("rsa.example.org")]), critical=False)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    plain = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Pair(plain, certificate.public_bytes(pem))


def trusting(ca: Pair = CA) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cadata=ca.certificate.decode())
    return context


def trusting_anybody() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def healthy(port: int, context: ssl.SSLContext, host: str = "127.0.0.1") -> int:
    return httpx.get(f"https://{host}:{port}/healthz", verify=context, trust_env=False).status_code


def shown(port: int, context: ssl.SSLContext | None = None) -> tuple[bytes, str | None]:
    """The certificate (DER) that a new connection is shown, and the version of TLS."""
    with (
        socket.create_connection(("127.0.0.1", port)) as plain,
        (context or trusting_anybody()).wrap_socket(plain, server_hostname="127.0.0.1") as secure,
    ):
        found = secure.getpeercert(binary_form=True)
        assert found is not None
        return found, secure.version()


def der(pair: Pair) -> bytes:
    return ssl.PEM_cert_to_DER_cert(pair.certificate.decode())


@pytest.mark.weakness(319)
def test_who_trusts_the_authority_is_answered_by_the_newest_tls(plane: ControlPlane, tmp_path: Path) -> None:
    with served(plane, Tls(made(tmp_path, for_loopback()), SystemClock(), LOOK)) as port:
        assert healthy(port, trusting()) == 200
        assert shown(port, trusting())[1] == "TLSv1.3"
        with pytest.raises(httpx.HTTPError):
            httpx.get(f"http://127.0.0.1:{port}/healthz", trust_env=False)


@pytest.mark.weakness(295)
@pytest.mark.weakness(297)
def test_another_authority_and_another_host_are_not_trusted(plane: ControlPlane, tmp_path: Path) -> None:
    with served(plane, Tls(made(tmp_path, for_loopback()), SystemClock(), LOOK)) as port:
        with pytest.raises(httpx.ConnectError, match=r"unable to get local issuer|self.signed"):
            healthy(port, trusting(certificates.authority(NOW)))
        with pytest.raises(httpx.ConnectError, match=r"[Hh]ostname mismatch"):
            healthy(port, trusting(), "localhost")


@pytest.mark.weakness(298)
def test_an_expired_certificate_is_not_trusted_and_not_started_with(plane: ControlPlane, tmp_path: Path) -> None:
    expired = made(tmp_path, for_loopback(now=NOW - 2 * SERVER_LIFE))
    with pytest.raises(BadRequest, match=r"is good from .* UTC to .* UTC, and it is .* UTC here"):
        Tls(expired, SystemClock(), LOOK)
    with served(plane, Tls(expired, Earlier(), LOOK)) as port, pytest.raises(httpx.ConnectError, match="expired"):
        healthy(port, trusting())


@pytest.mark.weakness(327)
@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_old_tls_is_refused_and_so_is_what_a_stolen_key_opens_later(plane: ControlPlane, tmp_path: Path) -> None:
    def spoken(version: ssl.TLSVersion, ciphers: str) -> ssl.SSLContext:
        context = trusting_anybody()
        context.set_ciphers(f"{ciphers}:@SECLEVEL=0")
        context.minimum_version = context.maximum_version = version
        return context

    with served(plane, Tls(made(tmp_path, by_rsa()), SystemClock(), LOOK)) as port:
        for old in (ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1):
            with pytest.raises((ssl.SSLError, ConnectionError)):
                shown(port, spoken(old, "ALL"))
        with pytest.raises((ssl.SSLError, ConnectionError)):
            shown(port, spoken(ssl.TLSVersion.TLSv1_2, "AES256-GCM-SHA384"))
        assert shown(port, spoken(ssl.TLSVersion.TLSv1_2, "ALL"))[1] == "TLSv1.2"


@pytest.mark.weakness(324)
def test_files_that_are_replaced_are_served_without_a_restart(plane: ControlPlane, tmp_path: Path) -> None:
    first, second = for_loopback(), by_rsa()
    given = made(tmp_path, first)
    with served(plane, Tls(given, SystemClock(), LOOK)) as port, httpx.Client(verify=trusting(), trust_env=False) as kept:
        assert kept.get(f"https://127.0.0.1:{port}/healthz").status_code == 200
        assert shown(port)[0] == der(first)
        made(tmp_path, second)
        assert eventually(lambda: shown(port)[0], lambda seen: seen == der(second))
        both = trusting_anybody()
        both.maximum_version = ssl.TLSVersion.TLSv1_2
        both.set_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384")
        with pytest.raises((ssl.SSLError, ConnectionError)):
            shown(port, both)  # the key before, which is of another kind, is not there any more
        assert kept.get(f"https://127.0.0.1:{port}/healthz").status_code == 200, "connections that there are go on"


@pytest.mark.parametrize("wrong", ["the key of another", "readable by others", "no certificate", "expired", "away"])
@pytest.mark.weakness(324)
def test_files_that_are_wrong_leave_the_ones_before(
    tmp_path: Path, wrong: str, capsys: pytest.CaptureFixture[str], plane: ControlPlane
) -> None:
    first = for_loopback()
    given = made(tmp_path, first)
    tls = Tls(given, SystemClock(), LOOK)
    change: dict[str, Callable[[], object]] = {
        "the key of another": lambda: write_private(given.key, for_loopback().key),
        "readable by others": lambda: given.key.chmod(0o640),
        "no certificate": lambda: write_private(given.certificate, b"nonsense"),
        "expired": lambda: made(tmp_path, for_loopback(now=NOW - 2 * SERVER_LIFE)),
        "away": given.key.unlink,
    }
    change[wrong]()
    told: list[str] = []

    def said() -> int:
        told.append(capsys.readouterr().out)
        return "".join(told).count("the new certificate is not taken; the one before goes on")

    with served(plane, tls) as port:
        asyncio.run(tls.look())
        assert eventually(said, bool)  # the server looks too, and is the one to say it where it was first
        asyncio.run(tls.look())
        assert said() == 1
        assert shown(port)[0] == der(first)
        made(tmp_path, for_loopback("new.example.org"))
        asyncio.run(tls.look())
        assert "new.example.org" in tls.names


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o660, 0o644])
@pytest.mark.weakness(732)
def test_a_key_that_others_may_read_is_not_taken(tmp_path: Path, mode: int) -> None:
    given = made(tmp_path, for_loopback())
    given.key.chmod(mode)
    with pytest.raises(BadRequest, match="chmod 600"):
        load(*given(), NOW)


def test_a_key_with_a_password_is_refused_without_a_question(tmp_path: Path) -> None:
    given, pair = made(tmp_path, for_loopback()), for_loopback()
    key = serialization.load_pem_private_key(pair.key, None)
    lock = serialization.BestAvailableEncryption(b"word")
    locked = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, lock)
    write_private(given.certificate, pair.certificate)
    write_private(given.key, locked)
    with pytest.raises(BadRequest, match="locked by a password"):
        load(*given(), NOW)


def test_clients_are_told_a_name_that_is_in_the_certificate(tmp_path: Path) -> None:
    def told(names: tuple[str, ...], public_url: str | None = None) -> str:
        given = made(tmp_path, certificates.server(CA, names, NOW))
        port = PublicPort("127.0.0.1:0", given, public_url=public_url)
        with contextlib.closing(bind("--listen", port.listen)) as door:
            tls = port.tls(door, (), tmp_path, tmp_path, SystemClock())
            return port.url(door, tls).rpartition(":")[0]

    assert told(("cloud.example.org", "127.0.0.1")) == "https://127.0.0.1"
    assert told(("*.example.org", "cloud.example.org")) == "https://cloud.example.org"
    assert told(("cloud.example.org",), "https://proxy.example.org:1/") == "https://proxy.example.org"
