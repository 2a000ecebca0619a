"""A host's mailbox on a clock that stands still: calls that get lost, come twice, or meet a host that is silent or began anew."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Iterator

import msgspec
import pytest

from lamina.hosts import mailbox
from lamina.hosts.mailbox import GRACE, Mailbox
from lamina.hosts.wire import Given, Poll, Result
from lamina.model.errors import Conflict, HostUnreachable
from tests.contract.machines import StillClock

PARK = 25.0
NOTHING = msgspec.Raw(b"{}")
Calling = concurrent.futures.Future[Result]


class Host:
    """A host's side, without a network: every poll is answered at once."""

    def __init__(self) -> None:
        self.clock = StillClock()
        self.mailbox = Mailbox("host", self.clock)
        self.session = "first"
        self.woken: list[int] = []

    def poll(self, *results: str, running: tuple[str, ...] = (), leaving: bool = False) -> list[Given]:
        """One poll, from its arrival to its answer."""
        number = self.park(*results, running=running, leaving=leaving)
        calls = self.mailbox.collect(number)
        self.mailbox.end(number)
        return calls

    def park(self, *results: str, running: tuple[str, ...] = (), leaving: bool = False) -> int:
        """A poll arrives, and waits."""
        said = Poll(self.session, [Result(call_id, msgspec.Raw(b'"done"')) for call_id in results], list(running), leaving=leaving)
        number, _ = self.mailbox.begin(said, lambda: self.woken.append(1), PARK)
        return number


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch) -> Host:
    monkeypatch.setattr(mailbox, "LOOK", 0.01)
    host = Host()
    host.poll()
    return host


@pytest.fixture
def callers() -> Iterator[concurrent.futures.ThreadPoolExecutor]:
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        yield pool


class Callers:
    """Threads of the control plane."""

    def __init__(self, host: Host, pool: concurrent.futures.ThreadPoolExecutor) -> None:
        self._host = host
        self._pool = pool

    def call(self, method: str = "report", timeout: float = 60.0) -> Calling:
        """A call that is in the mailbox when this returns."""
        before = len(self._host.mailbox._letters)
        calling = self._pool.submit(self._host.mailbox.call, method, NOTHING, timeout)
        while len(self._host.mailbox._letters) == before and not calling.done():
            pass
        return calling


@pytest.fixture
def control(host: Host, callers: concurrent.futures.ThreadPoolExecutor) -> Callers:
    return Callers(host, callers)


def test_a_call_is_handed_out_and_answered(host: Host, control: Callers) -> None:
    calling = control.call("set_power")
    (given,) = host.poll()
    assert (given.method, given.parameters) == ("set_power", NOTHING)
    assert host.poll(running=(given.id,)) == []
    assert host.poll(given.id) == []
    assert bytes(calling.result().answer) == b'"done"'


def test_a_parked_poll_is_woken_by_a_call(host: Host, control: Callers) -> None:
    number = host.park()
    assert host.mailbox.must_wait(number)
    calling = control.call()
    assert host.woken == [1]
    assert not host.mailbox.must_wait(number)
    (given,) = host.mailbox.collect(number)
    host.mailbox.end(number)
    host.poll(given.id)
    calling.result()


def test_a_call_that_got_lost_on_its_way_is_handed_out_again(host: Host, control: Callers) -> None:
    calling = control.call()
    (lost,) = host.poll()
    assert host.poll() == [lost]
    assert host.poll(running=(lost.id,)) == []
    host.poll(lost.id)
    calling.result()


def test_an_answer_that_comes_twice_is_heard_once(host: Host, control: Callers) -> None:
    first = control.call()
    (given,) = host.poll()
    host.poll(given.id)
    second = control.call()
    assert [g.id == given.id for g in host.poll(given.id)] == [False]
    assert first.result().id == given.id
    assert not second.done()
    host.mailbox.begin(Poll("another", []), lambda: None, PARK)
    with pytest.raises(HostUnreachable):
        second.result()


def test_a_silent_host_is_told_at_once(host: Host) -> None:
    host.clock.sleep(GRACE + 1)
    with pytest.raises(HostUnreachable, match=r"Host host does not answer\."):
        host.mailbox.call("report", NOTHING, 60.0)
    assert host.mailbox._letters == {}


def test_a_host_that_was_never_heard_is_silent() -> None:
    with pytest.raises(HostUnreachable):
        Mailbox("host", StillClock()).call("report", NOTHING, 60.0)


