"""What the words in bodies of the Identity API may be."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import UnsetType

from lamina.api.identity import answers

#: of a project, a domain or a group; of a user or a role
Name = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=answers.NAME)]
LongName = Annotated[str, msgspec.Meta(min_length=1, max_length=255, pattern=answers.NAME)]
Text = Annotated[str, msgspec.Meta(max_length=65535, pattern=answers.TEXT)]
Id = Annotated[str, msgspec.Meta(min_length=1, max_length=64, pattern=answers.TEXT)]
#: what Lamina has no notion of may be said if it says nothing
Nothing = Annotated[dict[str, Any], msgspec.Meta(max_length=0)]
NoTags = Annotated[list[str], msgspec.Meta(max_length=0)]


def changes(wanted: object, *names: str) -> dict[str, Any]:
    """Those of the fields that were said; a description that is taken away is an empty one."""
    said = {name: getattr(wanted, name) for name in names}
    given = {name: value for name, value in said.items() if not isinstance(value, UnsetType)}
    if "description" in given:
        given["description"] = given["description"] or ""
    return given
