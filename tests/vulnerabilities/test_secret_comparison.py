"""Nova's metadata service compared an HMAC with ``==``, which ends at the first byte that differs: who measures the time finds the right
one byte by byte.

Here a rule over the source finds every ``==`` on what is called a secret, a token, a digest of one or a signature; there is none outside
of queries, where a row is found by the SHA-256 of a token. What is compared in memory goes through `hmac.compare_digest`.
"""

from __future__ import annotations

import ast
import hmac
import re
import types
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

import lamina
from lamina.api.identity import users
from tests.vulnerabilities.row import Row
from tests.vulnerabilities.stage import PASSWORDS, Stage

_DIGEST = hmac.compare_digest
SECRET = re.compile(r"(?:^|[_.])(?:secret|token|token_hash|hash|password|password_hash|passphrase|hmac|signature|mac_key)$")
SOURCE = Path(str(lamina.__file__)).parent


def compared(source: str) -> Iterator[str]:
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Compare) and any(isinstance(each, ast.Eq | ast.NotEq) for each in node.ops):
            sides = [node.left, *node.comparators]
            in_query = any(".c." in ast.unparse(side) for side in sides)
            plain = any(isinstance(side, ast.Constant) for side in sides)
            if not in_query and not plain and any(SECRET.search(ast.unparse(side)) for side in sides):
                yield ast.unparse(node)


def check(stage: Stage) -> None:
    assert list(compared("if given.token == kept: pass")), "the rule finds what it is for"
    files = sorted(SOURCE.rglob("*.py"))
    assert len(files) > 200
    found = [f"{path.relative_to(SOURCE)}: {what}" for path in files for what in compared(path.read_text(encoding="utf-8"))]
    assert found == [], f"secrets compared with ==: {found}"
    with stage.cloud() as cloud:
        me = cloud.ask("GET", "/identity/v3/auth/tokens", headers={"X-Subject-Token": cloud.token("demo")}).json()["token"]["user"]["id"]
        with mock.patch.object(hmac, "compare_digest", mock.Mock(side_effect=_DIGEST)) as asked:
            body = {"user": {"original_password": PASSWORDS["demo"], "password": "another secret of demo's"}}
            answer = cloud.ask("POST", f"/identity/v3/users/{me}/password", body)
            assert answer.status_code == 204, answer.text
    assert asked.call_count >= 1, "a kept secret was compared in another way"


def broken() -> AbstractContextManager[Any]:
    """a kept password is compared with =="""
    return mock.patch.object(users, "hmac", types.SimpleNamespace(compare_digest=lambda a, b: a == b))


ROW = Row(14, ("CVE-2014-3517",), 697, "secrets compared with ==", check, broken)


@pytest.mark.weakness(208)
def test_absent(proved: Callable[[Row], None]) -> None:
    proved(ROW)