def test_one_that_has_not_come_yet_is_given_the_time_to(callers: concurrent.futures.ThreadPoolExecutor) -> None:
    """What is to be done there waits; what only looks does not, and nobody waits once the time is over."""
    host = Host()
    calling = callers.submit(host.mailbox.call, "set_power", NOTHING, 60.0, 30.0)
    with pytest.raises(HostUnreachable):
        host.mailbox.call("report", NOTHING, 60.0)
    assert not calling.done()
    handed: list[Given] = []
    while not handed:
        handed = host.poll()
    host.poll(handed[0].id)
    assert bytes(calling.result().answer) == b'"done"'

    late = Host()
    late.clock.sleep(31)
    with pytest.raises(HostUnreachable):
        late.mailbox.call("set_power", NOTHING, 60.0, 30.0)


def test_a_parked_poll_is_answered_when_there_is_something_to_tell(host: Host) -> None:
    number = host.park()
    host.mailbox.nudge()
    assert host.woken == [1]
    assert host.mailbox.collect(number) == []
    host.mailbox.end(number)
    host.mailbox.nudge()
    assert host.woken == [1]


def test_a_parked_host_is_there_for_as_long_as_it_may_be_parked(host: Host) -> None:
    host.park()
    host.clock.sleep(PARK + GRACE)
    assert host.mailbox.is_there()
    host.clock.sleep(1)
    assert not host.mailbox.is_there()


def test_a_host_that_hung_up_has_little_time_to_come_again(host: Host) -> None:
    host.mailbox.end(host.park())
    host.clock.sleep(GRACE)
    assert host.mailbox.is_there()
    host.clock.sleep(1)
    assert not host.mailbox.is_there()


@pytest.mark.parametrize("handed_out", [False, True])
def test_a_host_that_falls_silent_has_its_callers_told(host: Host, control: Callers, handed_out: bool) -> None:
    calling = control.call()
    if handed_out:
        host.poll()
    host.clock.sleep(GRACE + 1)
    with pytest.raises(HostUnreachable, match="has fallen silent"):
        calling.result()
    assert host.poll() == []


def test_a_new_session_has_forgotten_what_was_with_the_old_one(host: Host, control: Callers) -> None:
    with_it = control.call("ensure_domain")
    host.poll()
    waiting = control.call("set_power")
    host.session = "second"
    (given,) = host.poll()
    with pytest.raises(HostUnreachable, match="began anew while the call was with it"):
        with_it.result()
    assert given.method == "set_power"
    host.poll(given.id)
    waiting.result()


def test_a_caller_that_waited_long_enough_takes_its_call_back(host: Host, control: Callers) -> None:
    calling = control.call(timeout=2.0)
    host.clock.sleep(3)
    with pytest.raises(HostUnreachable, match="has not done report within 2 seconds"):
        calling.result()
    assert host.poll() == []


def test_what_comes_after_the_caller_has_gone_is_dropped(host: Host, control: Callers) -> None:
    calling = control.call(timeout=2.0)
    (given,) = host.poll()
    host.clock.sleep(3)
    with pytest.raises(HostUnreachable):
        calling.result()
    assert host.poll(given.id) == []


def test_a_poll_that_another_has_replaced_collects_nothing(host: Host, control: Callers) -> None:
    old = host.park()
    new = host.park()
    assert host.woken == [1]
    assert not host.mailbox.must_wait(old)
    calling = control.call()
    assert host.mailbox.collect(old) == []
    host.mailbox.end(old)
    (given,) = host.mailbox.collect(new)
    host.mailbox.end(new)
    host.poll(given.id)
    calling.result()


def test_a_host_that_takes_its_leave_is_silent_at_once(host: Host, control: Callers) -> None:
    handed = control.call()
    (given,) = host.poll()
    waiting = control.call()
    host.poll(given.id, leaving=True)
    handed.result()
    with pytest.raises(HostUnreachable, match="is ending"):
        waiting.result()
    assert not host.mailbox.is_there()


def test_a_host_that_is_ending_is_there_until_it_has_finished(host: Host, control: Callers) -> None:
    handed = control.call("ensure_domain")
    (given,) = host.poll()
    host.poll(running=(given.id,), leaving=True)
    host.clock.sleep(GRACE)
    host.poll(running=(given.id,), leaving=True)
    waiting = control.call()
    host.poll(given.id, leaving=True)
    handed.result()
    with pytest.raises(HostUnreachable, match="is ending"):
        waiting.result()
    assert not host.mailbox.is_there()


@pytest.mark.parametrize("how", ["replaced", "left"])
def test_what_a_past_session_still_had_on_its_way_comes_too_late(host: Host, control: Callers, how: str) -> None:
    host.poll(leaving=how == "left")
    host.session = "second"
    host.poll()
    calling = control.call()
    (given,) = host.poll()
    host.session = "first"
    with pytest.raises(Conflict, match="another one speaks for host host since"):
        host.poll()
    host.session = "second"
    host.poll(given.id)
    calling.result()


def test_closing_lets_go_of_what_is_parked(host: Host) -> None:
    number = host.park()
    host.mailbox.close()
    assert host.woken == [1]
    assert not host.mailbox.must_wait(number)
