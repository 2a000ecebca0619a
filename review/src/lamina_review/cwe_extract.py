"""Writes data/cwe1000.json anew from the CWE list that the package `cwe2` carries: python -m lamina_review.cwe_extract

Only what the review needs is kept: each weakness's name and its parents in view CWE-1000 (Research Concepts), the first
of them being the primary one. `cwe2`, the extra `extract`, is needed for this and for nothing else.
"""
from __future__ import annotations

import importlib.util
import json
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

VIEW = "1000"
TARGET = Path(__file__).parent / "data" / "cwe1000.json"


def list_file() -> Path:
    """The CWE list of the installed `cwe2`; FileNotFoundError without it."""
    found = importlib.util.find_spec("cwe2")
    for folder in (found.submodule_search_locations or []) if found else []:
        for path in sorted(Path(folder).glob("*/cwec_*.xml")):
            return path
    raise FileNotFoundError("install lamina-review[extract] first")


def extract(path: Path) -> dict[str, object]:
    """Shape: {"version": str, "weaknesses": {id: [name, primary parent, other parents …]}}."""
    root = ET.parse(path).getroot()  # noqa: S314  a file of an installed package
    space = root.tag.removesuffix("Weakness_Catalog")
    weaknesses: dict[str, list[str]] = {}
    for weakness in root.iter(f"{space}Weakness"):
        if weakness.get("Status") == "Deprecated":
            continue
        relations = [
            relation for relation in weakness.iter(f"{space}Related_Weakness")
            if relation.get("Nature") == "ChildOf" and relation.get("View_ID") == VIEW
        ]
        relations.sort(key=lambda relation: relation.get("Ordinal") != "Primary")
        parents = [relation.get("CWE_ID", "") for relation in relations]
        weaknesses[weakness.get("ID", "")] = [weakness.get("Name", ""), *dict.fromkeys(parents)]
    ordered = dict(sorted(weaknesses.items(), key=lambda item: int(item[0])))
    return {"version": root.get("Version"), "weaknesses": ordered}


def write(target: Path = TARGET) -> None:
    """One weakness a line, so that a new version of the list shows as a readable difference."""
    found = extract(list_file())
    lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in dict(found["weaknesses"]).items())  # type: ignore[call-overload]
    target.write_text(f'{{"version": {json.dumps(found["version"])}, "weaknesses": {{\n{lines}\n}}}}\n', encoding="utf-8")


if __name__ == "__main__":
    write()
    sys.stdout.write(f"{TARGET.name} is written.\n")
