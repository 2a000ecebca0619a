"""The benchmark of the Placement API does what it says that it measures: counts, never times."""

from __future__ import annotations

import json
from typing import Any

import pytest
from click.testing import CliRunner, Result

from lamina.cli.client import Client
from lamina.cli.instance import NO_HOSTS, Instance, temporary_instance
from lamina.cli.main import group
from lamina.cli.placement_bench.fleet import GPUS, ISOLATED_GPUS

HOSTS = (2, 3)
FIGURES = {"candidates p50", "candidates p99", "candidates CPU", "memory"}
CLAIMS = {"claims", "claims CPU", "candidates + claims", "candidates + claims CPU"}


def bench(other: Instance, token: str, *more: str) -> Result:
    words = ("--against", f"{other.url}/placement", "--against-pid", str(other.pid), "--hosts", "2,3", "--clients", "1,2")
    return CliRunner().invoke(group, ["bench", "placement", *words, "--seconds", "0.1", *more], env={"LAMINA_BENCH_TOKEN": token})


def test_the_same_load_on_two_servers_and_none_on_one_that_is_in_use() -> None:
    with temporary_instance(NO_HOSTS) as other, Client.connect(other.state) as client:
        done = bench(other, client.token, "--database", "sqlite", "--database", "postgresql", "--json")
        assert done.exit_code == 0, done.output
        told: dict[str, list[dict[str, Any]]] = json.loads(done.stdout)["figures"]
        assert list(told) == ["Lamina, SQLite", "Lamina, PostgreSQL", "other"]
        for figures in told.values():
            wanted = {(name, hosts, 1) for name in FIGURES for hosts in HOSTS}
            wanted |= {(name, hosts, clients) for name in CLAIMS for hosts in HOSTS for clients in (1, 2)}
            wanted |= {("8 isolated groups p50", HOSTS[-1], 1)}
            assert {(f["name"], f["hosts"], f["clients"]) for f in figures} == wanted
            assert len(figures) == len(wanted)
            assert all(f["value"] is not None and f["value"] >= 0 and f["samples"] > 0 for f in figures)

        providers = client.call("placement", "GET", "/resource_providers")["resource_providers"]
        assert len(providers) == HOSTS[-1] * (1 + GPUS) + 1 + ISOLATED_GPUS
        for provider in providers:
            usages = client.call("placement", "GET", f"/resource_providers/{provider['uuid']}/usages")["usages"]
            assert not any(usages.values()), "what was claimed has been given back"

        again = bench(other, client.token)
        assert again.exit_code == 1
        assert f"has {len(providers)} resource providers already" in str(again.exception)


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--hosts", "0"], "is not a list of whole numbers"),
        (["--clients", "1,,2"], "is not a list of whole numbers"),
        (["--against", "ftp://127.0.0.1"], "is not an address like"),
    ],
)
def test_nonsense_is_refused_before_anything_is_begun(words: list[str], why: str) -> None:
    refused = CliRunner().invoke(group, ["bench", "placement", *words])
    assert refused.exit_code != 0
    assert why in refused.output + str(refused.exception)
