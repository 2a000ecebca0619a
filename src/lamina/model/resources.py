"""Resource classes and traits: names as Placement knows them, and how a vGPU type's name becomes a trait."""

from __future__ import annotations

import functools
import re

import os_resource_classes
import os_traits

from lamina.model.errors import BadRequest

VCPU = os_resource_classes.VCPU
MEMORY_MB = os_resource_classes.MEMORY_MB
DISK_GB = os_resource_classes.DISK_GB
VGPU = os_resource_classes.VGPU

#: most characters of a name
MOST_NAME = 255

_CUSTOM = re.compile(r"CUSTOM_[A-Z0-9_]{1,248}")
_NAME = re.compile(r"[A-Z0-9_]{1,255}")

STANDARD_CLASSES: tuple[str, ...] = tuple(os_resource_classes.STANDARDS)


def class_order(name: str) -> tuple[int, str]:
    """Sorts resource classes as Placement lists them: the standard ones in their order, then the custom ones by name."""
    return (STANDARD_CLASSES.index(name) if name in STANDARD_CLASSES else len(STANDARD_CLASSES), name)


@functools.cache
def standard_traits() -> frozenset[str]:
    return frozenset(os_traits.get_traits())


def parse_resource_class(text: str) -> str:
    """A well-formed resource class name, standard or ``CUSTOM_…``. Raises `BadRequest`; says nothing of its existence."""
    if not _NAME.fullmatch(text):
        raise BadRequest(f"{text[:80]!r} is not a resource class: upper-case letters, digits and '_', at most 255")
    return text


def parse_custom_class(text: str) -> str:
    """A name that a caller may create: ``CUSTOM_`` and upper-case letters, digits and underscores."""
    if not _CUSTOM.fullmatch(text):
        raise BadRequest(f"{text[:80]!r} is not a custom resource class: it is CUSTOM_ and upper-case letters, digits and '_', at most 255")
    return text


def parse_vgpu_class(text: str) -> str:
    """The class of a GPU's inventory: ``VGPU`` or a custom one (Nova's ``mdev_class``)."""
    return VGPU if text == VGPU else parse_custom_class(text)


def parse_trait(text: str) -> str:
    if not _NAME.fullmatch(text):
        raise BadRequest(f"{text[:80]!r} is not a trait: upper-case letters, digits and '_', at most 255")
    return text


def parse_custom_trait(text: str) -> str:
    if not _CUSTOM.fullmatch(text):
        raise BadRequest(f"{text[:80]!r} is not a custom trait: it is CUSTOM_ and upper-case letters, digits and '_', at most 255")
    return text


@functools.lru_cache(maxsize=4096)
def type_trait(vgpu_type: str) -> str:
    """The trait of a GPU that can make this vGPU type now: ``NVIDIA A40-8Q`` is ``CUSTOM_NVIDIA_A40_8Q``."""
    return "CUSTOM_" + re.sub(r"[^A-Z0-9]+", "_", vgpu_type.upper()).strip("_")[:248]
