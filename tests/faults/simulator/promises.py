"""What must hold: after every event, and once all trouble is over and everything has come to rest."""

from __future__ import annotations

import collections

from lamina.model import capacity
from lamina.model.repairs import What
from lamina.model.servers import VmState
from lamina.saga.log import State
from lamina.store import hosts, providers
from tests.faults.simulator.scene import Scene

_OVER_COMMITTED = """
    SELECT a.provider_id, a.resource_class FROM allocations a
    LEFT JOIN inventories i ON i.provider_id = a.provider_id AND i.resource_class = a.resource_class
    GROUP BY a.provider_id, a.resource_class
    HAVING i.total IS NULL OR SUM(a.used) > (i.total - i.reserved) * i.allocation_ratio
"""
_UNPAID = """
    SELECT * FROM (SELECT consumer_id, provider_id, COUNT(*) AS n FROM vgpus GROUP BY consumer_id, provider_id
                   EXCEPT SELECT consumer_id, provider_id, used FROM allocations WHERE resource_class = 'VGPU')
    UNION ALL
    SELECT * FROM (SELECT consumer_id, provider_id, used FROM allocations WHERE resource_class = 'VGPU'
                   EXCEPT SELECT consumer_id, provider_id, COUNT(*) FROM vgpus GROUP BY consumer_id, provider_id)
"""
_HELD_TWICE = """
    SELECT subject FROM sagas WHERE state IN ('running', 'unwinding', 'stuck') GROUP BY subject HAVING COUNT(*) > 1
"""


#: (server, host) of evacuations whose source was silent, so that nobody knows whether the domain runs there, until it is cleared
_LEFT_UNASKED = """
    SELECT m.server_id, m.source_host FROM migrations m
    JOIN sagas s ON s.subject = m.server_id AND s.kind = 'evacuate' AND json_extract(s.params, '$.migration_id') = m.id
    JOIN saga_events e ON e.saga_id = s.id AND e.step = 'source_off' AND e.event = 'done' AND e.output = 'false'
    WHERE m.status IN ('pre-migrating', 'done')
"""


def always(scene: Scene) -> None:
    """After every event, whatever is in flight. Raises AssertionError."""
    ask = scene.stage.ask
    recorded: dict[str, str] = dict(ask("SELECT uuid, server_id FROM vgpus"))
    running: dict[str, str] = {}
    unasked = {(server_id, host) for server_id, host in ask(_LEFT_UNASKED)}
    for name, site in scene.sites.items():
        state, ours = site.machine.state, site.journal.records()
        standing = {uuid: device.type_id for uuid, device in state.mdevs.items()} | state.vf_types
        on_parent = {str(record.parent): record for record in ours.values()}
        for handle, type_id in site.foreign.items():
            assert standing.get(handle) == type_id, f"{name}: the foreign vGPU {handle} was touched"
        for handle, type_id in standing.items():
            if handle in site.foreign:
                continue
            record = ours.get(handle) or on_parent.get(handle)
            assert record is not None, f"{name}: the vGPU on {handle} is in no journal"
            assert record.type_id == type_id, f"{name}: the vGPU on {handle} is not what the journal says"
            assert record.uuid in recorded, f"{name}: the vGPU {record.uuid} is paid for by nobody"
        held: dict[str, str] = {}
        for server_id, domain in state.domains.items():
            if domain.power_state.is_off:
                continue
            if (server_id, name) not in unasked:
                assert server_id not in running, f"{server_id} runs on {running[server_id]} and on {name}"
                running[server_id] = name
            for uuid, handle in domain.devices.items():
                assert handle not in held, f"{name}: {handle} is given to {held[handle]} and to {server_id}"
                assert handle not in site.foreign, f"{name}: {server_id} runs on the foreign vGPU {handle}"
                held[handle] = server_id
                assert recorded.get(uuid) == server_id, f"{name}: {server_id} runs on {uuid}, for which it does not pay"
    over = ask(_OVER_COMMITTED)
    assert not over or scene.squeezed, f"more is given than there is: {over}"
    assert not (unpaid := ask(_UNPAID)), f"records and allocations differ: {unpaid}"
    assert not (twice := ask(_HELD_TWICE)), f"held by two operations: {twice}"


