"""The picture of a fleet: every device is in it, to scale, and it reads without colour."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from lamina.cli import pictures

TYPES = {"A40-8Q": (8192, 6), "A40-12Q": (12288, 4)}


def vgpu(server: str | None, vgpu_type: str | None = "A40-8Q", state: str = "attached") -> dict[str, Any]:
    size = TYPES[vgpu_type][0] if vgpu_type else None
    return {"uuid": "u", "type": vgpu_type, "framebuffer_mb": size, "server_id": server, "state": state, "placement": None}


def rooms(now: int, repacked: int | None = None, placements: tuple[int, ...] = ()) -> dict[str, Any]:
    return {"room": now, "room_repacked": now if repacked is None else repacked, "placements": list(placements)}


def gpu(*vgpus: dict[str, Any], room: dict[str, int] | None = None, host: str = "host1", present: bool = True) -> dict[str, Any]:
    free = {"A40-8Q": 6, "A40-12Q": 4} if room is None else room
    return {
        "host": host,
        "address": "0000:81:00.0",
        "model": "nvidia-a40",
        "framework": "vfio",
        "framebuffer_mb": 49152,
        "slots": None,
        "present": present,
        "total": 6,
        "used": sum(1 for v in vgpus if v["state"] != "foreign"),
        "foreign": sum(1 for v in vgpus if v["state"] == "foreign"),
        "types": [
            {"name": name, "framebuffer_mb": size, "max_instances": most, "enabled": True} | rooms(free.get(name, 0))
            for name, (size, most) in TYPES.items()
        ],
        "vgpus": list(vgpus),
    }


def drawn(*gpus: dict[str, Any], width: int = 48, colour: bool = False, **names: str) -> str:
    console = Console(width=200, force_terminal=colour, color_system="truecolor" if colour else None, highlight=False)
    with console.capture() as capture:
        console.print(pictures.picture(gpus, names=names, width=width))
    return capture.get()


def bar_of(picture: str, line: int = 1) -> str:
    return picture.splitlines()[line].split("▕")[1].split("▏")[0]


def test_each_slot_is_as_wide_as_its_share_of_the_framebuffer() -> None:
    picture = drawn(gpu(vgpu("s1"), vgpu("s2"), room={"A40-8Q": 4}))
    assert bar_of(picture) == "AAAAAAA BBBBBBB ······· ······· ······· ······· "


def test_a_free_gpu_is_cut_by_the_type_that_fills_it_best_and_finest() -> None:
    assert bar_of(drawn(gpu())) == "······· " * 6
    assert bar_of(drawn(gpu(room={"A40-8Q": 5, "A40-12Q": 4}))) == "··········· " * 4


def test_a_foreign_device_is_hatched_and_explained() -> None:
    picture = drawn(gpu(vgpu(None, state="foreign"), room={"A40-8Q": 5}))
    assert bar_of(picture).startswith("/////// ·")
    assert "made by others" in picture


def test_a_foreign_device_of_unknown_type_counts_as_the_largest() -> None:
    assert bar_of(drawn(gpu(vgpu(None, None, "foreign"), room={}))) == "/" * 11 + " " * 37


def test_what_no_type_may_use_is_left_blank() -> None:
    assert bar_of(drawn(gpu(vgpu("s1"), room={}))) == "AAAAAAA " + " " * 40


def test_the_servers_of_a_legend_have_one_letter_each_on_every_gpu() -> None:
    picture = drawn(gpu(vgpu("s1"), vgpu("s1"), vgpu("s2"), room={}), gpu(vgpu("s2"), host="host2", room={}), s1="web")
    assert "A  web  2 x A40-8Q" in picture
    assert "B  s2  2 x A40-8Q" in picture
    assert bar_of(picture, 1).split() == ["A" * 7, "A" * 7, "B" * 7]
    assert bar_of(picture, 3).split() == ["B" * 7]


def test_named_servers_keep_their_letters_from_picture_to_picture() -> None:
    picture = drawn(gpu(vgpu("s2"), vgpu("s9"), room={}), s1="one", s2="two")
    assert bar_of(picture).split() == ["B" * 7, "C" * 7]
    assert "B  two  1 x A40-8Q" in picture
    assert "one" not in picture


def test_capacity_is_told_for_each_type_alone() -> None:
    assert pictures.capacity([gpu(), gpu(room={"A40-8Q": 2})]) == "8 more of A40-8Q, or 4 more of A40-12Q"
    assert pictures.capacity([gpu(room={})]) == "full"


def test_what_repacking_would_gain_is_told_where_it_gains() -> None:
    scattered = gpu() | {"types": [{"name": "large", "framebuffer_mb": 24576, "enabled": True} | rooms(0, 1)]}
    assert pictures.capacity([scattered]) == "0 more of large (1 repacked)"


def test_on_a_card_with_slots_each_stands_where_it_is_and_free_is_what_a_type_can_use() -> None:
    types = [{"name": "A40-8Q", "framebuffer_mb": 8192, "max_instances": 6, "enabled": True} | rooms(2, 2, (0, 40))]
    there = [vgpu("s1") | {"placement": 16}, vgpu(None, state="foreign") | {"placement": 24}]
    picture = drawn(gpu(*there) | {"slots": 48, "types": types})
    assert bar_of(picture) == "········" + " " * 8 + "AAAAAAA ///////         ········"
    told = {"types": [{"name": "a", "now": 1, "repacked": 2}], "hosts": [{"host": "h", "usable": False, "types": [], "gpus": []}]}
    assert [column.header for column in pictures.capacity_table(told).columns] == ["where", "type", "now", "repacked"]


def test_the_room_for_many_types_is_told_in_one_line() -> None:
    many = gpu() | {"types": [{"name": f"t{n}", "framebuffer_mb": 1, "enabled": True} | rooms(n) for n in range(1, 33)]}
    assert pictures.capacity([many]) == "1 more of t1, or 2 more of t2, or 3 more of t3, or some of 29 other types"


def test_a_gpu_that_is_gone_offers_nothing_and_says_so() -> None:
    assert pictures.capacity([gpu(present=False)]) == "full"
    assert "gone nvidia-a40" in drawn(gpu(present=False))


def test_colour_adds_nothing_but_colour() -> None:
    gpus = [gpu(vgpu("s1"), vgpu(None, state="foreign"))]
    plain, coloured = drawn(*gpus), drawn(*gpus, colour=True)
    assert "\x1b[" in coloured
    assert "\x1b[" not in plain


def test_a_fleet_without_gpus_says_so() -> None:
    assert drawn().strip() == "There are no GPUs."


def test_the_legend_of_a_large_fleet_ends() -> None:
    picture = drawn(*(gpu(vgpu(f"s{n}"), room={}) for n in range(100)))
    assert "and 80 more servers" in picture
    assert picture.count("▕") == 100
    assert pictures.MANY in picture


@given(st.lists(st.sampled_from(["A40-8Q", "A40-12Q"]), min_size=1, max_size=60), st.integers(16, 120))
def test_no_slot_vanishes(types: list[str], width: int) -> None:
    held = gpu(*(vgpu(f"s{n}", t) for n, t in enumerate(types)), room={})
    signs = pictures.letters([held])
    pieces = pictures.slots(held, signs, dict.fromkeys(signs, "red"))
    bar = pictures.bar(pieces, width).plain
    assert set(signs.values()) <= set(bar)
    assert len(bar) >= width or len(pieces) > width
