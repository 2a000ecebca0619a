"""Images and disks over the same doors that a host's line goes through: fetched from the control plane, and brought there."""

from __future__ import annotations

import ssl
from collections.abc import Callable
from pathlib import Path

import httpx

from lamina.hosts import joining
from lamina.hosts.membership import Membership
from lamina.model.errors import HostError, HostUnreachable, LaminaError, Unavailable

#: seconds without a byte after which a transfer is given up
SILENCE = 60.0


class RemoteImages:
    """Images, as `lamina.agent.images.Images` has them."""

    def __init__(self, joined: Membership) -> None:
        self._joined = joined

    def fetch(self, image_id: str, into: Path) -> None:
        _transfer(
            self._joined,
            f"The image {image_id} cannot be fetched",
            lambda client, base: _get(client, f"{base}/images/{image_id}/file", into),
        )


class RemoteDepot:
    """Disks on their way between hosts, as `lamina.agent.depot.Depot` has them."""

    def __init__(self, joined: Membership) -> None:
        self._joined = joined

    def bring(self, server_id: str, disk: Path) -> None:
        _transfer(
            self._joined,
            f"The disk of server {server_id} cannot be handed over",
            lambda client, base: _put(client, f"{base}/disks/{server_id}/file", disk),
        )

    def fetch(self, server_id: str, into: Path) -> None:
        _transfer(
            self._joined,
            f"The disk of server {server_id} cannot be fetched",
            lambda client, base: _get(client, f"{base}/disks/{server_id}/file", into),
        )


def _transfer(joined: Membership, what: str, transfer: Callable[[httpx.Client, str], None]) -> None:
    """With the first control plane that answers. Raises `HostUnreachable` where none does, `HostError` for what one refuses."""
    silent: LaminaError | None = None
    for url in joined.control_planes:
        try:
            with httpx.Client(verify=joined.tls(), timeout=SILENCE, trust_env=False) as client:
                transfer(client, f"{url}/agents/v1")
            return
        except (httpx.HTTPError, ssl.SSLError) as error:
            silent = joining.why_not(url, error)
        except Unavailable as error:
            silent = error
        except LaminaError as error:
            raise HostError(f"{what}: {error.message}") from error
        except OSError as error:
            raise HostError(f"{what}: {error.strerror}.") from error
    raise HostUnreachable(f"{what}: {silent.message if silent is not None else 'this host has joined no control plane.'}")


def _get(client: httpx.Client, url: str, into: Path) -> None:
    with client.stream("GET", url) as answer:
        if answer.is_error:
            answer.read()
            raise joining.refusal(answer)
        with into.open("wb") as file:
            for chunk in answer.iter_bytes():
                file.write(chunk)


def _put(client: httpx.Client, url: str, disk: Path) -> None:
    with disk.open("rb") as file:
        answer = client.put(url, content=file)
    if answer.is_error:
        raise joining.refusal(answer)
