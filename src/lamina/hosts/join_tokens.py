"""Join tokens as a person carries them: a secret, and the fingerprint of the authority that it was made by.

The fingerprint lets a host be sure of the control plane before the secret is sent, as kubeadm's CA certificate hash does.
"""

from __future__ import annotations

import dataclasses
import hashlib
import re
import secrets

from lamina.model.errors import BadRequest

_FORM = re.compile(r"lamina-join-1\.([A-Za-z0-9_-]{43})\.([0-9a-f]{64})")


@dataclasses.dataclass(frozen=True, slots=True)
class JoinToken:
    secret: str = dataclasses.field(repr=False)
    #: SHA-256 of the authority's certificate, in hexadecimal
    authority: str

    @classmethod
    def new(cls, authority: str) -> JoinToken:
        return cls(secrets.token_urlsafe(32), authority)

    @classmethod
    def parse(cls, text: str) -> JoinToken:
        """Raises `BadRequest`, which does not repeat the token."""
        match = _FORM.fullmatch(text.strip())
        if match is None:
            raise BadRequest("this is not a join token: 'lamina fleet token create' prints one, which begins with lamina-join-1.")
        return cls(match[1], match[2])

    def text(self) -> str:
        return f"lamina-join-1.{self.secret}.{self.authority}"


def secret_hash(secret: str) -> str:
    """What is kept of a secret. It is drawn at random and long, so no slow hash is needed."""
    return hashlib.sha256(secret.encode()).hexdigest()
