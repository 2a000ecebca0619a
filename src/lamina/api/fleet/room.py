"""The route table of the Fleet API."""

from __future__ import annotations

from lamina.api.fleet import audit, capacity, defragmentation, gpus, hosts, operations, queue, repairs, replicas, tokens, vgpus
from lamina.api.routing import ADMIN, Reply, Room, Route, Version
from lamina.model.errors import LaminaError


def fault(error: LaminaError, request_id: str, _version: Version) -> Reply:
    """``{"error": {code, message, request_id}}``"""
    return Reply(error.status, {"error": {"code": error.code, "message": error.message, "request_id": request_id}})


ROOM = Room(
    name="fleet",
    prefix="/fleet/v1",
    routes=(
        Route("GET", "/hosts", hosts.index, "fleet:hosts:list", ADMIN),
        Route("GET", "/hosts/{host}", hosts.show, "fleet:hosts:show", ADMIN),
        Route("POST", "/hosts/{host}/reboot", hosts.reboot, "fleet:hosts:reboot", ADMIN, gives=(202,)),
        Route("DELETE", "/hosts/{host}", hosts.remove, "fleet:hosts:remove", ADMIN, gives=(204,)),
        Route("POST", "/tokens", tokens.create, "fleet:tokens:create", ADMIN, takes=(tokens.New,), gives=(201,)),
        Route("GET", "/tokens", tokens.index, "fleet:tokens:list", ADMIN),
        Route("DELETE", "/tokens/{token}", tokens.delete, "fleet:tokens:delete", ADMIN, gives=(204,)),
        Route("PUT", "/hosts/{host}/gpus/{address}", gpus.update, "fleet:gpus:update", ADMIN, takes=(gpus.Change,)),
        Route("GET", "/capacity", capacity.show, "fleet:capacity:show", ADMIN),
        Route("GET", "/gpus", gpus.index, "fleet:gpus:list", ADMIN, query=("host",)),
        Route("GET", "/queue", queue.index, "fleet:queue:list", ADMIN),
        Route("GET", "/repairs", repairs.index, "fleet:repairs:list", ADMIN, query=("host", "limit", "marker")),
        Route("POST", "/repairs", repairs.create, "fleet:repairs:create", ADMIN, takes=(repairs.Ask,), refuses=(404,)),
        Route("GET", "/replicas", replicas.index, "fleet:replicas:list", ADMIN),
        Route("GET", "/vgpus", vgpus.index, "fleet:vgpus:list", ADMIN, query=("host",)),
        Route("POST", "/defragmentation/plan", defragmentation.plan, "fleet:defragmentation:plan", ADMIN, takes=(defragmentation.Goal,)),
        Route(
            "GET",
            "/audit",
            audit.index,
            "fleet:audit:list",
            ADMIN,
            query=("action", "limit", "marker", "outcome", "project", "request", "since", "sort_dir", "target", "until", "user"),
        ),
        Route("GET", "/operations", operations.index, "fleet:operations:list", ADMIN, query=("events", "server_id")),
        Route("POST", "/operations/{operation}/resume", operations.resume, "fleet:operations:resume", ADMIN, gives=(202,)),
        Route(
            "POST",
            "/operations/{operation}/abandon",
            operations.abandon,
            "fleet:operations:abandon",
            ADMIN,
            takes=(operations.Abandon,),
            gives=(202,),
        ),
    ),
    fault=fault,
)
