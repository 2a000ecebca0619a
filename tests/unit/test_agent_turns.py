"""One server's calls follow one another; another server's do not wait for them."""

from __future__ import annotations

import threading

from lamina.agent.turns import Turns


def test_calls_about_one_server_follow_one_another() -> None:
    turns, said, inside, begun = Turns(), [], threading.Event(), threading.Event()

    def second() -> None:
        begun.set()
        with turns.of("a"):
            said.append("second")

    thread = threading.Thread(target=second)
    with turns.of("a"):
        thread.start()
        assert begun.wait(10)
        inside.wait(0.05)
        said.append("first")
    thread.join()
    assert said == ["first", "second"]


def test_another_server_does_not_wait() -> None:
    turns, done = Turns(), threading.Event()

    def other() -> None:
        with turns.of("b"):
            done.set()

    with turns.of("a"):
        thread = threading.Thread(target=other)
        thread.start()
        assert done.wait(10)
    thread.join()


def test_nothing_is_remembered_of_servers_that_nobody_works_on() -> None:
    turns = Turns()
    with turns.of("a"), turns.of("b"):
        assert set(turns._turns) == {"a", "b"}
    assert turns._turns == {}
