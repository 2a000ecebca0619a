"""What travels: every method of `Compute` with all of its parameters and answers, and every error as the error it is."""

from __future__ import annotations

import concurrent.futures
import errno
import inspect
from typing import Any

import msgspec
import pytest

from lamina.hosts.directory import Compute
from lamina.hosts.remote import RemoteCompute
from lamina.hosts.wire import METHODS, Failure, Given
from lamina.hosts.work import Work
from lamina.model import errors
from lamina.model.errors import DeviceRefused, HostError, LaminaError, NoValidHost, StaleFence
from lamina.model.hosts import (
    Call,
    Console,
    DiskContent,
    DomainReport,
    DomainSpec,
    Fence,
    ImageSource,
    Landing,
    Nic,
    PowerAction,
    PowerState,
    Transfer,
    VgpuReport,
    VgpuSpec,
)
from lamina.model.ids import PciAddress

ADDRESS = PciAddress.parse("0000:81:00.0")
CALL = Call("operation", "step", Fence(7, 3))
IMAGE, NIC = ImageSource("i", "ab" * 64, 1 << 33, "qcow2"), Nic("lan", "fa:16:3e:00:00:01")
DOMAIN = DomainSpec("s", "lamina-s", 4, 4096, 40, ("v",), True, IMAGE, (NIC,), {"a": b"\0\xff"})
REPORT = DomainReport("s", "lamina-s", PowerState.RUNNING, ("v",), "s")

LANDING = Landing("two", "two.example.org", "<domain/>")
TRANSFER = Transfer(True, PowerState.RUNNING, None, memory_total=3 << 40, memory_processed=1, memory_remaining=(3 << 40) - 1)

#: method -> parameters, answer
EXAMPLES: dict[str, tuple[tuple[Any, ...], Any]] = {
    "ensure_vgpus": (
        (CALL, [VgpuSpec("v", "s", ADDRESS, "NVIDIA A40-8Q", ADDRESS)]),
        (VgpuReport("v", ADDRESS, ADDRESS, "NVIDIA A40-8Q", ours=True, server_id="s"),),
    ),
    "release_vgpus": ((CALL, "s", ["v", "w"]), None),
    "ensure_domain": ((CALL, DOMAIN), REPORT),
    "set_power": ((CALL, "s", PowerAction.SOFT_REBOOT), REPORT),
    "suspend_domain": ((CALL, "s"), REPORT),
    "resume_domain": ((CALL, DOMAIN), REPORT),
    "fit_domain": ((CALL, DOMAIN), REPORT),
    "remove_domain": ((CALL, "s"), None),
    "renew_disk": ((CALL, DOMAIN), None),
    "send_disk": ((CALL, "s"), DiskContent("ab" * 64, 1 << 40)),
    "take_disk": ((CALL, "s", DiskContent("ab" * 64, 1 << 40)), None),
    "expect_domain": ((CALL, DOMAIN), LANDING),
    "send_domain": ((CALL, "s", LANDING), None),
    "transfer": (("s",), TRANSFER),
    "stop_transfer": ((CALL, "s"), TRANSFER),
    "console_output": (("s", None), "login: \x1b[0m\n"),
    "console": (("s",), Console("vnc", "::1", 5900)),
}


