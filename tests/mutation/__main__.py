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
from hypothesis import Phase, settings

from tests.mutation.session import MutationSession

HERE = Path(__file__).parent
#: of a hundred mutants, so many have to be noticed
ASKED = 90

_PLACING = ("tests/unit/test_partitioners.py", "tests/unit/test_slots.py", "tests/pillars/test_682_calculation.py")
#: without those that search a card of a thousand times as many slots for hours
_OF_MIXED_SIZE = (
    "test_starts_are_the_drivers",
    "test_a_card_has_a_slot_for_each_whole_gibibyte_and_a_begun_one_is_taken_whole",
    "test_what_just_fits_has_one_place_and_what_does_not_has_none",
    "test_of_the_smallest_one_place_in_sixteen_is_left_out_all_along_the_card",
)
#: without the one that looks at processes of their own, where there is no mutant
_OF_DECODING = "tests/unit/test_decoding.py::test_a_type_is_worked_out_once_by_who_holds_the_lock_and_before_it_is_used"
_CLAIMING = ("tests/unit/test_claim.py", "tests/unit/test_scheduling.py")
_PARSING = ("tests/pillars/test_697_comparison.py", "tests/pillars/test_682_calculation.py")
#: module -> the tests that cover it
MODULES = {
    "lamina.model.partitioners": _PLACING,
    "lamina.model.partitioners.same_size": _PLACING,
    "lamina.model.partitioners.shared_pool": _PLACING,
    "lamina.model.partitioners.mig": _PLACING,
    "lamina.model.partitioners.mixed_size": tuple(f"tests/unit/test_slots.py::{name}" for name in _OF_MIXED_SIZE),
    "lamina.model.partitioners.slots": ("tests/unit/test_slots.py",),
    "lamina.model.providers": ("tests/unit/test_inventory.py", "tests/pillars/test_682_calculation.py"),
    "lamina.model.capacity": _PLACING,
    "lamina.model.ids": ("tests/unit/test_ids.py", *_PARSING),
    "lamina.model.requests": ("tests/unit/test_requests.py", *_PARSING),
    "lamina.model.flavors": ("tests/unit/test_flavors.py",),
    "lamina.model.resources": ("tests/unit/test_resources.py",),
    "lamina.model.decoding": (_OF_DECODING, "tests/unit/test_nesting.py", "tests/unit/test_flavors.py"),
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
    # a failure is enough: nobody reads the smallest example of it
    phases = (Phase.explicit, Phase.generate)
    settings.register_profile("mutation", derandomize=True, database=None, deadline=None, max_examples=40, phases=phases)
    session = MutationSession(module)
    options = ["-q", "--no-header", "--no-summary", "-p", "no:cacheprovider", "--capture=sys", "-k", "not postgresql"]
    options += ["--hypothesis-profile", "mutation"]
    pytest.main([*options, *MODULES[module]], plugins=[session])
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
