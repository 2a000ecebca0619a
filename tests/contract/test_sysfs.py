"""The `Sysfs` port: the simulated kernel's files and ordinary files of the same tree answer alike."""

from __future__ import annotations

import dataclasses
import errno
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from lamina.agent.sysfs import LocalSysfs, Sysfs, join
from lamina.model import ids
from lamina.model.ids import PciAddress
from tests.contract.machines import FIRST, KINDS, REAL, StillClock, any_machine, copy_tree, plant_foreign, switched_on

PCI = "/sys/bus/pci/devices"
#: the simulated kernel, its files laid out on a real file system, and in the lab the real kernel
IMPLEMENTATIONS = ("real",) if REAL else ("simulated", "local")


@dataclasses.dataclass
class Tree:
    """Files of a machine with one vGPU on its first GPU, so that every kind of file is there."""

    sysfs: Sysfs
    first: PciAddress


@pytest.fixture(params=[(kind, name) for kind in KINDS for name in IMPLEMENTATIONS], ids="-".join)
def tree(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tree]:
    kind, name = request.param
    type_id = "11" if kind == "vfio" else "nvidia-11"
    if name == "local":
        host = switched_on(kind, tmp_path)
        plant_foreign(host, FIRST if kind == "mdev" else FIRST.virtual_function(0), type_id)
        copy_tree(host.kernel, tmp_path / "root")
        yield Tree(LocalSysfs(tmp_path / "root"), FIRST)
        return
    with any_machine(kind, tmp_path, StillClock()) as machine:
        parent = machine.first if kind == "mdev" else PciAddress.parse(machine.sysfs.link(join(PCI, str(machine.first), "virtfn0")))
        machine.plant(parent, type_id)
        yield Tree(machine.sysfs, machine.first)


def test_a_pci_function_tells_what_it_is(tree: Tree) -> None:
    device = join(PCI, str(tree.first))
    assert str(tree.first) in tree.sysfs.list(PCI)
    assert re.fullmatch(r"0x[0-9a-f]{4}\n", tree.sysfs.read(join(device, "vendor")))
    assert tree.sysfs.read(join(device, "numa_node")) == "-1\n"
    assert re.fullmatch(r"0x[0-9a-f]{6}\n", tree.sysfs.read(join(device, "class")))
    assert tree.sysfs.link(join(device, "driver")) == "nvidia"
    assert tree.sysfs.read("/sys/module/nvidia/version" if not REAL else "/sys/module/lamina_lab/version").strip()


def test_a_list_is_sorted_and_all_in_it_exists(tree: Tree) -> None:
    for folder in (PCI, join(PCI, str(tree.first))):
        names = tree.sysfs.list(folder)
        assert names == sorted(names)
        assert all(tree.sysfs.exists(join(folder, name)) for name in names)


def test_virtual_and_physical_functions_link_to_each_other(tree: Tree) -> None:
    functions = [n for n in tree.sysfs.list(join(PCI, str(tree.first))) if n.startswith("virtfn")]
    for name in functions:
        function = tree.sysfs.link(join(PCI, str(tree.first), name))
        assert tree.sysfs.link(join(PCI, function, "physfn")) == str(tree.first)
        assert tree.sysfs.list(join(PCI, str(tree.first), name)) == tree.sysfs.list(join(PCI, function))


def test_what_is_not_there(tree: Tree) -> None:
    missing = join(PCI, "0000:99:00.0")
    assert not tree.sysfs.exists(missing)
    for act in (tree.sysfs.read, tree.sysfs.list, tree.sysfs.link, lambda p: tree.sysfs.write(p, "1")):
        with pytest.raises(FileNotFoundError):
            act(missing)


def test_a_file_is_no_folder_and_a_folder_no_file(tree: Tree) -> None:
    sysfs, vendor = tree.sysfs, join(PCI, str(tree.first), "vendor")
    for act, number in (
        (lambda: sysfs.list(vendor), errno.ENOTDIR),
        (lambda: sysfs.read(join(vendor, "below")), errno.ENOTDIR),
        (lambda: sysfs.read(PCI), errno.EISDIR),
        (lambda: sysfs.write(PCI, "1"), errno.EISDIR),
        (lambda: sysfs.link(vendor), errno.EINVAL),
    ):
        with pytest.raises(OSError, match=os.strerror(number)):
            act()


