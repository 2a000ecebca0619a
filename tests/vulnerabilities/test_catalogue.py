"""The catalogue is whole: every number has its row, its test and its variant, and the page says what the rows say."""

from __future__ import annotations

import inspect
import re

from tests.vulnerabilities import catalogue


def test_every_number_has_one_row() -> None:
    known = catalogue.rows()
    assert [row.number for _, row in known] == list(range(1, catalogue.LAST + 1))
    for name, row in known:
        assert all(re.fullmatch(r"CVE-\d{4}-\d{4,}|OSSA-\d{4}-\d{3}", each) for each in row.ids), name
        assert row.broken.__doc__, f"{name}: which protection does the variant take away?"
        module = inspect.getmodule(row.check)
        assert module is not None
        assert callable(getattr(module, catalogue.TEST))
        assert "pytest.mark.weakness(" in inspect.getsource(module)


def test_the_page_is_made_of_the_rows() -> None:
    assert catalogue.PAGE.read_text(encoding="utf-8") == catalogue.page(), "python -m tests.vulnerabilities.catalogue writes it anew"
