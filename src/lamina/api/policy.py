"""Who may make which call: oslo.policy over the route tables, so that operators' policy files work as they know them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import yaml
from oslo_config import cfg
from oslo_policy import policy as oslo_policy

from lamina.api.routing import PERSONAS, Context, Route
from lamina.model.errors import BadRequest, Forbidden

_MOST_KEPT = 10_000
_REFERENCE = re.compile(r"\brule:([^\s()]+)")


class Policy:
    """Every route's rule with its default; a file given by the operator may replace each."""

    def __init__(self, routes: Iterable[Route], file: Path | None = None) -> None:
        """Raises `BadRequest` for a file with a rule that nothing asks for or that cannot be understood: what it was to forbid
        would be allowed, or the reverse.
        """
        conf = cfg.ConfigOpts()
        conf([], project="lamina", default_config_files=[], default_config_dirs=[])
        self._enforcer = oslo_policy.Enforcer(conf)
        #: (rule, who) -> what the rules say, which stay as they are for as long as this process runs
        self._allowed: dict[tuple[str, str | None, str | None, frozenset[str], bool, str | None, frozenset[str]], bool] = {}
        checks = defaults(routes)
        if file is not None:
            checks |= _read(file, checks)
        # never a policy.yaml that happens to lie in a folder the library looks into
        self._enforcer.set_rules({name: oslo_policy.RuleDefault(name, check).check for name, check in checks.items()}, use_conf=False)
        try:
            self._enforcer.check_rules(raise_on_violation=True)
        except oslo_policy.InvalidDefinitionError as error:
            raise BadRequest(f"--policy-file: {file}: a rule refers to one that there is not, or to itself: {error}") from error

    def enforce(self, rule: str, context: Context) -> None:
        """Raises `Forbidden` where the rule says no."""
        asked = (rule, context.user_id, context.project_id, context.roles, context.system, context.domain_id, context.domain_roles)
        if asked not in self._allowed:
            if len(self._allowed) >= _MOST_KEPT:
                self._allowed.clear()
            self._allowed[asked] = self._decide(rule, context)
        if not self._allowed[asked]:
            raise Forbidden(f"Policy doesn't allow {rule} to be performed.")

    def _decide(self, rule: str, context: Context) -> bool:
        credentials = {
            "user_id": context.user_id,
            "project_id": context.project_id,
            "roles": sorted(context.roles),
            "system_scope": "all" if context.system else None,
            "domain_id": context.domain_id,
            "domain_roles": sorted(context.domain_roles),
        }
        target = {"user_id": context.user_id, "project_id": context.project_id}
        return bool(self._enforcer.enforce(rule, target, credentials))


def defaults(routes: Iterable[Route]) -> dict[str, str]:
    """Rule -> check. Raises ValueError for a route without a rule, or one rule with two defaults."""
    checks: dict[str, str] = dict(PERSONAS)
    for route in routes:
        if not route.rule:
            raise ValueError(f"{route.method} {route.path} has no policy rule")
        for rule, check in {route.rule: route.check, **route.asks}.items():
            if checks.setdefault(rule, check) != check:
                raise ValueError(f"policy rule {rule} has two defaults")
    return checks


def _read(file: Path, known: Mapping[str, str]) -> dict[str, str]:
    try:
        said = yaml.safe_load(file.read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise BadRequest(f"--policy-file: {file} cannot be read: {error.strerror}") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:  # no UTF-8, a date that is none, lists in lists in lists
        raise BadRequest(f"--policy-file: {file} is no YAML: {error}") from error
    return _understood(said, file, known)


def _understood(said: object, file: Path, known: Mapping[str, str]) -> dict[str, str]:
    """What a file says, if it is rules, each of them asked for and to be understood. Raises `BadRequest`."""
    if not isinstance(said, dict) or not all(isinstance(word, str) for pair in said.items() for word in pair):
        raise BadRequest(f"--policy-file: {file} is not made of lines like \"os_compute_api:servers:create\": \"role:member\"")
    referred = {name for check in said.values() for name in _REFERENCE.findall(check)}
    for name, check in said.items():
        if name not in known and name not in referred:
            raise BadRequest(f"--policy-file: {file}: nothing asks for the rule {name!r}; 'lamina policy' prints those that there are")
        # what the library does not understand it takes for a check that nobody passes
        if str(oslo_policy.RuleDefault(name, check).check) == "!" and check.strip() != "!":
            raise BadRequest(f"--policy-file: {file}: the check of {name!r} cannot be understood: {check!r}")
    return said
