"""From a token to who is asking. Nothing else of a request says it: identity headers are not read anywhere."""

from __future__ import annotations

from lamina.api.routing import Context, Shown
from lamina.model.errors import Unauthorized
from lamina.operations.control_plane import ControlPlane
from lamina.store import tokens
from lamina.store.role_assignments import SYSTEM


def by_token(plane: ControlPlane, shown: Shown, request_id: str) -> Context:
    """Who holds the token, with one query at most.

    Raises `Unauthorized` for none, or one unknown, run out, revoked or of a disabled holder.
    """
    if not shown.token:
        raise Unauthorized("The request you have made requires authentication.")
    found = plane.tokens.find(tokens.token_hash(shown.token), plane.clock.now())
    if found is None:
        raise Unauthorized("The request you have made requires authentication.")
    return Context(
        request_id=request_id,
        user_id=found.user.id,
        user_name=found.user.name,
        project_id=found.project.id if found.project else None,
        project_name=found.project.name if found.project else None,
        # a role on a domain is held on no project and not on the system; an administrator of a domain is none of the cloud
        roles=found.roles if found.domain is None else frozenset(),
        system=found.target == SYSTEM,
        domain_id=found.domain.id if found.domain else None,
        domain_roles=found.roles if found.domain else frozenset(),
        token_hash=found.hash,
        restricted=found.credential is not None and not found.credential.unrestricted,
    )
