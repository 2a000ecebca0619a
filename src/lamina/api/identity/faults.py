"""Errors as Keystone's clients read them."""

from __future__ import annotations

from http import HTTPStatus

from lamina.api.reasons import reason
from lamina.api.routing import Reply, Version
from lamina.model.errors import LaminaError


def fault(error: LaminaError, request_id: str, version: Version) -> Reply:
    """``{"error": {"code", "message", "title"}}``."""
    headers = {"WWW-Authenticate": 'Keystone uri="/identity"'} if error.status == HTTPStatus.UNAUTHORIZED else {}
    return Reply(error.status, {"error": {"code": error.status, "message": error.message, "title": reason(error.status)}}, headers)
