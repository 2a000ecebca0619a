"""The callers of the policy matrix, and how each shows who it is."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping


class Right(enum.StrEnum):
    """The least that a call asks of its caller, as the table of expectations says it."""

    ANYONE = "anyone"
    USER = "any user"
    #: the user whose own thing it is, and no administrator in its place
    OWNER = "its own user"
    READER = "reader"
    MEMBER = "member"
    MANAGER = "manager"
    ADMIN = "admin"
    HOST = "host"


@dataclasses.dataclass(frozen=True)
class Identity:
    """One caller. ``user`` is whose token it shows, ``host`` whose certificate."""

    name: str
    rights: frozenset[Right] = frozenset({Right.ANYONE})
    user: str | None = None
    host: str | None = None
    #: which of the two projects is its own
    side: str = "home"
    expired: bool = False

    @property
    def is_admin(self) -> bool:
        return Right.ADMIN in self.rights


_READER = frozenset({Right.ANYONE, Right.USER, Right.OWNER, Right.READER})
_MEMBER = _READER | {Right.MEMBER}
_MANAGER = _MEMBER | {Right.MANAGER}
_ADMIN = _MANAGER | {Right.ADMIN}
_HOST = frozenset({Right.ANYONE, Right.HOST})

NOBODY = Identity("no token")
EXPIRED = Identity("expired token", user="mel", expired=True)
READER = Identity("reader", _READER, user="rea")
MEMBER = Identity("member", _MEMBER, user="mel")
OUTSIDER = Identity("member of another project", _MEMBER, user="eve", side="away")
ADMIN = Identity("admin", _ADMIN, user="admin")
AGENT_A = Identity("agent A's certificate", _HOST, host="agent-a", side="home")
AGENT_B = Identity("agent B's certificate", _HOST, host="agent-b", side="away")
#: between member and admin: some actions on servers are a manager's
MANAGER = Identity("manager", _MANAGER, user="mia")

IDENTITIES = (NOBODY, EXPIRED, READER, MEMBER, OUTSIDER, ADMIN, AGENT_A, AGENT_B, MANAGER)

#: user -> (role, project)
USERS: Mapping[str, tuple[str, str]] = {
    "rea": ("reader", "home"),
    "mel": ("member", "home"),
    "mia": ("manager", "home"),
    "eve": ("member", "away"),
}
