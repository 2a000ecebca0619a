"""GPU instances: the parts into which MIG mode cuts a card, made and removed with ``nvidia-smi mig``.

Source: NVIDIA MIG user guide. A MIG-backed vGPU needs one of its type's profile; the driver makes none by itself.
"""

from __future__ import annotations

import dataclasses
import errno
import re
from collections.abc import Container

from lamina.agent.commands import Command
from lamina.model.errors import DeviceRefused, HostError
from lamina.model.ids import PciAddress

TOOL = "nvidia-smi"
#: a row of ``-lgi``: GPU, name, profile's number, instance's id, start and size of its placement
_ROW = re.compile(r"\|\s*\d+\s+MIG \S+\s+(?P<profile>\d+)\s+(?P<id>\d+)\s+(?P<start>\d+):(?P<size>\d+)\s*\|")
#: how the tool fails where there is none: its words, or NVML_ERROR_NOT_FOUND as its exit code
_NONE = ("No GPU instances found", "exit code 6")


@dataclasses.dataclass(frozen=True, slots=True)
class GpuInstance:
    """``start`` is a memory slice of the card."""

    id: int
    profile: int
    start: int


class GpuInstances:
    """The GPU instances of one host's cards."""

    def __init__(self, run: Command) -> None:
        self._run = run

    def of(self, gpu: PciAddress) -> list[GpuInstance]:
        """Those of one card. Raises OSError, as the reading of its files does."""
        try:
            told = self._run((TOOL, "mig", "-i", str(gpu), "-lgi"))
        except HostError as error:
            if any(words in error.message for words in _NONE):
                return []
            raise OSError(errno.EIO, error.message) from error
        return [GpuInstance(int(row["id"]), int(row["profile"]), int(row["start"])) for row in _ROW.finditer(told)]

    def ensure(self, gpu: PciAddress, profile: int, start: int) -> GpuInstance:
        """Have one of this profile there. Raises `DeviceRefused`."""
        found = self._at(gpu, profile, start)
        if found is None:
            self._ask(f"make a GPU instance of profile {profile} on {gpu}", gpu, "-cgi", f"{profile}:{start}", "-C")
            found = self._at(gpu, profile, start)
        if found is None:
            raise DeviceRefused(f"The driver made no GPU instance of profile {profile} at {start} on {gpu} and told no error.", 0)
        return found

    def remove(self, gpu: PciAddress, profile: int, start: int, used: Container[int | None] = ()) -> None:
        """Have none of this profile there, unless its id is among those `used`. Raises `DeviceRefused`."""
        found = self._at(gpu, profile, start)
        if found is not None and found.id not in used:
            what = f"remove the GPU instance {found.id} from {gpu}"
            self._ask(what, gpu, "-dci", "-gi", str(found.id))
            self._ask(what, gpu, "-dgi", "-gi", str(found.id))

    def _at(self, gpu: PciAddress, profile: int, start: int) -> GpuInstance | None:
        try:
            return next((g for g in self.of(gpu) if (g.profile, g.start) == (profile, start)), None)
        except OSError as error:
            raise DeviceRefused(f"The GPU instances of {gpu} cannot be listed: {error.strerror}", error.errno or 0) from error

    def _ask(self, what: str, gpu: PciAddress, *words: str) -> None:
        try:
            self._run((TOOL, "mig", "-i", str(gpu), *words))
        except HostError as error:
            raise DeviceRefused(f"The driver refused to {what}: {error.message}", errno.EIO) from error
