"""From a token to who is asking. Nothing else of a request says it: identity headers are not read anywhere."""

from __future__ import annotations

from lamina.api.routing import Context, Shown
from lamina.model.errors import Unauthorized
from lamina.operations.control_plane import ControlPlane
from lamina.store import identity


def by_token(plane: ControlPlane, shown: Shown, request_id: str) -> Context:
    """Who holds the token, with one query at most.

    Raises `Unauthorized` for none, or one unknown, run out, revoked or of a disabled holder.
    """
    if not shown.token:
        raise Unauthorized("The request you have made requires authentication.")
    found = plane.tokens.find(identity.token_hash(shown.token), plane.clock.now())
    if found is None:
        raise Unauthorized("The request you have made requires authentication.")
    return Context(
        request_id=request_id,
        user_id=found.user.id,
        user_name=found.user.name,
        project_id=found.project.id if found.project else None,
        project_name=found.project.name if found.project else None,
        roles=found.roles,
        system=found.target == identity.SYSTEM,
        token_hash=found.hash,
        restricted=found.credential is not None and not found.credential.unrestricted,
    )
