"""Lamina's own modules on a libvirt that is made up: constants have values of their own, and connections are brought along."""

from __future__ import annotations

import contextlib
import importlib
import itertools
import sys
import types
from collections.abc import Callable, Iterator
from typing import Any
from unittest import mock

from lamina.agent import hypervisors

_OURS = ("libvirt_connection", "libvirt_moves", "libvirt")


class Constants(types.ModuleType):
    """Flags are bits, and names of parameters are words; both come to be when they are asked for."""

    libvirtError = type("libvirtError", (Exception,), {})  # noqa: N815 - as the real one has it
    virConnect = virDomain = object  # noqa: N815

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("VIR_"):
            raise AttributeError(name)
        value = name if "_PARAM_" in name else 1 << next(_bits)
        setattr(self, name, value)
        return value


_bits = itertools.count()


class Asked:
    """A connection that asks at once."""

    def ask(self, what: str, question: Callable[[Any], Any], patience: float = 0) -> Any:
        return question(self)


@contextlib.contextmanager
def on_made_up_libvirt() -> Iterator[types.SimpleNamespace]:
    """The modules ``moves`` and ``hypervisor``, and the ``constants`` that they were loaded with."""
    constants = Constants("libvirt")
    fresh = {name: f"{hypervisors.__name__}.{name}" for name in _OURS}
    with mock.patch.dict(sys.modules, {"libvirt": constants}), mock.patch.dict(vars(hypervisors)):
        for name in fresh.values():
            sys.modules.pop(name, None)
        loaded = {name: importlib.import_module(path) for name, path in fresh.items()}
        yield types.SimpleNamespace(moves=loaded["libvirt_moves"], hypervisor=loaded["libvirt"], constants=constants)
