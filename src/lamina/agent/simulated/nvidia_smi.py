"""A simulated ``nvidia-smi mig``: GPU instances on a simulated machine's cards, by the rules of the driver.

Source: NVIDIA MIG user guide. Only what `lamina.agent.gpu_instances` says is understood.
"""

from __future__ import annotations

from collections.abc import Sequence

from lamina.agent.simulated.kernel import Card
from lamina.agent.simulated.machine import Machine, MachineInstance
from lamina.model.errors import HostError
from lamina.model.gpus import Partitioning
from lamina.model.partitioners import mig

_HEAD = """\
+-------------------------------------------------------+
| GPU instances:                                        |
| GPU   Name             Profile  Instance   Placement  |
|                          ID       ID       Start:Size |
|=======================================================|
"""
_LINE = "+-------------------------------------------------------+\n"


class NvidiaSmi:
    """The `Command` of a simulated host; every other program is not installed there."""

    def __init__(self, cards: Sequence[Card], machine: Machine) -> None:
        self._cards = {str(card.gpu.address): card for card in cards}
        self._machine = machine

    def __call__(self, argv: Sequence[str]) -> str:
        match [*argv]:
            case ["nvidia-smi", "mig", "-i", gpu, *words]:
                with self._machine.lock:
                    return self._mig(self._card(gpu), words)
        raise HostError(f"{argv[0].rsplit('/', 1)[-1]} is not installed on this host.")

    def _card(self, gpu: str) -> Card:
        card = self._cards.get(gpu)
        if card is None or card.gpu.partitioning is not Partitioning.MIG:
            raise HostError("nvidia-smi failed: MIG mode is not enabled on this GPU")
        return card

    def _mig(self, card: Card, words: list[str]) -> str:
        instances = self._machine.state.gpu_instances.setdefault(str(card.gpu.address), {})
        match words:
            case ["-lgi"]:
                return self._list(card, instances)
            case ["-cgi", asked, "-C"]:
                profile, _, start = asked.partition(":")
                self._create(card, instances, MachineInstance(int(profile), int(start)))
            case ["-dci", "-gi", number]:
                self._must_be_idle(card, instances, int(number))
            case ["-dgi", "-gi", number]:
                self._must_be_idle(card, instances, int(number))
                del instances[int(number)]
            case _:
                raise HostError("nvidia-smi failed: invalid combination of input arguments")
        self._machine.save()
        return ""

    def _list(self, card: Card, instances: dict[int, MachineInstance]) -> str:
        if not instances:
            raise HostError("nvidia-smi failed: No GPU instances found: Not Found")
        rows = ""
        for number, instance in sorted(instances.items()):
            size = self._profiles(card)[instance.profile].shape.size
            rows += f"|   0  MIG profile      {instance.profile:>4}     {number:>4}        {instance.start:>3}:{size:<2}    |\n{_LINE}"
        return _HEAD + rows

    def _create(self, card: Card, instances: dict[int, MachineInstance], new: MachineInstance) -> None:
        profiles = self._profiles(card)
        if new.profile not in profiles:
            raise HostError("nvidia-smi failed: Unable to create a GPU instance: Invalid Argument")
        taken = 0
        for other in instances.values():
            taken |= profiles[other.profile].shape.at(other.start)
        most = max(t.max_instances for t in card.gpu.types if mig.profile(card.gpu, t) == profiles[new.profile])
        same = sum(1 for other in instances.values() if other.profile == new.profile)
        if new.start not in profiles[new.profile].shape.free(taken) or same >= most:
            raise HostError("nvidia-smi failed: Unable to create a GPU instance: Insufficient Resources")
        instances[next(n for n in range(1, 9) if n not in instances)] = new

    def _must_be_idle(self, card: Card, instances: dict[int, MachineInstance], number: int) -> None:
        if number not in instances:
            raise HostError("nvidia-smi failed: Unable to destroy the GPU instance: Not Found")
        if number in (self._machine.state.vf_places.get(str(function)) for function in card.functions):
            raise HostError("nvidia-smi failed: Unable to destroy the GPU instance: In use by another client")

    @staticmethod
    def _profiles(card: Card) -> dict[int, mig.Profile]:
        found = (mig.profile(card.gpu, t) for t in card.gpu.types)
        return {profile.id: profile for profile in found if profile is not None}