def stuck_has_a_reason(scene: Scene) -> None:
    for row in scene.operations():
        if row.state == State.STUCK:
            told = row.error or {}
            assert told.get("message"), f"{row.kind} {row.id} is stuck without a reason"
            assert told.get("code") != "lamina.error", f"{row.kind} {row.id} is stuck for a reason nobody named: {told}"


def inventories_are_true(scene: Scene) -> None:
    """What Placement says of a GPU follows what stands on it, by the records: claims and releases see to it, not the next look."""
    with scene.plane.db.read() as tx:
        trees = providers.load_trees(tx)
        by_id = {p.id: p for tree in trees for p in tree.providers}
        records = hosts.gpus_of(tx)
        layouts = hosts.layouts(tx, records)
        for record in records:
            if record.provider_id is not None and record.present:
                wanted = capacity.gpu_inventory(record.gpu, layouts[record.provider_id])
                there = by_id[record.provider_id].inventories.get(record.gpu.resource_class)
                assert (there.total if there else 0) == (wanted.total if wanted else 0), f"the inventory of {record.address} is not true"


#: what a host refuses with, or is not heard
_REFUSALS = ("hypervisor refuses", "errno", "journal full", "lost request", "lost answer", "late", "agent dies", "cut")
_TURNED_BACK = "SELECT DISTINCT subject FROM sagas WHERE state IN ('undone', 'abandoned')"


def nothing_had_to_be_mended(scene: Scene) -> None:
    """What looks at hosts have removed or told anew was others' doing: an operation leaves nothing to them.

    But one whose host refused, its way back too, may not know what its server's domain does now, nor what a call that came late has
    still brought to the depot: a look tells the one and removes the other.
    """
    refused = sum(scene.trouble.struck[name] for name in _REFUSALS)
    turned_back = {subject for (subject,) in scene.stage.ask(_TURNED_BACK)} if refused > 1 else set()
    for what, server_id, why in scene.stage.ask("SELECT what, server_id, why FROM repairs"):
        match what:
            case What.RESTORE | What.EVACUATED:
                foreseen = True
            case What.ORPHAN_DOMAIN:
                foreseen = server_id in scene.left_over
            case What.POWER_STATE:
                foreseen = server_id in scene.shut_down | turned_back
            case What.ORPHAN_DISK:
                foreseen = server_id in turned_back
            case _:
                foreseen = False
        assert foreseen, f"{what} of {server_id} had to be mended: {why}"


def at_rest(scene: Scene) -> None:
    """All trouble is over, hosts were looked at, operators have said their word. Raises AssertionError."""
    scene.check()
    inventories_are_true(scene)
    nothing_had_to_be_mended(scene)
    for row in scene.stage.ask("SELECT id, vm_state, task_state, fault FROM servers WHERE deleted_at IS NULL"):
        server_id, vm_state, task_state, fault = row
        assert task_state is None, f"{server_id} stays in task state {task_state}"
        assert vm_state not in (VmState.BUILDING, VmState.DELETED), f"{server_id} stays in {vm_state}"
        assert vm_state != VmState.ERROR or fault, f"{server_id} is in ERROR and nobody knows why"
    ended = collections.Counter(state for (state,) in scene.stage.ask("SELECT state FROM sagas"))
    assert not ended.keys() - {State.DONE, State.UNDONE, State.ABANDONED}, f"operations have not ended: {ended}"
    for site in scene.sites.values():
        lost = [r.uuid for r in site.journal.records().values() if not scene.stage.ask(f"SELECT 1 FROM vgpus WHERE uuid = '{r.uuid}'")]  # noqa: S608
        assert not lost, f"{site.name}: the journal remembers what is gone: {lost}"
