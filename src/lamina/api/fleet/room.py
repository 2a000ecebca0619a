"""The route table of the Fleet API."""

from __future__ import annotations

from lamina.api.fleet import capacity, defragmentation, gpus, hosts, operations, queue, repairs, replicas, tokens, vgpus
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
        Route("POST", "/hosts/{host}/reboot", hosts.reboot, "fleet:hosts:reboot", ADMIN),
        Route("DELETE", "/hosts/{host}", hosts.remove, "fleet:hosts:remove", ADMIN),
        Route("POST", "/tokens", tokens.create, "fleet:tokens:create", ADMIN),
        Route("GET", "/tokens", tokens.index, "fleet:tokens:list", ADMIN),
        Route("DELETE", "/tokens/{token}", tokens.delete, "fleet:tokens:delete", ADMIN),
        Route("PUT", "/hosts/{host}/gpus/{address}", gpus.update, "fleet:gpus:update", ADMIN),
        Route("GET", "/capacity", capacity.show, "fleet:capacity:show", ADMIN),
        Route("GET", "/gpus", gpus.index, "fleet:gpus:list", ADMIN),
        Route("GET", "/queue", queue.index, "fleet:queue:list", ADMIN),
        Route("GET", "/repairs", repairs.index, "fleet:repairs:list", ADMIN),
        Route("POST", "/repairs", repairs.create, "fleet:repairs:create", ADMIN),
        Route("GET", "/replicas", replicas.index, "fleet:replicas:list", ADMIN),
        Route("GET", "/vgpus", vgpus.index, "fleet:vgpus:list", ADMIN),
        Route("POST", "/defragmentation/plan", defragmentation.plan, "fleet:defragmentation:plan", ADMIN),
        Route("GET", "/operations", operations.index, "fleet:operations:list", ADMIN),
        Route("POST", "/operations/{operation}/resume", operations.resume, "fleet:operations:resume", ADMIN),
        Route("POST", "/operations/{operation}/abandon", operations.abandon, "fleet:operations:abandon", ADMIN),
    ),
    fault=fault,
)
