"""The card catalog: what its own rules promise, and the facts that sources tell."""

from __future__ import annotations

import itertools

import pytest

from lamina.model import catalog, partitioners
from lamina.model.catalog import Card
from lamina.model.errors import BadRequest

CARDS = list(catalog.cards().values())
of_every_card = pytest.mark.parametrize("card", CARDS, ids=lambda c: c.key)


@of_every_card
def test_every_type_can_stand_on_its_card(card: Card) -> None:
    assert card.types
    for vgpu_type in card.types:
        assert vgpu_type.framebuffer_mb * vgpu_type.max_instances <= card.framebuffer_mb
        assert 1 <= vgpu_type.max_instances <= partitioners.MOST_VGPUS
        assert vgpu_type.series in "ABCQ"
        assert vgpu_type.series != ""


@of_every_card
def test_the_largest_type_takes_the_whole_card(card: Card) -> None:
    largest = max(card.types, key=lambda t: t.framebuffer_mb)
    assert (largest.framebuffer_mb, largest.max_instances) == (card.framebuffer_mb, 1)


@of_every_card
def test_types_of_one_size_have_one_count(card: Card) -> None:
    sliced = [t for t in card.types if not t.mig_backed]
    assert len({(t.framebuffer_mb, t.max_instances) for t in sliced}) == len({t.framebuffer_mb for t in sliced})


@of_every_card
def test_a_card_has_functions_enough_for_its_smallest_type(card: Card) -> None:
    if card.virtual_functions is not None:
        assert card.virtual_functions >= max(t.max_instances for t in card.types)


@of_every_card
def test_a_source_is_told(card: Card) -> None:
    assert card.source
    assert card.vendor_id == "10de"
    assert all(len(d) == 4 and int(d, 16) for d in card.device_ids)


def test_type_ids_and_names_are_nobody_elses() -> None:
    every = [t for c in CARDS for t in c.types]
    assert len({t.id for t in every}) == len(every)
    assert len({t.name for t in every}) == len(every)
    assert len({t.trait for t in every}) == len(every)


def test_a_made_up_id_is_seen_to_be_one() -> None:
    known = {t.id for c in CARDS for t in c.types if int(t.id) < catalog.MADE_UP_IDS}
    assert {"558", "746", "1150", "1519"} <= known
    assert all(int(t) < 10_000 for t in known)


@pytest.mark.parametrize(
    ("key", "name", "type_id", "framebuffer_mb", "most"),
    [
        ("nvidia-a40", "NVIDIA A40-2Q", "558", 2048, 24),
        ("nvidia-a40", "NVIDIA A40-1Q", "557", 1024, 32),
        ("nvidia-a2", "NVIDIA A2-4Q", "746", 4096, 4),
        ("nvidia-a2", "NVIDIA A2-4C", "754", 4096, 4),
        ("nvidia-a2", "NVIDIA A2-4A", "751", 4096, 4),
        ("nvidia-l40s", "NVIDIA L40S-1Q", "1147", 1024, 32),
        ("nvidia-l40s", "NVIDIA L40S-4Q", "1150", 4096, 12),
    ],
)
def test_types_as_recorded_on_real_machines(key: str, name: str, type_id: str, framebuffer_mb: int, most: int) -> None:
    vgpu_type = next(t for t in catalog.card(key).types if t.name == name)
    assert (vgpu_type.id, vgpu_type.framebuffer_mb, vgpu_type.max_instances) == (type_id, framebuffer_mb, most)


def test_a_card_is_known_by_its_pci_ids() -> None:
    for card, device_id in itertools.chain.from_iterable(((c, d) for d in c.device_ids) for c in CARDS):
        assert catalog.by_pci_id(card.vendor_id, device_id, card.subsystem_id or "") == card
    assert catalog.by_pci_id("10de", "ffff") is None
    assert catalog.by_pci_id("8086", CARDS[0].device_ids[0]) is None


def test_boards_that_share_a_device_id_are_told_apart() -> None:
    a16, a2 = catalog.card("nvidia-a16"), catalog.card("nvidia-a2")
    assert a16.device_ids == a2.device_ids
    assert catalog.by_pci_id("10de", "25b6", "14a9") == a16
    assert catalog.by_pci_id("10de", "25b6", "157e") == a2


def test_an_unknown_card_is_answered_with_the_known_ones() -> None:
    with pytest.raises(BadRequest, match=r"'nvidia-a41' is not in the card catalog; known are nvidia-a10, .*nvidia-a40, .*nvidia-t4, "):
        catalog.card("nvidia-a41")


@pytest.mark.parametrize("word", ["NVIDIA A40-8Q", "GRID A40-8Q", "558", "nvidia-558", "NVIDIA T4-2Q"])
def test_words_for_a_type(word: str) -> None:
    assert catalog.is_type(word)


@pytest.mark.parametrize("word", ["NVIDIA A40-7Q", "", "nvidia-", "A40", "nvidia-1"])
def test_words_for_nothing(word: str) -> None:
    assert not catalog.is_type(word)
