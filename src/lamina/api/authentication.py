"""From a token to who is asking."""

from __future__ import annotations

from lamina.api.routing import Context
from lamina.model.errors import Unauthorized
from lamina.operations.control_plane import ControlPlane


def authenticate(plane: ControlPlane, token: str, request_id: str) -> Context:
    raise Unauthorized("The request you have made requires authentication.")
