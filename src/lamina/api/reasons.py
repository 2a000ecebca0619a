"""Reason phrases of statuses, the same under every Python: RFC 9110, "15. Status Codes"."""

from __future__ import annotations

from http import HTTPStatus

#: those for which Python has had the names of RFC 7231 and older until 3.13
_RENAMED = {413: "Content Too Large", 414: "URI Too Long", 416: "Range Not Satisfiable", 422: "Unprocessable Content"}


def reason(status: int) -> str:
    """Raises ValueError for a number that is no status."""
    return _RENAMED.get(status) or HTTPStatus(status).phrase
