"""``python -m tests.mutation [MODULE…]``: the mutation score of the modules on which capacity, rights and parsing depend.

Each module is tried in a process of its own. Prints what survived, and the score without those that `equivalent.toml`
explains; fails below the score that is asked.
"""

from __future__ import annotations

import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
from hypothesis import settings

from tests.mutation.session import MutationSession

HERE = Path(__file__).parent
#: of a hundred mutants, so many have to be noticed
ASKED = 90

_PLACING = ("tests/unit/test_partitioners.py", "tests/unit/test_slots.py", "tests/pillars/test_682_calculation.py")
_CLAIMING = ("tests/unit/test_claim.py", "tests/unit/test_scheduling.py")
_PARSING = ("tests/pillars/test_697_comparison.py", "tests/pillars/test_682_calculation.py")
#: module -> the tests that cover it
MODULES = {
    "lamina.model.partitioners": _PLACING,
    "lamina.model.partitioners.same_size": _PLACING,
    "lamina.model.partitioners.shared_pool": _PLACING,
    "lamina.model.partitioners.mig": _PLACING,
    "lamina.model.partitioners.mixed_size": _PLACING,
    "lamina.model.partitioners.slots": _PLACING,
    "lamina.model.providers": ("tests/unit/test_inventory.py", "tests/pillars/test_682_calculation.py"),
    "lamina.model.capacity": _PLACING,
    "lamina.model.ids": ("tests/unit/test_ids.py", *_PARSING),
    "lamina.model.requests": ("tests/unit/test_requests.py", *_PARSING),
    "lamina.model.flavors": ("tests/unit/test_flavors.py", *_PARSING),
    "lamina.model.resources": ("tests/unit/test_resources.py",),
    "lamina.model.queueing": ("tests/unit/test_queueing.py", *_PARSING),
    "lamina.model.decoding": ("tests/unit/test_decoding.py", "tests/unit/test_nesting.py", "tests/unit/test_flavors.py"),
    "lamina.model.limits": ("tests/unit/test_limits.py",),
    "lamina.model.rates": ("tests/unit/test_rates.py",),
    "lamina.api.policy": ("tests/unit/test_policy.py",),
    "lamina.scheduling.claim": _CLAIMING,
    "lamina.scheduling.vgpus": _CLAIMING,
    "lamina.scheduling.occupying": ("tests/unit/test_occupying.py",),
}


def main(asked: list[str]) -> int:
    modules = asked or list(MODULES)
    if len(modules) > 1:
        codes = [subprocess.run([sys.executable, "-m", "tests.mutation", module], check=False).returncode for module in modules]
        return max(codes)
    (module,) = modules
    known = tomllib.loads((HERE / "equivalent.toml").read_text(encoding="utf-8")).get(module, {})
    settings.register_profile("mutation", derandomize=True, database=None, deadline=None, max_examples=40)
    session = MutationSession(module)
    tests = [test for test in MODULES[module] if Path(test).exists()]
    options = ["-q", "--no-header", "--no-summary", "-p", "no:cacheprovider", "--capture=sys", "-k", "not postgresql"]
    options += ["--hypothesis-profile", "mutation"]
    pytest.main([*options, *tests], plugins=[session])
    killed, survived = session.outcome.killed, session.outcome.survived
    unknown = known.keys() - set(survived)
    counted = len(killed) + len(survived) - sum(name in known for name in survived)
    score = 100 * len(killed) / counted if counted else 0.0
    print(f"{module}: {len(killed)} of {counted} mutants noticed, {score:.1f} %; {len(known)} make no difference", flush=True)
    for name in unknown:
        print(f"  explained, and noticed or not there: {name}", flush=True)
    return int(score < ASKED or bool(unknown))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
