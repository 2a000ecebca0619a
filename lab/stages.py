"""The lab's parts, each built once: a kernel, our module for it, a root folder, Lamina's dependencies, a disk.

A stage is done again only when what it is made from has changed. Everything lies in one cache folder. It needs Debian 12, root,
Debian's packages and a Python package registry; what is missing of Debian's it installs.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import lzma
import os
import re
import shutil
import struct
import subprocess
import sys
import time
import tomllib
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

HERE = Path(__file__).parent
PROJECT = HERE.parent
#: git ignores it
CACHE = PROJECT / ".lab"

#: what the lab is made with
TOOLS = {
    "gcc": "gcc",
    "make": "make",
    "mmdebstrap": "mmdebstrap",
    "mke2fs": "e2fsprogs",
    "depmod": "kmod",
    "cpio": "cpio",
    "qemu-system-x86_64": "qemu-system-x86",
    "qemu-img": "qemu-utils",
}
#: the release of the guest's root: its libvirt is the first in Debian that gives guests a virtual function of a vendor's own driver
RELEASE = "trixie"
PYTHON = "3.13"
PACKAGES = (
    "libvirt-daemon-system",
    "libvirt-daemon-driver-qemu",
    "libvirt-clients",
    "mdevctl",
    "qemu-system-x86",
    "qemu-utils",
    "python3",
    "python3-libvirt",
    "python3-pip",
    "kmod",
    "udev",
    "iproute2",
    "pciutils",
    "dbus",
    "procps",
    "busybox-static",
)
#: modules of the kernel that the guest uses, apart from ours
MODULES = (
    *("vfio", "vfio_iommu_type1", "vfio_pci", "mdev"),
    *("virtio_pci", "virtio_net", "virtio_blk", "virtio_rng"),
    *("ext4", "tun", "bridge", "loop"),
)
BOOT_MODULES = ("virtio_pci", "virtio_blk", "ext4")
#: size of the machine's disk; sparse, it takes what is in it
DISK = "24G"
#: what tests need beside Lamina's own dependencies
TEST_PACKAGES = ("pytest>=9.0", "hypothesis>=6.130")
#: of the extra `libvirt`; Debian's own binding is in the root
COMPILED = "libvirt-python"


def say(text: str) -> None:
    print(text, flush=True)


def run(*argv: str | Path, cwd: Path | None = None) -> str:
    """A program's output; what it complained of ends this one."""
    done = subprocess.run([str(a) for a in argv], cwd=cwd, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        sys.exit(f"{argv[0]} failed with {done.returncode}:\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


@dataclasses.dataclass(frozen=True)
class Lab:
    """Where the lab's parts are."""

    cache: Path

    @property
    def kernel(self) -> Path:
        return self.cache / "vmlinux"

    @property
    def initrd(self) -> Path:
        return self.cache / "initrd"

    @property
    def disk(self) -> Path:
        return self.cache / "root.ext4"

    def build(self) -> None:
        """Every stage that is not done yet, each with its time."""
        self.cache.mkdir(parents=True, exist_ok=True)
        tools(fresh=not (self.cache / "kernel.stamp").exists())
        version = headers()
        release = f"{version}-amd64"
        self._stage("kernel", [version], lambda: self._kernel(release))
        self._stage("module", [version, *_files(HERE / "module")], lambda: self._module(release))
        self._stage("root", [RELEASE, *PACKAGES], self._root)
        requirements = [*_dependencies(), *TEST_PACKAGES]
        self._stage("python", [PYTHON, RELEASE, *requirements], lambda: self._python(requirements))
        before = [self._stamp(name) for name in ("kernel", "module", "root", "python")]
        self._stage("disk", [*before, *_files(HERE / "guest")], lambda: self._disk(release))

    def _stage(self, name: str, made_from: Iterable[str], make: Callable[[], None]) -> None:
        begun = time.monotonic()
        digest = hashlib.sha256(json.dumps([*made_from]).encode()).hexdigest()
        stamp = self.cache / f"{name}.stamp"
        if stamp.exists() and stamp.read_text() == digest:
            say(f"lab: {name:<8} from the cache")
            return
        stamp.unlink(missing_ok=True)
        make()
        stamp.write_text(digest)
        say(f"lab: {name:<8} {time.monotonic() - begun:6.1f} s")

    def _stamp(self, name: str) -> str:
        return (self.cache / f"{name}.stamp").read_text()

    # ------------------------------------------------------------------------------------------------ the stages

    def _kernel(self, release: str) -> None:
        """Debian's own kernel, as an ELF file, which boots fastest, and its modules."""
        downloads, image = self.cache / "downloads", self.cache / "image"
        for folder in (downloads, image):
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
        run("apt-get", "download", "-qq", f"linux-image-{release}", cwd=downloads)
        (package,) = downloads.glob("*.deb")
        run("dpkg", "-x", package, image)
        package.unlink()
        self.kernel.write_bytes(uncompressed((image / "boot" / f"vmlinuz-{release}").read_bytes()))

    def _module(self, release: str) -> None:
        built, extra = self.cache / "module", self.cache / "image" / "lib" / "modules" / release / "extra"
        shutil.rmtree(built, ignore_errors=True)
        shutil.copytree(HERE / "module", built)
        run("make", "-C", f"/usr/src/linux-headers-{release}", f"M={built}", "modules")
        extra.mkdir(exist_ok=True)
        run("strip", "--strip-debug", built / "lamina_lab.ko", "-o", extra / "lamina_lab.ko")
        run("depmod", "-b", self.cache / "image", release)

    def _root(self) -> None:
        root = self.cache / "root"
        shutil.rmtree(root, ignore_errors=True)
        without = [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("man", "locale", "doc")]
        more = ["--aptopt=APT::Install-Recommends false", *without, f"--include={','.join(PACKAGES)}"]
        run("mmdebstrap", "--quiet", "--mode=root", "--variant=minbase", *more, RELEASE, root, mirror())
        for leftover in ("var/lib/apt/lists", "var/cache/apt"):
            shutil.rmtree(root / leftover)
        (root / "usr/bin/qemu-system-i386").unlink(missing_ok=True)

    def _python(self, requirements: Sequence[str]) -> None:
        """For the guest's Python, which is not this machine's."""
        into = self.cache / "python"
        shutil.rmtree(into, ignore_errors=True)
        platforms = [f"--platform=manylinux{p}_x86_64" for p in ("_2_36", "_2_34", "_2_28", "_2_17", "2014")]
        kind = [f"--python-version={PYTHON}", "--implementation=cp", *platforms, "--only-binary=:all:"]
        quiet = ("-qq", "--disable-pip-version-check", "--root-user-action=ignore")
        run(sys.executable, "-m", "pip", "install", *quiet, *kind, f"--target={into}", *requirements)

    def _disk(self, release: str) -> None:
        """The root folder with modules, settings and packages in it, as one file system; and the initrd that mounts it."""
        root, image = self.cache / "root", self.cache / "image"
        modules = root / "lib/modules" / release
        shutil.rmtree(modules, ignore_errors=True)
        for module in dependencies(image, release, (*MODULES, "lamina_lab")):
            at = root / module.relative_to(image)
            at.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(module, at)
        for name in ("modules.order", "modules.builtin", "modules.builtin.modinfo"):
            shutil.copy(image / "lib/modules" / release / name, modules)
        run("depmod", "-b", root, release)
        shutil.copytree(HERE / "guest" / "root", root, dirs_exist_ok=True)
        packages = root / "usr/lib/python3/dist-packages"
        shutil.copytree(self.cache / "python", packages, dirs_exist_ok=True)
        self._initrd(release)
        self.disk.unlink(missing_ok=True)
        run("mke2fs", "-q", "-t", "ext4", "-d", root, "-m", "0", "-N", "100000", self.disk, DISK)

    def _initrd(self, release: str) -> None:
        tree = self.cache / "initrd.d"
        shutil.rmtree(tree, ignore_errors=True)
        for name in ("bin", "proc", "sys", "dev", "root", "modules"):
            (tree / name).mkdir(parents=True)
        shutil.copy(self.cache / "root/usr/bin/busybox", tree / "bin/busybox")
        for number, module in enumerate(dependencies(self.cache / "image", release, BOOT_MODULES), 10):
            shutil.copy(module, tree / "modules" / f"{number}-{module.name}")
        shutil.copy(HERE / "guest" / "initrd-init", tree / "init")
        (tree / "init").chmod(0o755)
        names = "\n".join(str(path.relative_to(tree)) for path in sorted(tree.rglob("*")))
        with self.initrd.open("wb") as packed:
            subprocess.run(["cpio", "--quiet", "-o", "-H", "newc"], input=names.encode(), cwd=tree, stdout=packed, check=True)


# ---------------------------------------------------------------------------------------------------- pieces


def tools(*, fresh: bool) -> None:
    """Install what the lab is made with, as far as it is missing; for a fresh lab with the headers of the newest kernel."""
    missing = sorted({package for program, package in TOOLS.items() if shutil.which(program) is None})
    if fresh or not list(Path("/usr/src").glob("linux-headers-6.1.*-amd64")):
        missing.append("linux-headers-amd64")
    if not missing:
        return
    begun = time.monotonic()
    os.environ["DEBIAN_FRONTEND"] = "noninteractive"
    run("apt-get", "update", "-qq")
    run("apt-get", "install", "-qq", "-y", "--no-install-recommends", *missing)
    say(f"lab: {'tools':<8} {time.monotonic() - begun:6.1f} s  ({', '.join(missing)})")


def headers() -> str:
    """The newest version of the kernel that there are headers for."""
    found = [p.name.removeprefix("linux-headers-").removesuffix("-amd64") for p in Path("/usr/src").glob("linux-headers-6.1.*-amd64")]
    return max(found, key=lambda version: [int(n) for n in re.findall(r"\d+", version)])


def mirror() -> str:
    """Where this machine has its packages from."""
    for path in [*Path("/etc/apt/sources.list.d").glob("*.sources"), Path("/etc/apt/sources.list")]:
        text = path.read_text() if path.exists() else ""
        found = re.search(r"^URIs:\s*(\S+/debian)/?\s*$", text, re.M) or re.search(r"^deb\s+(?:\[[^]]*\]\s+)?(\S+/debian)/?\s", text, re.M)
        if found:
            return found[1]
    sys.exit("No Debian mirror is named in /etc/apt.")


def uncompressed(image: bytes) -> bytes:
    """The ELF file in a bzImage (Linux, Documentation/x86/boot.rst: payload_offset and payload_length)."""
    if image[0x202:0x206] != b"HdrS":
        sys.exit("The kernel is not a bzImage.")
    setup = (image[0x1F1] or 4) * 512 + 512
    offset, length = struct.unpack_from("<II", image, 0x248)
    return lzma.LZMADecompressor().decompress(image[setup + offset : setup + offset + length])


def dependencies(image: Path, release: str, modules: Iterable[str]) -> list[Path]:
    """Modules and what they need, in the order of loading."""
    found: dict[Path, None] = {}
    for module in modules:
        for line in run("modprobe", "-d", image, "-S", release, "--show-depends", module).splitlines():
            if line.startswith("insmod "):
                found[Path(line.split()[1])] = None
    return list(found)


def _files(folder: Path) -> list[str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return [f"{path.relative_to(folder)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]


def _dependencies() -> list[str]:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text())["project"]
    extra = [wanted for wanted in project["optional-dependencies"]["libvirt"] if not wanted.startswith(COMPILED)]
    return [*project["dependencies"], *extra]
