"""What the code imports is what the package declares; what it reads beside its code is in the package."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib import metadata, resources
from pathlib import Path

ROOT = Path(__file__).parents[2]


def imported() -> set[str]:
    """The top-level modules that the package's code imports."""
    found: set[str] = set()
    for path in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                found |= {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split(".")[0])
    return found - set(sys.stdlib_module_names) - {"lamina"}


#: modules that are imported only where they are there -> the package that has them, and the extra that brings it
OPTIONAL = {
    "psycopg": ("psycopg", "postgres"),
    "pynvml": ("nvidia-ml-py", "nvml"),
    "libvirt": ("libvirt-python", "libvirt"),
    "pycdlib": ("pycdlib", "libvirt"),
    "matplotlib": ("matplotlib", "plots"),
    "defusedxml": ("defusedxml", "libvirt"),
}


def test_every_import_is_a_declared_dependency() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    declared = {re.split(r"[^A-Za-z0-9._-]", wanted)[0].lower().replace(".", "-").replace("_", "-") for wanted in project["dependencies"]}
    packages = metadata.packages_distributions()
    needed = imported() - OPTIONAL.keys()
    provided = {module: {name.lower().replace(".", "-").replace("_", "-") for name in packages[module]} for module in needed}
    for package, extra in (OPTIONAL[module] for module in imported() & OPTIONAL.keys()):
        assert any(wanted.startswith(package) for wanted in project["optional-dependencies"].get(extra, ())), package
    assert {module for module, names in provided.items() if not names & declared} == set()


def test_data_files_are_in_the_package() -> None:
    for package, name in (("lamina.model", "catalog.toml"), ("lamina.agent.simulated", "demo.yaml"), ("lamina.store", "migrations/env.py")):
        assert resources.files(package).joinpath(name).is_file()
