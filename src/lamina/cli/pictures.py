"""A fleet as a picture: each GPU a bar of slots, each slot as wide as its share of the framebuffer.

A server has a letter and a colour, so that the picture reads without colour too; foreign devices are hatched, free
slots are dots. Everything here is a pure function of the answer of ``GET /fleet/v1/gpus``.
"""

from __future__ import annotations

import dataclasses
import itertools
import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

Gpu = Mapping[str, Any]

#: columns of a bar
WIDTH = 48
#: most types whose room is told on one line
MOST_TYPES = 4
#: most servers that the legend names
MOST_NAMED = 20

FREE = "·"
FOREIGN = "/"
#: framebuffer that is free and of no use to any type that may stand here now
LOST = " "
LETTERS = string.ascii_uppercase + string.ascii_lowercase + string.digits
#: for servers beyond the letters
MANY = "#"
COLOURS = ("cyan", "magenta", "green", "yellow", "blue", "red", "bright_cyan", "bright_magenta", "bright_green", "bright_yellow")


@dataclasses.dataclass(frozen=True, slots=True)
class Slot:
    """A piece of a bar: ``sign`` fills it, ``style`` is rich's."""

    sign: str
    style: str
    framebuffer_mb: int


def letters(gpus: Iterable[Gpu], first: Iterable[str] = ()) -> dict[str, str]:
    """Server id -> its letter: `first`, then in the order of appearance; the ones after the last letter share a sign."""
    servers = dict.fromkeys([*first, *(v["server_id"] for gpu in gpus for v in gpu["vgpus"] if v["server_id"])])
    return dict(zip(servers, itertools.chain(LETTERS, itertools.repeat(MANY)), strict=False))


def _colours(signs: Iterable[str]) -> dict[str, str]:
    return {server: COLOURS[index % len(COLOURS)] for index, server in enumerate(signs)}


def slots(gpu: Gpu, signs: Mapping[str, str], colours: Mapping[str, str]) -> list[Slot]:
    """The slots of one GPU: its vGPUs in the answer's order, then what is free, cut by the type that fills it best, finely.

    On a card where it matters where a vGPU stands, each is where it is.
    """
    if gpu["slots"] is not None and all(vgpu["placement"] is not None for vgpu in gpu["vgpus"]):
        return _in_place(gpu, gpu["slots"], signs, colours)
    drawn = [_taken(gpu, vgpu, signs, colours) for vgpu in gpu["vgpus"]]
    open_types = [t for t in gpu["types"] if t["enabled"] and t["room"] > 0]
    if open_types:
        best = max(open_types, key=lambda t: (t["room"] * t["framebuffer_mb"], t["room"]))
        drawn += [Slot(FREE, "dim", best["framebuffer_mb"])] * best["room"]
    rest = gpu["framebuffer_mb"] - sum(slot.framebuffer_mb for slot in drawn)
    if rest > 0:
        drawn.append(Slot(LOST, "dim", rest))
    return drawn


def _in_place(gpu: Gpu, count: int, signs: Mapping[str, str], colours: Mapping[str, str]) -> list[Slot]:
    slot_mb: float = gpu["framebuffer_mb"] / count

    def size(framebuffer_mb: int) -> int:
        return max(1, round(framebuffer_mb / slot_mb))

    usable = {
        slot
        for t in gpu["types"]
        if t["enabled"] and t["room"] > 0
        for start in t["placements"]
        for slot in range(start, start + size(t["framebuffer_mb"]))
    }
    standing = {vgpu["placement"]: _taken(gpu, vgpu, signs, colours) for vgpu in gpu["vgpus"]}
    drawn, at = [], 0
    while at < count:
        if at in standing:
            drawn.append(standing[at])
            at += size(standing[at].framebuffer_mb)
        else:
            drawn.append(Slot(FREE if at in usable else LOST, "dim", round(slot_mb)))
            at += 1
    return drawn


def _taken(gpu: Gpu, vgpu: Mapping[str, Any], signs: Mapping[str, str], colours: Mapping[str, str]) -> Slot:
    # a device of an unknown type is counted as the card's largest, as the partitioners count it
    size = vgpu["framebuffer_mb"] or max((t["framebuffer_mb"] for t in gpu["types"]), default=gpu["framebuffer_mb"])
    server = vgpu["server_id"]
    if server is None:
        return Slot(FOREIGN, "dim", size)
    faint = " dim" if vgpu["state"] == "planned" else ""
    return Slot(signs[server], f"bold {colours[server]}{faint}", size)


