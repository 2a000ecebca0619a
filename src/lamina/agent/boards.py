"""What NVIDIA's management library tells of a board beyond the kernel's files: its name, and the modes its types depend on.

The library is optional: without `nvidia-ml-py`, without a driver or for a card of another vendor there is nothing to tell.
Source: NVML API reference (nvmlDeviceGetEccMode, nvmlDeviceGetMigMode, nvmlDeviceGetVgpuHeterogeneousMode).
"""

from __future__ import annotations

import dataclasses
from typing import Any, Protocol

from lamina.model.gpus import Gpu, Partitioning
from lamina.model.ids import PciAddress


@dataclasses.dataclass(frozen=True, slots=True)
class Board:
    """``ecc``, ``mig`` and ``mixed`` (vGPUs of several sizes) are None where the board has no such mode."""

    name: str
    driver_version: str
    ecc: bool | None
    mig: bool | None
    mixed: bool | None = None


class Boards(Protocol):
    def board(self, address: PciAddress) -> Board | None:
        """The board's facts, or None where nobody can tell them."""
        ...


class NoBoards:
    """A host without a management library."""

    def board(self, address: PciAddress) -> Board | None:
        return None


class Nvml:
    """`Boards` by NVML; found out anew at each question until it has answered once, as the driver may come up later."""

    def __init__(self) -> None:
        self._library: Any = None

    def board(self, address: PciAddress) -> Board | None:
        nvml = self._initialised()
        if nvml is None:
            return None
        try:
            handle = nvml.nvmlDeviceGetHandleByPciBusId(str(address).encode())
            return Board(
                name=_text(nvml.nvmlDeviceGetName(handle)),
                driver_version=_text(nvml.nvmlSystemGetDriverVersion()),
                ecc=self._mode(nvml.nvmlDeviceGetEccMode, handle),
                mig=self._mode(nvml.nvmlDeviceGetMigMode, handle),
                mixed=self._mixed(handle),
            )
        except nvml.NVMLError:
            self._library = None  # the driver may have been reloaded
            return None

    def _initialised(self) -> Any:
        if self._library is None:
            try:
                import pynvml
            except ImportError:
                return None
            try:
                pynvml.nvmlInit()
            except pynvml.NVMLError:
                return None
            self._library = pynvml
        return self._library

    def _mode(self, ask: Any, handle: Any) -> bool | None:
        try:
            current, _pending = ask(handle)
        except self._library.NVMLError_NotSupported:
            return None
        return bool(current)

    def _mixed(self, handle: Any) -> bool | None:
        try:
            return bool(self._library.nvmlDeviceGetVgpuHeterogeneousMode(handle))
        except (self._library.NVMLError, AttributeError):
            return None  # an older driver, or an older module, knows of no such mode


def described(gpu: Gpu, boards: Boards) -> Gpu:
    """The GPU with what the management library adds to the kernel's facts."""
    board = boards.board(gpu.address)
    if board is None:
        return gpu
    model = board.name if gpu.model.startswith("PCI ") else gpu.model
    return dataclasses.replace(gpu, model=model, driver_version=board.driver_version, ecc=board.ecc, mig=board.mig, mixed=board.mixed)


def modes_in_the_way(gpu: Gpu) -> list[str]:
    """Sentences about a mode of the board that is not the one its settings count on, so that enabled types cannot be made."""
    problems = []
    barred = [t.name for t in gpu.enabled if t.mig_backed != gpu.mig] if gpu.mig is not None else []
    if barred:
        mode, switch = ("on", "-mig 0") if gpu.mig else ("off", "-mig 1")
        told = f"GPU {gpu.address} has MIG mode {mode}, in which its enabled {_types(barred)} cannot be made"
        problems.append(f"{told}: 'nvidia-smi -i {gpu.address} {switch}' changes it once no vGPU stands on it")
    wanted = gpu.partitioning is Partitioning.MIXED_SIZE
    if gpu.mixed is not None and gpu.mixed != wanted and not gpu.mig:
        mode, switch = ("on", "-shm 0") if gpu.mixed else ("off", "-shm 1")
        told = f"GPU {gpu.address} has mixed-size mode {mode}, and its settings say {gpu.partitioning}"
        problems.append(f"{told}: 'nvidia-smi vgpu -i {gpu.address} {switch}' changes it once no vGPU stands on it")
    return problems


def _types(names: list[str]) -> str:
    return f"type {names[0]}" if len(names) == 1 else f"types {names[0]} and {len(names) - 1} more"


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value
