"""CWE-710, improper adherence to coding standards: what style, types and floors (`make lint`) do not hold already."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

from tests.pillars import sources

pytestmark = pytest.mark.weakness(710)

ROOT = Path(__file__).parents[2]
#: lines of the longest module, which may only become shorter
LONGEST = 530
#: what the library that reads the command line calls
CALLED = {"list_commands", "format_commands"}
SUPPRESSED = re.compile(r"#\s*(noqa|nosec|type:\s*ignore)(.*)")


def test_every_suppression_says_which_rule_it_is_about() -> None:
    blanket = []
    for module in sources.modules():
        for number, line in enumerate(module.text.splitlines(), 1):
            for kind, rest in SUPPRESSED.findall(line):
                if not re.match(r":\s*[A-Z]+[0-9]+|\[[a-z-]+", rest):
                    blanket.append(f"{module.name}:{number}: {kind}{rest}")
    assert blanket == []


@pytest.mark.weakness(546)
def test_nothing_is_left_to_be_done() -> None:
    marked = [
        f"{module.name}:{number}"
        for module in sources.modules()
        for number, line in enumerate(module.text.splitlines(), 1)
        if re.search(r"\b(TODO|FIXME|XXX|HACK)\b", line)
    ]
    assert marked == []


@pytest.mark.weakness(1121)
def test_functions_and_files_stay_within_bounds() -> None:
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    assert settings["ruff"]["lint"]["mccabe"]["max-complexity"] <= 12
    assert {"C90", "S", "B"} <= set(settings["ruff"]["lint"]["select"])
    assert settings["mypy"]["strict"] is True
    lengths = {module.name: len(module.text.splitlines()) for module in sources.modules()}
    assert max(lengths.values()) <= LONGEST, max(lengths, key=lambda name: lengths[name])


@pytest.mark.weakness(561)
def test_no_public_function_is_dead() -> None:
    """Each is named somewhere else than where it is made: in another line of Lamina, or of what is measured and tried with it."""
    words: dict[str, int] = {}
    others = (path for folder in ("bench", "compat", "lab", "tests") for path in (ROOT / folder).rglob("*.py"))
    for text in (*(module.text for module in sources.modules()), *(path.read_text(encoding="utf-8") for path in others)):
        for word in re.findall(r"[A-Za-z_][A-Za-z0-9_]*", text):
            words[word] = words.get(word, 0) + 1
    dead = []
    for module, function in sources.nodes(ast.FunctionDef):
        decorated = any(not isinstance(each, ast.Name) for each in function.decorator_list)
        if words[function.name] < 2 and not function.name.startswith("__") and not decorated and function.name not in CALLED:
            dead.append(f"{module.name}: {function.name}")
    assert dead == []
