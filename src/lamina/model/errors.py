"""Lamina's one error tree.

::

    LaminaError                     500  something is wrong inside Lamina
    ├── CorruptRecord               500  a record in the database is damaged; names it, and says nothing of what it holds
    ├── BadRequest                  400  the caller's words are wrong; the message says what to mend
    ├── Unauthorized                401  no token, or one that is not valid now
    ├── Forbidden                   403  a valid token without the right
    │   └── OverLimit               403  a quota or a limit of the API would be exceeded
    ├── NotFound                    404  no such thing, or not the caller's
    ├── NotAcceptable               406  a microversion outside what is served
    ├── Conflict                    409  the thing is not in a state that allows this
    │   ├── ConcurrentUpdate        409  somebody changed it first; read it again and retry
    │   ├── InUse                   409  others still hold on to it
    │   │   ├── InventoryInUse      409  something is allocated of the inventory
    │   │   ├── ProviderInUse       409  something is allocated on the provider, or a host or GPU stands behind it
    │   │   └── ProviderHasChildren 409  other providers are below the provider
    │   ├── AlreadyExists           409  the name or id is taken
    │   └── InvalidState            409  a server in the wrong vm_state or task_state
    ├── TooSlow                     408  a body that took longer to come in than it may
    ├── TooLarge                    413  a body over its limit
    ├── UnsupportedMedia            415  a body of another type than the call takes
    ├── TooManyRequests             429  asked too often; says after how many seconds it is worth asking again
    ├── NoValidHost                 400  no host can take the server; carries every filter's reason
    ├── NotImplementedHere          501  a documented call that Lamina does not answer
    ├── Unavailable                 503  what answers this is not there now
    └── HostError                   500  a host could not do what was asked
        ├── HostUnreachable         503  the host does not answer; worth a retry
        ├── StaleFence              409  the host has seen a newer operation on this server
        ├── DeviceRefused           500  the kernel refused to make or clear a vGPU; carries errno
        ├── DeviceMissing           500  a device that should be there is not
        ├── DeviceForeign           409  the device is not ours and is left alone
        └── HypervisorError         500  the hypervisor refused a domain operation

Each class has a stable ``code``, an HTTP ``status``, a public message (the exception's text, fit for any caller) and
a private ``context`` (for the log only, never in an answer). Each API turns them into its own fault body in one place.
"""

from __future__ import annotations

import errno as errno_names
from typing import Any, ClassVar


class LaminaError(Exception):
    """The root of the tree; raised itself only for a defect in Lamina."""

    code: ClassVar[str] = "lamina.internal"
    status: ClassVar[int] = 500

    def __init__(self, message: str, **context: Any) -> None:
        super().__init__(message)
        self.message = message
        self.context = context


class CorruptRecord(LaminaError):
    """A record cannot be read. The context says its ``table`` and ``key``."""

    code = "lamina.corrupt_record"


class BadRequest(LaminaError):
    code = "lamina.bad_request"
    status = 400


class Unauthorized(LaminaError):
    code = "lamina.unauthorized"
    status = 401


class Forbidden(LaminaError):
    code = "lamina.forbidden"
    status = 403


class OverLimit(Forbidden):
    code = "lamina.over_limit"


class NotFound(LaminaError):
    code = "lamina.not_found"
    status = 404


class NotAcceptable(LaminaError):
    code = "lamina.not_acceptable"
    status = 406


class Conflict(LaminaError):
    code = "lamina.conflict"
    status = 409


class ConcurrentUpdate(Conflict):
    code = "lamina.concurrent_update"


class InUse(Conflict):
    code = "lamina.in_use"


class InventoryInUse(InUse):
    code = "lamina.inventory_in_use"


class ProviderInUse(InUse):
    code = "lamina.provider_in_use"


class ProviderHasChildren(InUse):
    code = "lamina.provider_has_children"


class AlreadyExists(Conflict):
    code = "lamina.already_exists"


class InvalidState(Conflict):
    code = "lamina.invalid_state"


class TooSlow(LaminaError):
    code = "lamina.too_slow"
    status = 408


class TooLarge(LaminaError):
    code = "lamina.too_large"
    status = 413


class UnsupportedMedia(LaminaError):
    code = "lamina.unsupported_media"
    status = 415


class TooManyRequests(LaminaError):
    """Asked too often. ``retry_after`` is in how many seconds asking again is worth it, more than none."""

    code = "lamina.too_many_requests"
    status = 429
    retry_after: float = 1.0

    def __init__(self, message: str, retry_after: float = 1.0, **context: Any) -> None:
        self.retry_after = retry_after
        super().__init__(message, **context)


class NoValidHost(LaminaError):
    """No host can take the request. ``reasons`` maps each host's name to why it was passed over."""

    code = "lamina.no_valid_host"
    status = 400

    def __init__(self, reasons: dict[str, str]) -> None:
        self.reasons = reasons
        if reasons:
            told = "; ".join(f"{host}: {reason}" for host, reason in sorted(reasons.items())[:10])
            more = f"; and {len(reasons) - 10} more hosts" if len(reasons) > 10 else ""
            why = told + more
        else:
            why = "there is no host"
        super().__init__(f"No valid host was found. {why}.")


class NotImplementedHere(LaminaError):
    code = "lamina.not_implemented"
    status = 501


class Unavailable(LaminaError):
    code = "lamina.unavailable"
    status = 503


class HostError(LaminaError):
    """A host could not do what was asked. ``retry`` says whether the same call may well succeed later."""

    code = "lamina.host_error"
    retry: ClassVar[bool] = False


class HostUnreachable(HostError):
    code = "lamina.host_unreachable"
    status = 503
    retry = True


class StaleFence(HostError):
    code = "lamina.stale_fence"
    status = 409


class DeviceRefused(HostError):
    """The kernel said no. ``errno`` is the kernel's number, or 0 where no write failed."""

    code = "lamina.device_refused"

    def __init__(self, message: str, errno: int = 0, **context: Any) -> None:
        self.errno = errno
        name = errno_names.errorcode.get(errno)
        super().__init__(f"{message} ({name})" if name else message, **context)


class DeviceMissing(HostError):
    code = "lamina.device_missing"


class DeviceForeign(HostError):
    code = "lamina.device_foreign"
    status = 409


class HypervisorError(HostError):
    code = "lamina.hypervisor_error"
