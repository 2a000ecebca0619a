"""To move a server to another host, and to know when it is there.

One that runs is migrated live; one that is shut off, or may be stopped, by a cold migration and its confirmation. Each is a
durable operation of its own, so whoever waits here may be interrupted at any moment and nothing is left half done.
"""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import quote

from lamina.cli import servers
from lamina.cli.client import Client
from lamina.model.errors import Conflict, LaminaError
from lamina.model.servers import Action

#: seconds between two looks
PAUSE = 0.1
_UNDER_WAY = frozenset({"waiting", "running", "unwinding"})


def move(client: Client, server_id: str, host: str, *, live: bool) -> None:
    """Move a server to `host`, `live` or cold, and wait until it is there as it was: running, or shut off.

    Raises `Conflict` where it may not be moved now, and `LaminaError` where the move failed; it is then where it was.
    """
    if live:
        servers.act(client, server_id, {"os-migrateLive": {"host": host, "block_migration": "auto"}})
        _finished(client, server_id, Action.LIVE_MIGRATE)
        return
    servers.act(client, server_id, {"migrate": {"host": host}})
    _finished(client, server_id, Action.MIGRATE)
    servers.act(client, server_id, {"confirmResize": None})
    _finished(client, server_id, Action.CONFIRM_RESIZE)


def _finished(client: Client, server_id: str, action: Action) -> None:
    """Wait for the newest operation of this kind on a server. Raises `Conflict` where it is stuck, `LaminaError` where it failed."""
    while (operation := _newest(client, server_id, action))["state"] in _UNDER_WAY:
        time.sleep(PAUSE)
    why = (operation["error"] or {}).get("message") or "it does not say why"
    if operation["state"] == "stuck":
        raise Conflict(f"The operation {action} on server {server_id} is stuck ({why}); see 'lamina operation list'.")
    if operation["state"] != "done":
        raise LaminaError(f"Server {server_id} could not be moved and is where it was: {why}")


def _newest(client: Client, server_id: str, action: Action) -> dict[str, Any]:
    operations = client.call("fleet", "GET", f"/operations?server_id={quote(server_id, safe='')}")["operations"]
    return next(operation for operation in reversed(operations) if operation["action"] == action)
