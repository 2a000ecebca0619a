"""Certificates: whom they are for, what they are good for and how long, and what requests are refused."""

from __future__ import annotations

import concurrent.futures
import stat
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from lamina.hosts import authority, certificates
from lamina.hosts.join_tokens import JoinToken, secret_hash
from lamina.model.errors import BadRequest, Conflict

NOW = 1_800_000_000.0
CA = certificates.authority(NOW)
NAMES = ("control.example", "192.0.2.7", "2001:db8::7")


def for_host(name: str = "host", now: float = NOW) -> certificates.Facts:
    return certificates.facts(certificates.host(CA, name, certificates.request(certificates.new_key(), name), now))


def loaded(pem: bytes) -> x509.Certificate:
    return x509.load_pem_x509_certificate(pem)


def test_a_hosts_certificate_names_the_host_and_begins_in_the_past() -> None:
    key = certificates.new_key()
    request = certificates.request(key, "another name")
    facts = certificates.facts(certificates.host(CA, "host", request, NOW))
    assert facts.names == ("host",)
    assert facts.key == certificates.requested_key(request)
    assert (facts.not_before, facts.not_after) == (NOW - certificates.BACKDATED, NOW + certificates.HOST_LIFE)
    assert facts.not_before < facts.renew_at < facts.not_after


@pytest.mark.parametrize("name", ["h" * 255, "under_score", "a"])
def test_every_host_name_fits(name: str) -> None:
    assert for_host(name).names == (name,)


def test_a_host_is_a_client_only_and_the_control_plane_a_server_only() -> None:
    host = loaded(certificates.host(CA, "host", certificates.request(certificates.new_key(), "host"), NOW))
    server = loaded(certificates.server(CA, NAMES, NOW).certificate)
    for certificate, purpose in ((host, ExtendedKeyUsageOID.CLIENT_AUTH), (server, ExtendedKeyUsageOID.SERVER_AUTH)):
        assert list(certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value) == [purpose]
        assert not certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
        assert not certificate.extensions.get_extension_for_class(x509.KeyUsage).value.key_cert_sign
        certificate.verify_directly_issued_by(loaded(CA.certificate))
    assert certificates.facts(certificates.server(CA, NAMES, NOW).certificate).names == NAMES


def test_each_certificate_has_a_number_of_its_own() -> None:
    assert for_host().serial != for_host().serial


def other_key() -> bytes:
    key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM)


def other_curve() -> bytes:
    key = ec.generate_private_key(ec.SECP384R1())
    made = x509.CertificateSigningRequestBuilder().subject_name(x509.Name([])).sign(key, hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM)


def broken_signature() -> bytes:
    der = bytearray(x509.load_pem_x509_csr(certificates.request(certificates.new_key(), "host")).public_bytes(serialization.Encoding.DER))
    der[der.index(b"host")] ^= 1
    return x509.load_der_x509_csr(bytes(der)).public_bytes(serialization.Encoding.PEM)


@pytest.mark.parametrize("pem", [b"", b"nonsense", CA.certificate, CA.key, other_key(), other_curve(), broken_signature()])
def test_what_is_no_request_of_a_host_is_refused(pem: bytes) -> None:
    with pytest.raises(BadRequest, match="request: "):
        certificates.requested_key(pem)
    with pytest.raises(BadRequest, match="request: "):
        certificates.host(CA, "host", pem, NOW)


def test_what_is_no_certificate_is_told() -> None:
    for pem in (b"", CA.key):
        with pytest.raises(Conflict):
            certificates.facts(pem)


# ------------------------------------------------------------------------------------------------ the control plane's files


def test_the_authority_is_made_once_and_for_its_owner_only(tmp_path: Path) -> None:
    made = authority.authority(tmp_path, NOW)
    assert authority.authority(tmp_path, NOW + 86400) == made
    authority.for_listener(tmp_path, tmp_path, NAMES, NOW)
    folder = tmp_path / authority.FOLDER
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}


def test_control_planes_that_share_a_folder_have_one_authority(tmp_path: Path) -> None:
    """Made by all of them at once, at their first start."""
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: authority.authority(tmp_path, NOW), range(8)))
    assert len({pair.certificate for pair in made}) == len({pair.key for pair in made}) == 1
    listeners = []
    for state in (tmp_path / "one", tmp_path / "two"):
        state.mkdir()
        listeners.append(authority.for_listener(tmp_path, state, NAMES, NOW)[0])
    assert len({path.read_bytes() for path in listeners}) == 2
    assert all(certificates.signed_by(path.read_bytes(), made[0].certificate) for path in listeners)


def test_the_listeners_certificate_is_kept_until_two_thirds_of_its_life_are_over(tmp_path: Path) -> None:
    def made(now: float, names: tuple[str, ...] = NAMES) -> bytes:
        certificate, key = authority.for_listener(tmp_path, tmp_path, names, now)
        assert key.exists()
        return certificate.read_bytes()

    first = made(NOW)
    assert made(NOW + 0.6 * certificates.SERVER_LIFE) == first
    second = made(NOW + 0.7 * certificates.SERVER_LIFE)
    assert second != first
    third = made(NOW + 0.7 * certificates.SERVER_LIFE, (*NAMES, "another"))
    assert certificates.facts(third).names == (*NAMES, "another")
    (tmp_path / authority.FOLDER / "listener-key.pem").unlink()
    assert made(NOW + 0.7 * certificates.SERVER_LIFE, (*NAMES, "another")) != third


def test_the_listeners_certificate_follows_the_authority(tmp_path: Path) -> None:
    before = authority.for_listener(tmp_path, tmp_path, NAMES, NOW)[0].read_bytes()
    authority.authority_file(tmp_path).unlink()
    after = authority.for_listener(tmp_path, tmp_path, NAMES, NOW)[0].read_bytes()
    assert certificates.signed_by(after, authority.authority_file(tmp_path).read_bytes())
    assert not certificates.signed_by(before, authority.authority_file(tmp_path).read_bytes())


# ------------------------------------------------------------------------------------------------ join tokens


def test_a_token_is_read_as_it_was_written() -> None:
    token = JoinToken.new("ab" * 32)
    assert JoinToken.parse(f"  {token.text()}\n") == token
    assert token.secret not in repr(token)
    assert secret_hash(token.secret) != secret_hash(JoinToken.new("ab" * 32).secret)


@pytest.mark.parametrize("text", ["", "lamina-join-1.", f"lamina-join-2.{'a' * 43}.{'0' * 64}", JoinToken.new("ab" * 32).text() + "x"])
def test_what_is_no_token_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(BadRequest, match="this is not a join token") as refused:
        JoinToken.parse(text)
    assert "a" * 43 not in refused.value.message