class Recording:
    """Answers what it is told to, and keeps what it was asked."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[tuple[Any, ...]] = []

    def __getattr__(self, name: str) -> Any:
        def method(*given: Any) -> Any:
            self.asked.append((name, *given))
            if isinstance(self.answer, Exception):
                raise self.answer
            return self.answer

        return method


class Inline(concurrent.futures.Executor):
    """Does what it is given at once, or when told to."""

    def __init__(self, *, hold: bool = False) -> None:
        self.hold = hold
        self.held: list[tuple[Any, ...]] = []

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> concurrent.futures.Future[Any]:
        if self.hold:
            self.held.append((fn, *args))
        else:
            fn(*args, **kwargs)
        return concurrent.futures.Future()


def test_a_remote_host_answers_every_method_of_the_port() -> None:
    port = {name for name, member in vars(Compute).items() if inspect.isfunction(member) and not name.startswith("_")}
    assert port == METHODS.keys() == vars(RemoteCompute).keys() & port
    assert port - {"report"} == EXAMPLES.keys()


@pytest.mark.parametrize("name", EXAMPLES)
def test_parameters_and_answers_arrive_as_they_were(name: str) -> None:
    parameters, answer = EXAMPLES[name]
    method, compute = METHODS[name], Recording(answer)
    given = method.encode(*parameters)
    assert method.decode(method.call(compute, given)) == answer
    assert compute.asked == [(name, *parameters)]


def test_an_answer_of_another_shape_is_told_as_such() -> None:
    with pytest.raises(HostError, match="is it of another version"):
        METHODS["set_power"].decode(msgspec.Raw(b'{"uuid": 1}'))


ERRORS = [e for e in vars(errors).values() if inspect.isclass(e) and issubclass(e, LaminaError) and e not in (NoValidHost, DeviceRefused)]


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_is_the_same_error_again(kind: type[LaminaError]) -> None:
    sent = msgspec.json.encode(Failure.of(kind("why it was", secret="not for others")))
    again = msgspec.json.decode(sent, type=Failure).as_error()
    assert (type(again), again.message, str(again), again.context) == (kind, "why it was", "why it was", {})
    assert b"not for others" not in sent


def test_a_refusal_keeps_the_kernels_number() -> None:
    error = DeviceRefused("The kernel said no", errno.ENOSPC)
    again = Failure.of(error).as_error()
    assert isinstance(again, DeviceRefused)
    assert (again.errno, again.message) == (errno.ENOSPC, "The kernel said no (ENOSPC)")


@pytest.mark.parametrize("code", ["lamina.of_tomorrow", NoValidHost.code])
def test_an_error_that_is_not_known_is_a_hosts_error(code: str) -> None:
    again = Failure(code, "why it was").as_error()
    assert (type(again), again.message) == (HostError, "why it was")


# ------------------------------------------------------------------------------------------------ on the host


def given(call_id: str = "call", method: str = "remove_domain") -> Given:
    return Given(call_id, method, METHODS["remove_domain"].encode(CALL, "s"))


def work(answer: Any = None, *, hold: bool = False) -> tuple[Work, Recording, Inline, list[int]]:
    compute, pool, news = Recording(answer), Inline(hold=hold), list[int]()
    return Work(compute, pool, lambda: news.append(1)), compute, pool, news


def test_a_call_is_done_and_its_answer_fetched_once() -> None:
    doing, compute, _, news = work()
    doing.take([given()])
    assert [(r.id, bytes(r.answer), r.failure) for r in doing.fetch()] == [("call", b"null", None)]
    assert (doing.fetch(), doing.running(), news) == ([], [], [1])
    assert compute.asked == [("remove_domain", CALL, "s")]


def test_a_call_that_comes_again_while_it_is_done_is_done_once() -> None:
    doing, compute, pool, _ = work(hold=True)
    doing.take([given()])
    doing.take([given()])
    assert doing.running() == ["call"]
    ((function, argument),) = pool.held
    function(argument)
    assert doing.running() == []
    assert len(doing.fetch()) == len(compute.asked) == 1


def test_a_call_that_comes_again_after_it_was_done_is_answered_with_what_it_had() -> None:
    doing, compute, _, news = work()
    doing.take([given()])
    first = doing.fetch()
    doing.take([given()])
    assert doing.fetch() == first
    assert (len(compute.asked), news) == (1, [1, 1])


def test_an_answer_that_did_not_arrive_is_sent_again() -> None:
    doing, *_ = work()
    doing.take([given("a"), given("b")])
    lost = doing.fetch()
    doing.take([given("c")])
    doing.put_back(lost)
    assert sorted(r.id for r in doing.fetch()) == ["a", "b", "c"]


@pytest.mark.parametrize(
    ("raised", "kind", "told"),
    [
        (StaleFence("a newer one"), StaleFence, "a newer one"),
        (RuntimeError("a secret of the host"), LaminaError, "unexpected error; its log on the host tells more"),
    ],
)
def test_what_went_wrong_is_told(raised: Exception, kind: type[LaminaError], told: str) -> None:
    doing, *_ = work(raised)
    doing.take([given()])
    (result,) = doing.fetch()
    assert result.failure is not None
    error = result.failure.as_error()
    assert type(error) is kind
    assert told in error.message
    assert "secret" not in error.message


@pytest.mark.weakness(439)
def test_a_call_of_another_version_is_refused_and_does_no_harm() -> None:
    doing, compute, *_ = work()
    doing.take([given("a", "of_tomorrow"), Given("b", "set_power", msgspec.Raw(b"{}"))])
    failures = [r.failure for r in doing.fetch()]
    assert [f.code if f else None for f in failures] == [HostError.code, HostError.code]
    assert compute.asked == []
