"""The `Sysfs` port: the simulated kernel's files and ordinary files of the same tree answer alike."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from lamina.agent.simulated.kernel import SimulatedKernel
from lamina.agent.sysfs import LocalSysfs, Sysfs, join
from tests.contract.machines import FIRST, KINDS, copy_tree, plant_foreign, switched_on

PCI = "/sys/bus/pci/devices"
IMPLEMENTATIONS = ("simulated", "local")


def kernel_of(kind: str, state: Path) -> SimulatedKernel:
    """A machine with one vGPU on it, so that every kind of file is there."""
    host = switched_on(kind, state)
    parent = FIRST if kind == "mdev" else FIRST.virtual_function(0)
    plant_foreign(host, parent, "11" if kind == "vfio" else "nvidia-11")
    return host.kernel


@pytest.fixture(params=KINDS)
def kernel(request: pytest.FixtureRequest, tmp_path: Path) -> SimulatedKernel:
    return kernel_of(request.param, tmp_path)


@pytest.fixture(params=IMPLEMENTATIONS)
def sysfs(request: pytest.FixtureRequest, kernel: SimulatedKernel, tmp_path: Path) -> Sysfs:
    if request.param == "simulated":
        return kernel
    copy_tree(kernel, tmp_path / "root")
    return LocalSysfs(tmp_path / "root")


def test_a_pci_function_tells_what_it_is(sysfs: Sysfs) -> None:
    device = join(PCI, str(FIRST))
    assert str(FIRST) in sysfs.list(PCI)
    assert sysfs.read(join(device, "vendor")) == "0x10de\n"
    assert sysfs.read(join(device, "numa_node")) == "-1\n"
    assert sysfs.read(join(device, "class")).startswith("0x03")


def test_a_list_is_sorted_and_all_in_it_exists(sysfs: Sysfs) -> None:
    for folder in (PCI, join(PCI, str(FIRST))):
        names = sysfs.list(folder)
        assert names == sorted(names)
        assert all(sysfs.exists(join(folder, name)) for name in names)


def test_virtual_and_physical_functions_link_to_each_other(sysfs: Sysfs) -> None:
    functions = [n for n in sysfs.list(join(PCI, str(FIRST))) if n.startswith("virtfn")]
    for name in functions:
        function = sysfs.link(join(PCI, str(FIRST), name))
        assert sysfs.link(join(PCI, function, "physfn")) == str(FIRST)
        assert sysfs.list(join(PCI, str(FIRST), name)) == sysfs.list(join(PCI, function))


def test_what_is_not_there(sysfs: Sysfs) -> None:
    missing = join(PCI, "0000:99:00.0")
    assert not sysfs.exists(missing)
    for act in (sysfs.read, sysfs.list, sysfs.link, lambda p: sysfs.write(p, "1")):
        with pytest.raises(FileNotFoundError):
            act(missing)


def test_a_file_is_no_folder_and_a_folder_no_file(sysfs: Sysfs) -> None:
    vendor = join(PCI, str(FIRST), "vendor")
    for act, number in (
        (lambda: sysfs.list(vendor), errno.ENOTDIR),
        (lambda: sysfs.read(join(vendor, "below")), errno.ENOTDIR),
        (lambda: sysfs.read(PCI), errno.EISDIR),
        (lambda: sysfs.write(PCI, "1"), errno.EISDIR),
        (lambda: sysfs.link(vendor), errno.EINVAL),
    ):
        with pytest.raises(OSError, match=os.strerror(number)):
            act()


def test_a_write_reaches_the_file(tmp_path: Path) -> None:
    (tmp_path / "sys").mkdir()
    (tmp_path / "sys/create").touch()
    LocalSysfs(tmp_path).write("/sys/create", "text")
    assert (tmp_path / "sys/create").read_text() == "text"


def test_a_write_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        LocalSysfs(tmp_path).write("/create", "text")
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_the_kernel_refuses_keeps_its_errno() -> None:
    with pytest.raises(OSError, match="No space left") as caught:
        LocalSysfs().write("/dev/full", "text")
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("part", ["", ".", "..", "a/b", "/", "../x", "a\0b"])
def test_a_component_cannot_lead_out(part: str) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        join(PCI, "fine", part)


def test_components_are_joined() -> None:
    assert join("/sys", "a", "b c") == "/sys/a/b c"
