"""Races over the Placement API: one of many gets the last one, the others are told, and nothing is given twice."""

from __future__ import annotations

import threading
import uuid
from collections import Counter

from tests.unit.api.placement.conftest import CONSUMER, GPU1, Call, holding

CLIENTS = 64


def test_one_of_sixty_four_gets_the_last_vgpu_round_after_round(tree: Call) -> None:
    assert tree("PUT", f"/allocations/{CONSUMER}", holding({GPU1: {"VGPU": 1}})).status_code == 204
    for _round in range(8):
        start = threading.Barrier(CLIENTS)
        told: dict[str, tuple[int, str, str]] = {}

        def claim(consumer: str, start: threading.Barrier = start, told: dict[str, tuple[int, str, str]] = told) -> None:
            start.wait()
            answer = tree("PUT", f"/allocations/{consumer}", holding({GPU1: {"VGPU": 1}}))
            error = answer.json()["errors"][0] if answer.content else {"code": "", "detail": ""}
            told[consumer] = answer.status_code, error["code"], error["detail"]

        threads = [threading.Thread(target=claim, args=(str(uuid.uuid4()),)) for _ in range(CLIENTS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert Counter(status for status, _, _ in told.values()) == {204: 1, 409: CLIENTS - 1}
        for status, code, detail in told.values():
            assert status == 204 or code in ("placement.undefined_code", "placement.concurrent_update")
            assert status == 204 or detail
        (winner,) = (consumer for consumer, (status, _, _) in told.items() if status == 204)
        held = tree("GET", f"/resource_providers/{GPU1}/allocations").json()["allocations"]
        assert held.keys() == {CONSUMER, winner}
        assert tree("GET", f"/resource_providers/{GPU1}/usages").json()["usages"] == {"VGPU": 2}
        assert tree("DELETE", f"/allocations/{winner}").status_code == 204
