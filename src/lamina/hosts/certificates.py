"""Making certificates: an authority, the control plane's own, and those of hosts. Nothing is read or written here.

Keys are EC P-256. A host's certificate names the host, and a server's certificate serves as no host's, by their extended
key usage (RFC 5280, 4.2.1.12). All begin a little in the past, so that clocks may differ (RFC 5280, 4.1.2.5).
"""

from __future__ import annotations

import dataclasses
import datetime
import functools
import hashlib
import ipaddress
from collections.abc import Iterable

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from lamina.model import ids
from lamina.model.errors import BadRequest, Conflict

#: seconds that a certificate is good for: the authority's, the control plane's, a host's
AUTHORITY_LIFE = 20 * 365 * 86400.0
SERVER_LIFE = 90 * 86400.0
HOST_LIFE = 30 * 86400.0
#: seconds that a certificate begins before it is made
BACKDATED = 3600.0
#: the part of its life after which a certificate is renewed
RENEW_AFTER = 2 / 3
#: most characters of a common name (RFC 5280, appendix A.1)
_LONGEST_NAME = 64


@dataclasses.dataclass(frozen=True, slots=True)
class Pair:
    """A private key and its certificate, PEM."""

    key: bytes
    certificate: bytes


def new_key() -> bytes:
    """A private key, PEM."""
    key = ec.generate_private_key(ec.SECP256R1())
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def authority(now: float) -> Pair:
    """One that signs itself."""
    pem = new_key()
    key = _private(pem)
    name = _name(f"Lamina {ids.new_uuid()}")
    made = (
        _builder(name, name, key.public_key(), now, AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(signs_certificates=True), critical=True)
        .sign(key, hashes.SHA256())
    )
    return Pair(pem, _pem(made))


def server(ca: Pair, names: Iterable[str], now: float) -> Pair:
    """The control plane's, for these names and addresses."""
    pem = new_key()
    alternatives = [_alternative(name) for name in dict.fromkeys(names)]
    return Pair(pem, _signed(ca, "Lamina control plane", alternatives, _private(pem).public_key(), now, SERVER_LIFE, client=False))


def host(ca: Pair, name: str, request: bytes, now: float) -> bytes:
    """A host's, PEM, for the key of its request. What else the request asks for is not heard. Raises `BadRequest`."""
    return _signed(ca, name, [x509.DNSName(name)], _requested_key(request), now, HOST_LIFE, client=True)


def request(key: bytes, name: str) -> bytes:
    """A certificate signing request, PEM."""
    made = x509.CertificateSigningRequestBuilder().subject_name(_name(name)).sign(_private(key), hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM)


def requested_key(pem: bytes) -> str:
    """The fingerprint of the public key in a request whose signature is right. Raises `BadRequest`."""
    return _key_fingerprint(_requested_key(pem))


def _requested_key(pem: bytes) -> ec.EllipticCurvePublicKey:
    try:
        found = x509.load_pem_x509_csr(pem)
        key = found.public_key()
        valid = found.is_signature_valid
    except (ValueError, InvalidSignature, x509.InvalidVersion) as error:
        raise BadRequest("request: this is not a certificate signing request in PEM") from error
    if not valid:
        raise BadRequest("request: the certificate signing request is not signed by its own key")
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise BadRequest("request: the key of a host is an elliptic curve key on P-256")
    return key


# ------------------------------------------------------------------------------------------------ reading


@dataclasses.dataclass(frozen=True, slots=True)
class Facts:
    """What a certificate says. Times are seconds since the epoch, fingerprints SHA-256 in hexadecimal."""

    #: names and addresses; a host's is the first
    names: tuple[str, ...]
    serial: str
    not_before: float
    not_after: float
    #: of the certificate, and of its public key alone
    fingerprint: str
    key: str

    @property
    def renew_at(self) -> float:
        return self.not_before + (self.not_after - self.not_before) * RENEW_AFTER


def facts(pem: bytes) -> Facts:
    """Read a certificate, PEM. Raises `Conflict` for what is none."""
    try:
        return _facts(x509.load_pem_x509_certificate(pem))
    except ValueError as error:
        raise Conflict("This is not a certificate in PEM.") from error


@functools.lru_cache(maxsize=4096)  # a host shows the same one at every poll
def facts_der(der: bytes) -> Facts:
    """The same from DER, as TLS has it. Raises `Conflict`."""
    try:
        return _facts(x509.load_der_x509_certificate(der))
    except ValueError as error:
        raise Conflict("This is not a certificate in DER.") from error


@dataclasses.dataclass(frozen=True, slots=True)
class Validity:
    """For which names and addresses a certificate is, and when: seconds since the epoch."""

    names: tuple[str, ...]
    not_before: float
    not_after: float


def validity(pem: bytes) -> Validity:
    """The same of the first certificate in a file, whoever made it and for whatever kind of key. Raises ValueError."""
    found = x509.load_pem_x509_certificate(pem)
    return Validity(_names(found), found.not_valid_before_utc.timestamp(), found.not_valid_after_utc.timestamp())


def signed_by(pem: bytes, authority: bytes) -> bool:
    """Whether one certificate is signed by the other's key; both PEM."""
    try:
        x509.load_pem_x509_certificate(pem).verify_directly_issued_by(x509.load_pem_x509_certificate(authority))
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def _names(found: x509.Certificate) -> tuple[str, ...]:
    try:
        alternatives = found.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(str(name.value) for name in alternatives)


def _facts(found: x509.Certificate) -> Facts:
    return Facts(
        names=_names(found),
        serial=f"{found.serial_number:x}",
        not_before=found.not_valid_before_utc.timestamp(),
        not_after=found.not_valid_after_utc.timestamp(),
        fingerprint=found.fingerprint(hashes.SHA256()).hex(),
        key=_key_fingerprint(found.public_key()),
    )


# ------------------------------------------------------------------------------------------------ the parts


def _signed(
    ca: Pair, name: str, alternatives: list[x509.GeneralName], key: ec.EllipticCurvePublicKey, now: float, life: float, *, client: bool
) -> bytes:
    issuer = x509.load_pem_x509_certificate(ca.certificate)
    purpose = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
    signer = _private(ca.key)
    made = (
        _builder(_name(name), issuer.subject, key, now, life)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), critical=False)
        .sign(signer, hashes.SHA256())
    )
    return _pem(made)


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: float, life: float
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(_time(now - BACKDATED))
        .not_valid_after(_time(now + life))
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        encipher_only=False,
        decipher_only=False,
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _name(common: str) -> x509.Name:
    """A host's name may be longer than a common name; it is read from the alternative names alone."""
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:_LONGEST_NAME])])


def _time(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(int(seconds), datetime.UTC)


def _private(pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except ValueError as error:
        raise Conflict("This is not a private key in PEM.") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise Conflict("This is not an elliptic curve key.")
    return key


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_fingerprint(key: object) -> str:
    if not isinstance(key, ec.EllipticCurvePublicKey):
        raise Conflict("This is not an elliptic curve key.")
    return hashlib.sha256(key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)).hexdigest()
