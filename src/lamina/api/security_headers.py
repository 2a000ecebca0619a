"""Headers that every answer has, so that a browser takes none of them for more than data.

Source: OWASP's REST Security Cheat Sheet, "Security Headers"; RFC 6797 for the last one, which is said over TLS only.
"""

from __future__ import annotations

from starlette.types import Message, Scope, Send

_ALWAYS = (
    (b"x-content-type-options", b"nosniff"),
    (b"x-frame-options", b"DENY"),
    (b"content-security-policy", b"default-src 'none'; frame-ancestors 'none'"),
    (b"referrer-policy", b"no-referrer"),
)
#: an answer may name things of one project, or hold a token; who knows better says so itself
_NOT_KEPT = (b"cache-control", b"no-store")
_TLS_ONLY = (b"strict-transport-security", b"max-age=31536000")


def with_headers(scope: Scope, send: Send) -> Send:
    """`send` that adds them to what begins an answer."""
    more = (*_ALWAYS, _TLS_ONLY) if scope.get("scheme") == "https" else _ALWAYS

    async def sending(message: Message) -> None:
        if message["type"] == "http.response.start":
            own = message["headers"]
            kept = () if any(name == b"cache-control" for name, _ in own) else (_NOT_KEPT,)
            message["headers"] = [*own, *more, *kept]
        await send(message)

    return sending