def bar(pieces: Sequence[Slot], width: int = WIDTH) -> Text:
    """The slots side by side over `width` columns, a gap after each that has a column to spare.

    No slot vanishes: where there are more slots than columns, each has one column.
    """
    total = sum(slot.framebuffer_mb for slot in pieces)
    text = Text(no_wrap=True)
    reached, edge = 0, 0
    for slot in pieces:
        reached += slot.framebuffer_mb
        columns = max(1, round(reached * width / total) - edge)
        edge += columns
        text.append(slot.sign * (columns - 1) + " " if columns > 1 else slot.sign, slot.style)
    return text


def room(gpus: Iterable[Gpu]) -> dict[str, tuple[int, int]]:
    """Type -> how many more of it alone would fit on these GPUs, now and once each is repacked; types without any are left out."""
    sums: dict[str, tuple[int, int]] = {}
    for gpu in gpus:
        for vgpu_type in gpu["types"] if gpu["present"] else ():
            if vgpu_type["enabled"] and vgpu_type["room_repacked"] > 0:
                now, repacked = sums.get(vgpu_type["name"], (0, 0))
                sums[vgpu_type["name"]] = now + vgpu_type["room"], repacked + vgpu_type["room_repacked"]
    return sums


def capacity(gpus: Iterable[Gpu]) -> str:
    """``4 more of NVIDIA A40-8Q (5 repacked), or 2 more of NVIDIA A40-12Q``; of many types, the first few."""
    told = [
        f"{now} more of {name}" + (f" ({repacked} repacked)" if repacked > now else "") for name, (now, repacked) in room(gpus).items()
    ]
    if len(told) > MOST_TYPES:
        told[MOST_TYPES - 1 :] = [f"some of {len(told) - MOST_TYPES + 1} other types"]
    return ", or ".join(told) or "full"


def picture(gpus: Sequence[Gpu], *, names: Mapping[str, str] | None = None, width: int = WIDTH) -> RenderableType:
    """Every GPU as a bar, host by host, and a legend.

    `names` are shown for servers instead of their ids, and give them the same letters in every picture.
    """
    if not gpus:
        return Text("There are no GPUs.")
    names = names or {}
    signs = letters(gpus, names)
    colours = _colours(signs)
    parts: list[RenderableType] = []
    for host, group in itertools.groupby(gpus, key=lambda g: str(g["host"])):
        members = list(group)
        parts.append(Text.assemble((host, "bold"), "  ", (capacity(members), "dim")))
        parts.append(_bars(members, signs, colours, width))
    return Group(*parts, *_legend(gpus, signs, colours, names))


def _bars(gpus: Iterable[Gpu], signs: Mapping[str, str], colours: Mapping[str, str], width: int) -> Table:
    table = Table.grid(padding=(0, 1))
    for _column in range(3):
        table.add_column(no_wrap=True)
    table.add_column(no_wrap=True, overflow="ellipsis", style="dim")
    for gpu in gpus:
        told = f"{gpu['used']}/{gpu['total']} {gpu['model']}" if gpu["present"] else f"gone {gpu['model']}"
        table.add_row("", gpu["address"], Text.assemble("▕", bar(slots(gpu, signs, colours), width), "▏"), told)
    return table


def _legend(gpus: Sequence[Gpu], signs: Mapping[str, str], colours: Mapping[str, str], names: Mapping[str, str]) -> Iterator[Text]:
    held_by: dict[str, list[str]] = {}
    for vgpu in (v for gpu in gpus for v in gpu["vgpus"] if v["server_id"]):
        held_by.setdefault(vgpu["server_id"], []).append(vgpu["type"])
    types = {server: held_by[server] for server in signs if server in held_by}
    for server in itertools.islice(types, MOST_NAMED):
        held = ", ".join(f"{len(list(alike))} x {name}" for name, alike in itertools.groupby(sorted(types[server])))
        yield Text.assemble((signs[server], f"bold {colours[server]}"), f"  {names.get(server, server)}  ", (held, "dim"))
    if len(types) > MOST_NAMED:
        yield Text(f"and {len(types) - MOST_NAMED} more servers", "dim")
    if any(gpu["foreign"] for gpu in gpus):
        yield Text.assemble((FOREIGN, "dim"), "  made by others, left alone")


def capacity_table(told: Mapping[str, Any]) -> Table:
    """The answer of ``GET /fleet/v1/capacity``: a row for each type of the fleet and of each host."""
    table = Table(box=None, pad_edge=False)
    table.add_column("where", no_wrap=True)
    table.add_column("type", no_wrap=True)
    table.add_column("now", justify="right")
    table.add_column("repacked", justify="right")
    rows = [("fleet", told["types"])]
    rows += [(host["host"] if host["usable"] else f"{host['host']} (closed)", host["types"]) for host in told["hosts"]]
    for where, types in rows:
        for one in types:
            table.add_row(Text(where), Text(one["name"]), str(one["now"]), str(one["repacked"]))
    return table