@pytest.mark.parametrize("kind", ["mdev", "mdev-on-vf"])
def test_what_is_no_uuid_or_is_taken_is_refused(kind: str, tmp_path: Path) -> None:
    """Linux, drivers/vfio/mdev/mdev_sysfs.c: create_store."""
    with any_machine(kind, tmp_path, StillClock()) as machine:
        parents = machine.sysfs.list("/sys/class/mdev_bus")
        create = f"/sys/class/mdev_bus/{parents[0]}/mdev_supported_types/nvidia-11/create"
        uuid = ids.new_uuid()
        machine.sysfs.write(create, uuid + "\n")
        other = create if kind == "mdev" else create.replace(parents[0], parents[1])
        for path, text, number in (
            (create, "short", errno.EINVAL),
            (create, uuid + "ab", errno.EINVAL),
            (create, "g" * 36, errno.EINVAL),
            (other, uuid, errno.EEXIST),
            (f"/sys/bus/mdev/devices/{uuid}/remove", "perhaps", errno.EINVAL),
        ):
            with pytest.raises(OSError, match=os.strerror(number)):
                machine.sysfs.write(path, text)
        assert machine.standing() == {uuid: "nvidia-11"}
        machine.sysfs.write(f"/sys/bus/mdev/devices/{uuid}/remove", "1")
        assert machine.standing() == {}


def test_what_is_no_type_or_does_not_fit_is_refused(tmp_path: Path) -> None:
    with any_machine("vfio", tmp_path, StillClock()) as machine:
        folder = join(PCI, str(machine.first))
        first, second = (join(folder, f"virtfn{n}", "nvidia") for n in (0, 1))
        current, listed = "current_vgpu_type", "creatable_vgpu_types"
        assert machine.sysfs.read(join(first, current)) == "0\n"
        assert [line.split(":")[0].strip() for line in machine.sysfs.read(join(first, listed)).splitlines()] == ["ID", "11", "12"]
        for path, text, number in ((first, "words", errno.EINVAL), (first, "99", errno.EINVAL)):
            with pytest.raises(OSError, match=os.strerror(number)):
                machine.sysfs.write(join(path, current), text)
        with pytest.raises(OSError, match=os.strerror(errno.ENXIO)):
            machine.sysfs.read(join(first, "placement_id"))
        machine.sysfs.write(join(first, current), "11")
        assert machine.sysfs.read(join(first, "placement_id")) == "0\n"
        assert machine.sysfs.read(join(first, listed)).splitlines()[1:] == [], "a busy function lists nothing"
        for path, text in ((first, "12"), (second, "12")):
            with pytest.raises(OSError, match=os.strerror(errno.EIO)):
                machine.sysfs.write(join(path, current), text)
        assert [line.split(":")[0].strip() for line in machine.sysfs.read(join(second, listed)).splitlines()] == ["ID", "11"]
        machine.sysfs.write(join(first, current), "0")
        machine.sysfs.write(join(first, current), "0")
        assert machine.standing() == {}


@pytest.mark.parametrize("kind", ["mdev-on-vf", "vfio"])
def test_virtual_functions_are_enabled_all_or_not(kind: str, tmp_path: Path) -> None:
    """Linux, drivers/pci/pci-sysfs.c: sriov_numvfs_store."""
    with any_machine(kind, tmp_path, StillClock()) as machine:
        folder = join(PCI, str(machine.first))
        count = join(folder, "sriov_numvfs")
        assert (machine.sysfs.read(count), machine.sysfs.read(join(folder, "sriov_totalvfs"))) == ("6\n", "6\n")
        for text, number in (("7", errno.ERANGE), ("3", errno.EBUSY), ("many", errno.EINVAL)):
            with pytest.raises(OSError, match=os.strerror(number)):
                machine.sysfs.write(count, text)
        machine.sysfs.write(count, "0")
        assert not machine.sysfs.exists(join(folder, "virtfn0"))
        machine.sysfs.write(count, "6")
        assert machine.sysfs.exists(join(folder, "virtfn0"))


def test_a_write_reaches_the_file(tmp_path: Path) -> None:
    (tmp_path / "sys").mkdir()
    (tmp_path / "sys/create").touch()
    LocalSysfs(tmp_path).write("/sys/create", "text")
    assert (tmp_path / "sys/create").read_text() == "text"


def test_a_write_makes_no_file(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        LocalSysfs(tmp_path).write("/sys/create", "text")
    assert list(tmp_path.iterdir()) == []


def test_a_write_that_the_kernel_refuses_keeps_its_errno(tmp_path: Path) -> None:
    (tmp_path / "sys").symlink_to("/dev")
    with pytest.raises(OSError, match="No space left") as caught:
        LocalSysfs(tmp_path).write("/sys/full", "text")
    assert caught.value.errno == errno.ENOSPC


@pytest.mark.parametrize("part", ["", ".", "..", "a/b", "/", "../x", "a\0b"])
def test_a_component_cannot_lead_out(part: str) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        join(PCI, "fine", part)


def test_components_are_joined() -> None:
    assert join("/sys", "a", "b c") == "/sys/a/b c"
