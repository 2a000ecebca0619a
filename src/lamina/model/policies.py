"""Names of placement policies, as operators and flavors say them; `lamina.scheduling.policies` is what they do."""

from __future__ import annotations

import enum

from lamina.model.errors import BadRequest

#: the extra spec by which a flavor has a policy of its own
EXTRA_SPEC = "lamina:policy"


class PolicyName(enum.StrEnum):
    SPREAD = "spread"
    FIRST_FIT = "first-fit"
    PACK = "pack"
    BEST_FIT = "best-fit"
    FRAGMENTATION = "fragmentation"


def parse_policy(text: str, what: str) -> PolicyName:
    """Raises `BadRequest` naming `what` and the policies there are."""
    try:
        return PolicyName(text)
    except ValueError:
        raise BadRequest(f"{what}: {text[:80]!r} is not one of {', '.join(PolicyName)}") from None
