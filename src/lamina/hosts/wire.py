"""What a control plane and a host that dials in say to each other: calls down, answers up, all JSON.

The methods are those of `Compute`, their parameters and answers what its annotations say; nothing is written twice.
"""

from __future__ import annotations

import dataclasses
import inspect
import typing
from collections.abc import Callable
from typing import Any

import msgspec

from lamina.hosts.directory import Compute
from lamina.model import decoding, errors
from lamina.model.errors import DeviceRefused, HostError, LaminaError, NoValidHost

#: seconds that a poll waits for a call at most
PARK = 25.0


@dataclasses.dataclass(frozen=True, slots=True)
class Method:
    """One method of `Compute` as it travels."""

    name: str
    #: names of the parameters, in order
    parameters: tuple[str, ...]
    #: a msgspec Struct with a field for each
    given: type[msgspec.Struct]
    answer: Any

    def encode(self, *values: Any, **named: Any) -> msgspec.Raw:
        """Raises TypeError for parameters that the method does not have."""
        return msgspec.Raw(msgspec.json.encode(self.given(*values, **named)))

    def call(self, compute: Compute, given: msgspec.Raw) -> msgspec.Raw:
        """Do what was asked. Raises what the method raises, and `msgspec.ValidationError`."""
        values = decoding.from_json(given, self.given)
        answer = getattr(compute, self.name)(*(getattr(values, name) for name in self.parameters))
        return msgspec.Raw(msgspec.json.encode(answer))

    def decode(self, answer: msgspec.Raw) -> Any:
        """Raises `HostError` for an answer that is none."""
        try:
            return decoding.from_json(answer, self.answer)
        except msgspec.DecodeError as error:
            raise HostError(f"The host's answer to {self.name} cannot be read; is it of another version? ({error})") from error


def _method(name: str, function: Callable[..., Any]) -> Method:
    hints = typing.get_type_hints(function)
    answer = hints.pop("return")
    parameters = tuple(p for p in inspect.signature(function).parameters if p != "self")
    given = msgspec.defstruct(name, [(p, hints[p]) for p in parameters], frozen=True)
    return Method(name, parameters, given, answer)


#: by name
METHODS = {name: _method(name, function) for name, function in vars(Compute).items() if inspect.isfunction(function) and name[0] != "_"}


class Given(msgspec.Struct, frozen=True):
    """A call on its way down."""

    id: str
    method: str
    parameters: msgspec.Raw


class Failure(msgspec.Struct, frozen=True):
    """An error of the tree on its way up."""

    code: str
    message: str
    errno: int = 0

    @classmethod
    def of(cls, error: LaminaError) -> Failure:
        return cls(error.code, error.message, error.errno if isinstance(error, DeviceRefused) else 0)

    def as_error(self) -> LaminaError:
        """The same error again, the message as it was; one that this version does not know is a `HostError`."""
        kind = _ERRORS.get(self.code, HostError)
        error = kind.__new__(kind)
        LaminaError.__init__(error, self.message)
        if isinstance(error, DeviceRefused):
            error.errno = self.errno
        return error


#: code -> class; the message of one that has more to it than the tree's root would not make it whole
_ERRORS = {
    kind.code: kind
    for kind in vars(errors).values()
    if inspect.isclass(kind) and issubclass(kind, LaminaError) and kind is not NoValidHost
}


def _nothing() -> msgspec.Raw:
    return msgspec.Raw(b"null")


class Result(msgspec.Struct, frozen=True):
    """What became of a call: its answer, or why there is none."""

    id: str
    answer: msgspec.Raw = msgspec.field(default_factory=_nothing)
    failure: Failure | None = None


class Poll(msgspec.Struct, frozen=True):
    """What a host says whenever it asks for calls."""

    #: drawn anew whenever the agent starts
    session: str
    results: list[Result] = []
    #: ids of calls that are being worked on
    running: list[str] = []
    #: something on the host changed that nobody asked for
    changed: bool = False
    #: the agent takes no more calls, and ends once nothing is running
    leaving: bool = False


class Calls(msgspec.Struct, frozen=True):
    """What a poll is answered with."""

    calls: list[Given]
    #: the control plane's time, seconds since the epoch
    time: float
    #: how long the next poll may be kept waiting, in seconds
    park: float
    #: where every control plane of the fleet is dialled; empty where the one that answers is the only one
    control_planes: list[str] = []


class Enrol(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A host's request to be one of ours."""

    token: str
    host: str
    #: certificate signing request, PEM
    request: str


class Renew(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    #: certificate signing request, PEM, by the key that the host has
    request: str


class Issued(msgspec.Struct, frozen=True):
    """A host's certificate, PEM."""

    host: str
    certificate: str


class Authority(msgspec.Struct, frozen=True):
    """Who signs here, told to everybody; a join token says whether it is the right one."""

    #: PEM
    certificate: str
    #: seconds since the epoch
    time: float
