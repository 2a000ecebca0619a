"""Who may make which call: oslo.policy over the route tables, so that operators' policy files work as they know them."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from oslo_config import cfg
from oslo_policy import policy as oslo_policy

from lamina.api.routing import Context, Route
from lamina.model.errors import Forbidden

_MOST_KEPT = 10_000


class Policy:
    """Every route's rule with its default; a file given by the operator may replace each."""

    def __init__(self, routes: Iterable[Route], file: Path | None = None) -> None:
        conf = cfg.ConfigOpts()
        conf([], project="lamina", default_config_files=[], default_config_dirs=[])
        self._enforcer = oslo_policy.Enforcer(conf, policy_file=str(file) if file else None)
        #: (rule, who) -> what the rules say, which stay as they are for as long as this process runs
        self._allowed: dict[tuple[str, str | None, str | None, frozenset[str], bool], bool] = {}
        checks: dict[str, str] = {}
        for route in routes:
            if not route.rule:
                raise ValueError(f"{route.method} {route.path} has no policy rule")
            if checks.setdefault(route.rule, route.check) != route.check:
                raise ValueError(f"policy rule {route.rule} has two defaults")
        defaults = [oslo_policy.RuleDefault(name, check) for name, check in checks.items()]
        self._enforcer.register_defaults(defaults)
        if file is None:
            # never a policy.yaml that happens to lie in a folder the library looks into
            self._enforcer.set_rules({default.name: default.check for default in defaults}, use_conf=False)
        else:
            self._enforcer.load_rules()

    def enforce(self, route: Route, context: Context) -> None:
        """Raises `Forbidden` where the rule of the route says no."""
        asked = (route.rule, context.user_id, context.project_id, context.roles, context.system)
        if asked not in self._allowed:
            if len(self._allowed) >= _MOST_KEPT:
                self._allowed.clear()
            self._allowed[asked] = self._decide(route, context)
        if not self._allowed[asked]:
            raise Forbidden(f"Policy doesn't allow {route.rule} to be performed.")

    def _decide(self, route: Route, context: Context) -> bool:
        credentials = {
            "user_id": context.user_id,
            "project_id": context.project_id,
            "roles": sorted(context.roles),
            "system_scope": "all" if context.system else None,
        }
        target = {"user_id": context.user_id, "project_id": context.project_id}
        return bool(self._enforcer.enforce(route.rule, target, credentials))
