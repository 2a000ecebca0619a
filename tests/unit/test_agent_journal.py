"""The journal: on disk before the call goes on, never silently emptied, and a judge of fences."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamina.agent.journal import REMEMBER_FENCES, Journal, Record
from lamina.model.errors import Conflict, HostError, StaleFence
from lamina.model.gpus import Framework
from lamina.model.hosts import Call, Fence
from lamina.model.ids import PciAddress
from tests.contract.machines import FIRST, call


def record(uuid: str, server_id: str = "server") -> Record:
    return Record(uuid, server_id, Framework.VFIO, FIRST, FIRST.virtual_function(0), "nvidia-11", "11", "boot")


def test_records_outlive_the_process(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.json")
    with journal.call(call(), "server", now=1.0):
        journal.put([record("a"), record("b")])
        assert Journal(tmp_path / "journal.json").records() == {"a": record("a"), "b": record("b")}
        journal.forget(["a", "unknown"])
    assert Journal(tmp_path / "journal.json").records() == {"b": record("b")}


def test_a_fence_outlives_the_process(tmp_path: Path) -> None:
    with Journal(tmp_path / "journal.json").call(call(epoch=5, number=2), "server", now=1.0):
        pass
    with pytest.raises(StaleFence), Journal(tmp_path / "journal.json").call(call(epoch=5, number=1), "server", now=2.0):
        raise AssertionError("a stale call was admitted")


fences = st.builds(Fence, st.integers(0, 3), st.integers(0, 3))


@given(st.lists(st.tuples(st.sampled_from(["one", "other"]), fences), max_size=12))
def test_a_call_is_admitted_unless_its_server_has_seen_a_higher_one(
    tmp_path_factory: pytest.TempPathFactory, calls: list[tuple[str, Fence]]
) -> None:
    journal = Journal(tmp_path_factory.mktemp("journal") / "journal.json")
    highest: dict[str, Fence] = {}
    for server_id, fence in calls:
        try:
            with journal.call(Call("o", "s", fence), server_id, now=1.0):
                admitted = True
        except StaleFence:
            admitted = False
        assert admitted == (fence >= highest.get(server_id, fence))
        highest[server_id] = max(fence, highest.get(server_id, fence))


def test_a_failed_call_has_been_seen_all_the_same(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.json")
    with pytest.raises(ZeroDivisionError), journal.call(call(epoch=2), "server", now=1.0):
        raise ZeroDivisionError
    with pytest.raises(StaleFence), Journal(tmp_path / "journal.json").call(call(epoch=1), "server", now=1.0):
        raise AssertionError("a stale call was admitted")


def test_a_fence_that_cannot_be_written_is_known_until_it_can(tmp_path: Path) -> None:
    folder = tmp_path / "agents"
    folder.mkdir()
    journal = Journal(folder / "journal.json")
    folder.rmdir()
    with pytest.raises(HostError), journal.call(call(epoch=2), "server", now=1.0):
        pass
    with pytest.raises(StaleFence), journal.call(call(epoch=1), "server", now=1.0):
        raise AssertionError("a stale call was admitted")
    folder.mkdir()
    with journal.call(call(epoch=1), "another", now=1.0):
        pass
    with pytest.raises(StaleFence), Journal(folder / "journal.json").call(call(epoch=1), "server", now=1.0):
        raise AssertionError("a stale call was admitted")


def test_fences_of_servers_long_gone_are_forgotten(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.json")
    for server_id, now in (("old", 1.0), ("young", 2.0), ("new", REMEMBER_FENCES + 1.5)):
        with journal.call(call(epoch=9), server_id, now):
            pass
    assert json.loads((tmp_path / "journal.json").read_bytes())["fences"].keys() == {"young", "new"}


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"[]", b"\xff\xfe", b'{"vgpus": []}', b'{"vgpus": {"a": {"uuid": "a"}}', b'{"fences": 7}'],
)
def test_a_damaged_journal_is_an_error_that_names_it_and_stays_as_it_is(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "journal.json"
    path.write_bytes(content)
    with pytest.raises(Conflict, match=r"The journal .*journal\.json is damaged"):
        Journal(path)
    assert path.read_bytes() == content


def test_an_address_that_is_none_is_damage(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.json")
    with journal.call(call(), "server", now=1.0):
        journal.put([record("a")])
    content = (tmp_path / "journal.json").read_text()
    assert '"slot":' in content
    (tmp_path / "journal.json").write_text(content.replace('"slot":0', '"slot":99'))
    damaged = Journal(tmp_path / "journal.json")
    assert damaged.records() == {}
    assert damaged.set_aside()["a"]["server_id"] == "server"


@pytest.mark.parametrize("damage", ["7", "null", '"torn"', "{}", '{"uuid": "a"}', "[[]]", '{"uuid": 7, "server_id": "s"}'])
def test_a_damaged_record_is_set_aside_and_the_others_are_there(tmp_path: Path, damage: str) -> None:
    path = tmp_path / "journal.json"
    journal = Journal(path)
    with journal.call(call(epoch=5), "server", now=1.0):
        journal.put([record("a"), record("b")])
    content = json.loads(path.read_bytes())
    content["vgpus"]["a"] = json.loads(damage)
    path.write_text(json.dumps(content))
    journal = Journal(path)
    assert journal.records() == {"b": record("b")}
    assert journal.set_aside().keys() == {"a"}
    with journal.call(call(epoch=6), "server", now=2.0):
        journal.forget(["b"])
    again = Journal(path)
    assert again.set_aside().keys() == {"a"}, "it stays until it is written anew"
    with again.call(call(epoch=6), "server", now=3.0):
        again.put([record("a")])
    assert Journal(path).set_aside() == {}
    assert Journal(path).records() == {"a": record("a")}


def test_a_record_under_anothers_uuid_is_none(tmp_path: Path) -> None:
    path = tmp_path / "journal.json"
    journal = Journal(path)
    with journal.call(call(), "server", now=1.0):
        journal.put([record("a")])
    path.write_text(path.read_text().replace('{"a":{', '{"b":{'))
    assert Journal(path).records() == {}
    assert Journal(path).set_aside()["b"]["uuid"] == "a"


def test_a_damaged_fence_refuses_all_that_came_before(tmp_path: Path) -> None:
    path = tmp_path / "journal.json"
    journal = Journal(path)
    for server_id, epoch in (("server", 5), ("other", 7)):
        with journal.call(call(epoch=epoch), server_id, now=time.time()):
            pass
    content = json.loads(path.read_bytes())
    content["fences"]["server"] = {"epoch": "x"}
    path.write_text(json.dumps(content))
    journal = Journal(path)
    with pytest.raises(StaleFence), journal.call(call(epoch=7, number=99), "server", now=time.time()):
        raise AssertionError("a stale call was admitted")
    with journal.call(call(epoch=8), "server", now=time.time()):
        pass


def test_the_highest_epoch_outlives_the_fence_that_bore_it(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.json")
    assert journal.epoch == 0
    with journal.call(call(epoch=9), "old", now=1.0):
        pass
    with journal.call(call(epoch=3), "new", now=REMEMBER_FENCES * 2):
        pass
    assert Journal(tmp_path / "journal.json").epoch == 9


def test_what_cannot_be_written_has_not_been_made(tmp_path: Path) -> None:
    folder = tmp_path / "agents"
    folder.mkdir()
    journal = Journal(folder / "journal.json")
    folder.rmdir()
    with pytest.raises(HostError, match=r"journal\.json cannot be written: No such file or directory"), journal.call(call(), "s", now=1.0):
        journal.put([record("a")])
    assert journal.records() == {}


def test_a_half_written_draft_is_not_looked_at(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.json")
    with journal.call(call(), "server", now=1.0):
        journal.put([record("a")])
    (tmp_path / "journal.new").write_bytes(b"{")
    assert Journal(tmp_path / "journal.json").records().keys() == {"a"}


def test_records_keep_their_addresses(tmp_path: Path) -> None:
    journal = Journal(tmp_path / "journal.json")
    with journal.call(call(), "server", now=1.0):
        journal.put([record("a")])
    assert Journal(tmp_path / "journal.json").records()["a"].parent == PciAddress.parse("0000:81:00.4")


@pytest.mark.weakness(732)
def test_a_journal_is_for_its_owner_alone(tmp_path: Path) -> None:
    """Whatever the process's mask is: an agent begins on no journal that others may write to."""
    before = os.umask(0)
    try:
        Journal(tmp_path / "journal.json").put([])
    finally:
        os.umask(before)
    assert (tmp_path / "journal.json").stat().st_mode & 0o777 == 0o600
