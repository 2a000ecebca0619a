"""The reason phrase of a status does not depend on the Python that Lamina runs under."""

from __future__ import annotations

from http import HTTPStatus

import pytest

from lamina.api.reasons import reason


@pytest.mark.parametrize(
    ("status", "phrase"),
    [(413, "Content Too Large"), (414, "URI Too Long"), (416, "Range Not Satisfiable"), (422, "Unprocessable Content")],
)
def test_what_was_renamed_has_the_name_that_is_in_force(status: int, phrase: str) -> None:
    assert reason(status) == phrase


@pytest.mark.parametrize("status", [200, 202, 204, 400, 401, 403, 404, 405, 406, 409, 415, 429, 431, 500, 501, 503])
def test_all_others_have_pythons(status: int) -> None:
    assert reason(status) == HTTPStatus(status).phrase
