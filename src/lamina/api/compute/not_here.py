"""Documented calls that Lamina does not answer: each is refused with 501 and a sentence that says why.

Nothing is looked up for them, so that the answer is the same for every server, one's own or not.
"""

from __future__ import annotations

import dataclasses

from lamina.api.routing import ADMIN, MEMBER, READER, Handler, Reply, Request, Route, Version
from lamina.model.errors import NotImplementedHere


def _refused(why: str) -> Handler:
    def refuse(_request: Request) -> Reply:
        raise NotImplementedHere(why)

    return refuse


_DIAGNOSTICS = _refused("No figures of a running server are kept here.")
_NETWORK = _refused("A server's interfaces come and go with it here: say its networks when it is made.")
_VOLUME = _refused("There are no volumes here.")
_IMAGES = _refused("Images come to a host with the first server that needs them here, not before.")
_EVENT = _refused("Nothing outside reports events of servers here.")

RULE = "os_compute_api"
ROUTES = tuple(
    dataclasses.replace(route, gives=(), refuses=(501,))
    for route in (
        Route("GET", "/servers/{server}/diagnostics", _DIAGNOSTICS, f"{RULE}:os-server-diagnostics", READER),
        Route("POST", "/servers/{server}/os-interface", _NETWORK, f"{RULE}:os-attach-interfaces:create", MEMBER),
        Route("DELETE", "/servers/{server}/os-interface/{port}", _NETWORK, f"{RULE}:os-attach-interfaces:delete", MEMBER),
        Route("POST", "/servers/{server}/os-volume_attachments", _VOLUME, f"{RULE}:os-volumes-attachments:create", MEMBER),
        Route("POST", "/os-aggregates/{aggregate}/images", _IMAGES, "compute:aggregates:images", ADMIN, since=Version(2, 81)),
        Route("POST", "/os-server-external-events", _EVENT, f"{RULE}:os-server-external-events:create", ADMIN),
    )
)
