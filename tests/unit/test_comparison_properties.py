"""What holds of every plan, whatever the four views say: a small fleet's worth of worlds, drawn."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from lamina.model.gpus import VgpuState
from lamina.model.hosts import DomainReport, GpuReport, HostReport, PowerState, VgpuReport
from lamina.model.repairs import REBOOTED
from lamina.model.servers import Server, TaskState, VmState
from lamina.operations.comparison import Plan, View, is_older, plan
from lamina.store.hosts import Vgpu
from tests.unit.test_comparison import ADDRESS, GPU, TYPE, recorded, view
from tests.unit.test_servers import server

SERVERS = ("a", "b", "c")
VGPUS = tuple(f"{owner}{n}" for owner in SERVERS for n in (1, 2))
HOSTS = ("h", "other", None)
POWER = st.sampled_from(sorted(PowerState))


def device(uuid: str, *, ours: bool) -> VgpuReport:
    return VgpuReport(uuid, ADDRESS, ADDRESS, TYPE.name, ours=ours, server_id=uuid[0] if ours else None)


def record(uuid: str) -> Vgpu:
    return Vgpu(uuid, "h", ADDRESS, "provider", TYPE.name, ADDRESS, None, uuid[0], uuid[0], "operation", VgpuState.ATTACHED, 0.0)


@st.composite
def owners(draw: st.DrawFn, name: str) -> Server:
    state = draw(st.sampled_from(sorted(VmState)))
    task = draw(st.sampled_from([None, None, None, TaskState.REBOOTING]))
    return dataclasses.replace(server(state, task), id=name, host=draw(st.sampled_from(HOSTS)), power_state=draw(POWER))


@st.composite
def views(draw: st.DrawFn) -> View:
    """Any combination of what is there, what is recorded, what is busy, what was seen before and when."""
    standing = draw(st.sets(st.sampled_from(VGPUS)))
    foreign = draw(st.sets(st.sampled_from(VGPUS))) - standing
    lost = tuple(device(uuid, ours=True) for uuid in sorted(draw(st.sets(st.sampled_from(VGPUS))) - standing - foreign))
    devices = tuple(device(uuid, ours=uuid in standing) for uuid in sorted(standing | foreign))
    marked = draw(st.dictionaries(st.sampled_from(SERVERS), st.tuples(POWER, st.booleans())))
    domains = tuple(DomainReport(one, one, power, (), one if ours else None) for one, (power, ours) in sorted(marked.items()))
    boot_id = draw(st.sampled_from(["boot", "another"]))
    report = HostReport("h", boot_id, 8, 8192, 100, "simulated", 1, (GpuReport(GPU, {}, devices),), domains)
    keys = st.one_of(
        st.tuples(st.just("orphan-vgpu"), st.sampled_from(VGPUS)),
        st.tuples(st.sampled_from(["orphan-domain", REBOOTED]), st.sampled_from(SERVERS)),
    )
    return view(
        dataclasses.replace(report, sequence=draw(st.integers(0, 3)), lost=lost),
        *[draw(owners(name)) for name in sorted(draw(st.sets(st.sampled_from(SERVERS))))],
        records=tuple(record(uuid) for uuid in sorted(draw(st.sets(st.sampled_from(VGPUS))))),
        before=draw(st.sampled_from([None, recorded(sequence=1, heard_at=100.0)])),
        moving=draw(st.dictionaries(st.sampled_from(["m", "n"]), st.sampled_from(SERVERS))),
        busy=draw(st.sets(st.sampled_from(SERVERS))),
        clearing=draw(st.sets(st.sampled_from(SERVERS), max_size=1)),
        evacuated=draw(st.dictionaries(st.just("e"), st.sampled_from(SERVERS))),
        sightings=draw(st.dictionaries(keys, st.floats(0.0, 101.0))),
        asked_at=draw(st.floats(90.0, 110.0)),
        now=draw(st.floats(110.0, 300.0)),
        behind=draw(st.booleans()),
    )


def touched(made: Plan) -> set[str]:
    """Every server that a plan does anything to."""
    return {lack.server_id for lack in made.lacks} | set(made.told) | {one.server_id for one in made.removals}


@settings(max_examples=200)
@given(views())
@pytest.mark.weakness(435)
def test_nothing_foreign_is_in_a_plan(seen: View) -> None:
    made = plan(seen)
    ours = {v.uuid for g in seen.report.gpus for v in g.vgpus if v.ours} | {v.uuid for v in seen.report.lost}
    marked = {d.server_id for d in seen.report.domains if d.server_id is not None}
    for one in (*made.removals, *made.waiting):
        assert set(one.vgpus) <= ours
        assert not one.domain or one.server_id in marked


@settings(max_examples=200)
@given(views())
def test_nothing_of_a_server_that_an_operation_holds_is_in_a_plan(seen: View) -> None:
    made = plan(seen)
    assert not touched(made) & seen.busy
    assert not {one.server_id for one in made.waiting} & seen.busy, "nor does its time begin to run"
    seen_to = seen.clearing | set(seen.evacuated.values())
    assert not {one.server_id for one in (*made.removals, *made.waiting)} & seen_to, "what is being cleared is not cleared twice"


@settings(max_examples=200)
@given(views())
def test_what_a_record_has_and_what_lives_here_is_never_removed(seen: View) -> None:
    recorded_here = {r.uuid for r in seen.records}
    for one in plan(seen).removals:
        assert not set(one.vgpus) & recorded_here
        owner = seen.servers.get(one.server_id)
        assert not one.domain or owner is None or owner.vm_state is VmState.DELETED or owner.host != "h"


@settings(max_examples=200)
@given(views())
@pytest.mark.weakness(435)
def test_an_older_report_removes_nothing_and_nothing_goes_that_was_not_seen_before(seen: View) -> None:
    made = plan(seen)
    for one in made.removals:
        assert all(key in seen.sightings and seen.now - seen.sightings[key] >= seen.grace for key in one.keys)
    late = dataclasses.replace(
        seen,
        report=dataclasses.replace(seen.report, sequence=1),
        before=recorded(sequence=2, heard_at=200.0),
        asked_at=200.0,
    )
    assert touched(plan(late)) == set()


def carried_out(seen: View, made: Plan) -> View:
    """The world after a plan, and a new report of it."""
    gone = {uuid for one in made.removals for uuid in one.vgpus}
    undefined = {one.server_id for one in made.removals if one.domain}
    restored = {lack.server_id: lack.params.running for lack in made.lacks}
    there = {v.uuid: v for g in seen.report.gpus for v in g.vgpus if v.uuid not in gone}
    there |= {r.uuid: device(r.uuid, ours=True) for r in seen.records if r.server_id in restored}
    domains = {d.server_id or d.uuid: d for d in seen.report.domains if d.server_id not in undefined}
    servers = dict(seen.servers)
    for server_id, running in restored.items():
        if running is None:
            continue
        power = PowerState.RUNNING if running else PowerState.SHUTDOWN
        domains[server_id] = DomainReport(server_id, server_id, power, (), server_id)
        state = servers[server_id].vm_state
        shown = state if state is VmState.RESIZED else VmState.ACTIVE if running else VmState.STOPPED
        servers[server_id] = dataclasses.replace(servers[server_id], vm_state=shown, power_state=power)
    for server_id, (vm_state, power_state) in made.told.items():
        servers[server_id] = dataclasses.replace(servers[server_id], vm_state=vm_state, power_state=power_state)
    report = dataclasses.replace(
        seen.report, gpus=(GpuReport(GPU, {}, tuple(there.values())),), domains=tuple(domains.values()), sequence=9,
        lost=tuple(v for v in seen.report.lost if v.uuid not in gone),
    )
    after: dict[str, Any] = {"report": report, "servers": servers, "sightings": dict.fromkeys(made.sightings, seen.now)}
    return dataclasses.replace(seen, **after, before=recorded(report.boot_id, 8, 100.0), asked_at=200.0)


@settings(max_examples=200)
@given(views())
def test_a_second_plan_after_the_first_was_carried_out_does_nothing(seen: View) -> None:
    assume(not is_older(seen.report, seen.before, seen.asked_at))
    made = plan(seen)
    again = plan(carried_out(seen, made))
    assert touched(again) == set()


@settings(max_examples=200)
@given(views())
def test_a_plan_depends_on_nothing_but_what_it_is_given(seen: View) -> None:
    assert plan(seen) == plan(seen)
