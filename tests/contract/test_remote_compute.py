"""A host that dials in does what a host in process does: its suite, over a real line with mutual TLS."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import cast

import pytest

from lamina.agent.compute import ComputeService
from lamina.hosts.membership import Membership
from lamina.operations.control_plane import ControlPlane
from tests.contract.dialled import control_plane, dialled, joined
from tests.contract.machines import KINDS, switched_on
from tests.unit import test_agent_compute as suite
from tests.unit.test_agent_compute import (  # noqa: F401 - collected here once more, for the other fixture
    test_a_domain_does_not_start_on_a_vgpu_that_a_reboot_took,
    test_a_domain_is_given_its_own_servers_vgpus_only,
    test_a_domain_with_its_vgpus,
    test_a_foreign_mdev_under_our_uuid_is_left_alone,
    test_a_stale_call_changes_nothing,
    test_a_vgpu_asked_for_elsewhere_moves,
    test_a_vgpu_is_made_and_known_as_ours,
    test_after_a_reboot_another_function_serves_as_well,
    test_after_a_reboot_vgpus_come_back_where_they_were,
    test_an_idle_host,
    test_domains_of_others_stay,
    test_making_it_again_makes_it_once,
    test_nothing_asked_for,
    test_servers_that_come_at_once_share_no_function,
    test_several_at_once_come_in_the_order_asked_for,
    test_the_function_of_a_vgpu_that_will_come_back_is_kept_for_it,
    test_vgpus_of_a_gpu_that_is_gone_can_be_released,
    test_what_does_not_fit_whole_is_not_made_in_part,
    test_what_the_host_does_not_have,
)


@dataclasses.dataclass
class Bench(suite.Bench):
    """Of the host, the compute service is the one that the control plane reaches."""

    plane: ControlPlane
    membership: Membership
    lines: ExitStack

    def dial(self) -> None:
        """Run the host's agent; one that ran before is stopped."""
        self.lines.close()
        remote = self.lines.enter_context(dialled(self.plane, self.membership, self.host.compute))
        self.host = dataclasses.replace(self.host, compute=cast(ComputeService, remote))

    def restart(self) -> None:
        super().restart()
        self.dial()


@pytest.fixture(scope="module")
def enrolled(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[ControlPlane, Membership]]:
    with control_plane(tmp_path_factory.mktemp("control")) as plane:
        yield plane, joined(plane, "host", tmp_path_factory.mktemp("host"))


@pytest.fixture(params=KINDS)
def bench(request: pytest.FixtureRequest, tmp_path: Path, enrolled: tuple[ControlPlane, Membership]) -> Iterator[Bench]:
    with ExitStack() as lines:
        bench = Bench(request.param, tmp_path, switched_on(request.param, tmp_path), *enrolled, lines)
        bench.dial()
        yield bench
