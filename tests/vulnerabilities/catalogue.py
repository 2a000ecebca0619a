"""Vulnerabilities of this field that must not be here: every row, with the test that shows it and the variant that the test notices.

``python -m tests.vulnerabilities.catalogue`` writes ``docs/security/vulnerabilities.md`` anew.
"""

from __future__ import annotations

import importlib
import inspect
import sys
from pathlib import Path

from tests.vulnerabilities.row import Row

HERE = Path(__file__).parent
PAGE = HERE.parents[1] / "docs" / "security" / "vulnerabilities.md"
TEST = "test_absent"
#: the number of the last row
LAST = 21


def rows() -> list[tuple[str, Row]]:
    """The file's name without its ending, and the row in it, by number."""
    names = sorted(path.stem for path in HERE.glob("test_*.py"))
    modules = [importlib.import_module(f"{__package__}.{name}") for name in names]
    found = [(module.__name__.rpartition(".")[2], module.ROW) for module in modules if hasattr(module, "ROW")]
    return sorted(found, key=lambda each: each[1].number)


def page() -> str:
    known = rows()
    lines = [
        "# Vulnerabilities that must not be here",
        "",
        f"{len(known)} families of vulnerabilities that OpenStack, libvirt and NVIDIA's drivers have had, and what shows that Lamina",
        "has none of them. Each row is run twice by `make test`: as Lamina is, and with a protection taken away (the broken variant),",
        "which the same check must notice. A row without both cannot be added. Made from `tests/vulnerabilities/`, by",
        "`python -m tests.vulnerabilities.catalogue`.",
        "",
        "| # | what | ids | pillar |",
        "| --- | --- | --- | --- |",
    ]
    lines += [f"| [{row.number}](#{row.number}) | {row.title} | {', '.join(row.ids)} | CWE-{row.pillar} |" for _, row in known]
    for name, row in known:
        module = sys.modules[f"{__package__}.{name}"]
        lines += ["", f'<a id="{row.number}"></a>', "", f"## {row.number}. {row.title[0].upper()}{row.title[1:]}", ""]
        lines += [inspect.cleandoc(module.__doc__ or ""), ""]
        lines += [f"- test: `tests/vulnerabilities/{name}.py::{TEST}`", f"- broken variant: {row.broken.__doc__}"]
        lines += ["", row.note] if row.note else []
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
