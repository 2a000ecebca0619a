"""The module that moves domains, on a libvirt that is made up: constants have values of their own, and connections are brought along."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import sys
import types
from collections.abc import Iterator
from typing import Any
from unittest import mock

HYPERVISORS = "lamina.agent.hypervisors"
_LIBVIRT = ("libvirt_connection", "libvirt_moves")


class Constants(types.ModuleType):
    """Flags are bits, and names of parameters are words; both come to be when they are asked for."""

    libvirtError = type("libvirtError", (Exception,), {})  # noqa: N815 - as the real one has it

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("VIR_"):
            raise AttributeError(name)
        value = name if "_PARAM_" in name else 1 << next(_bits)
        setattr(self, name, value)
        return value


_bits = itertools.count()


@contextlib.contextmanager
def on_made_up_libvirt() -> Iterator[types.SimpleNamespace]:
    """``moves``, the module, and the ``constants`` that it was loaded with."""
    constants = Constants("libvirt")
    fresh = [f"{HYPERVISORS}.{name}" for name in _LIBVIRT]
    with mock.patch.dict(sys.modules, {"libvirt": constants}):
        for name in fresh:
            sys.modules.pop(name, None)
        loaded = [importlib.import_module(name) for name in fresh]
        yield types.SimpleNamespace(moves=loaded[-1], constants=constants)
