"""Rules: their defaults, and an operator's file in their place."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from lamina.api.policy import Policy
from lamina.api.routing import ADMIN, ANY_USER, MEMBER, READER, Context, Reply, Request, Route
from lamina.model.errors import BadRequest, Forbidden


def _answer(request: Request) -> Reply:
    return Reply()


ROUTES = {check: Route("GET", "/", _answer, f"thing:{number}", check) for number, check in enumerate((ADMIN, MEMBER, READER, ANY_USER))}


def caller(*roles: str) -> Context:
    return Context("req", user_id="u", project_id="p", roles=frozenset(roles))


def allowed(policy: Policy, context: Context) -> set[str]:
    passed = set()
    for check, route in ROUTES.items():
        try:
            policy.enforce(route.rule, context)
        except Forbidden:
            continue
        passed.add(check)
    return passed


@pytest.mark.parametrize(
    ("roles", "checks"),
    [
        ((), {ANY_USER}),
        (("service",), {ANY_USER}),
        (("reader",), {ANY_USER, READER}),
        (("member",), {ANY_USER, READER, MEMBER}),
        (("manager",), {ANY_USER}),
        (("admin",), {ANY_USER, READER, MEMBER, ADMIN}),
    ],
)
def test_the_defaults(roles: tuple[str, ...], checks: set[str]) -> None:
    assert allowed(Policy(ROUTES.values()), caller(*roles)) == checks


def test_a_file_replaces_what_it_names(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(f'"{ROUTES[ADMIN].rule}": "role:auditor"\n"{ROUTES[ANY_USER].rule}": "!"\n')
    policy = Policy(ROUTES.values(), file)
    assert allowed(policy, caller("admin")) == {READER, MEMBER}
    assert allowed(policy, caller("auditor")) == {ADMIN}


def test_a_policy_file_lying_about_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "policy.yaml").write_text(f'"{ROUTES[ADMIN].rule}": "@"\n')
    (tmp_path / ".lamina").mkdir()
    (tmp_path / ".lamina" / "policy.yaml").write_text(f'"{ROUTES[ADMIN].rule}": "@"\n')
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    assert ADMIN not in allowed(Policy(ROUTES.values()), caller("reader"))


@pytest.mark.weakness(862)
def test_a_rule_that_nobody_registered_allows_nothing() -> None:
    with pytest.raises(Forbidden, match="stray:rule"):
        Policy(ROUTES.values()).enforce("stray:rule", caller("admin"))


def test_a_file_may_say_who_an_administrator_is(tmp_path: Path) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text('context_is_admin: "role:admin and project_id:ops"\nthing:1: "rule:trusted"\ntrusted: "role:friend"\n')
    policy = Policy(ROUTES.values(), file)
    assert allowed(policy, caller("admin")) == {ANY_USER}
    assert allowed(policy, caller("friend")) == {ANY_USER, MEMBER}


@pytest.mark.weakness(693)
@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("thing:9: role:admin", "nothing asks for the rule 'thing:9'"),
        ("thing:0: role;admin", "cannot be understood"),
        ("thing:0: role:admin and", "cannot be understood"),
        ("thing:0: rule:nowhere", "refers to one that there is not"),
        ("thing:0: rule:thing:0", "or to itself"),
        ("- thing:0", "is not made of lines like"),
        ("thing:0: [a]", "is not made of lines like"),
        ("{", "is no YAML"),
        ("thing:0: 2026-99-99", "is no YAML"),
        ("[" * 5000, "is no YAML"),
    ],
)
def test_a_file_that_does_not_say_what_its_author_means_is_refused(tmp_path: Path, text: str, why: str) -> None:
    file = tmp_path / "policy.yaml"
    file.write_text(text)
    with pytest.raises(BadRequest, match=re.escape(why)):
        Policy(ROUTES.values(), file)
    with pytest.raises(BadRequest, match="cannot be read"):
        Policy(ROUTES.values(), tmp_path / "nowhere.yaml")


def test_further_rules_that_a_handler_asks_have_defaults_too() -> None:
    route = Route("GET", "/", _answer, "a:b", READER, asks={"a:c": ADMIN})
    policy = Policy([route])
    policy.enforce("a:c", caller("admin"))
    with pytest.raises(Forbidden):
        policy.enforce("a:c", caller("reader"))
    with pytest.raises(ValueError, match="two defaults"):
        Policy([route, Route("POST", "/", _answer, "a:c", READER)])


def test_one_rule_has_one_default() -> None:
    with pytest.raises(ValueError, match="two defaults"):
        Policy([Route("GET", "/", _answer, "a:b", READER), Route("POST", "/", _answer, "a:b", ADMIN)])
    with pytest.raises(ValueError, match="no policy rule"):
        Policy([Route("GET", "/", _answer, "", READER)])


def test_a_rule_may_ask_for_the_scope_of_the_whole_system() -> None:
    route = Route("GET", "/", _answer, "thing:system", "system_scope:all")
    policy = Policy([route])
    policy.enforce(route.rule, Context("req", user_id="u", system=True))
    with pytest.raises(Forbidden):
        policy.enforce(route.rule, Context("req", user_id="u", project_id="p"))


def test_so_many_decisions_are_remembered_and_no_more() -> None:
    policy = Policy(ROUTES.values())
    sizes = []
    for number in range(10_001):
        policy.enforce(ROUTES[ANY_USER].rule, Context("req", user_id=str(number)))
        sizes.append(len(policy._allowed))
    assert sizes[-2:] == [10_000, 1]
