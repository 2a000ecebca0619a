"""Where a host gets the images from that disks begin with: the control plane."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Protocol

from lamina.model import ids
from lamina.model.errors import HostError


class Images(Protocol):
    """Raises `HostError`, and `HostUnreachable` where the control plane does not answer."""

    def fetch(self, image_id: str, into: Path) -> None:
        """Write an image's content to a new file."""
        ...


class LocalImages:
    """A folder of the control plane's own machine, a file for each image."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def fetch(self, image_id: str, into: Path) -> None:
        try:
            shutil.copyfile(self._folder / ids.parse_uuid(image_id), into)
        except OSError as error:
            raise HostError(f"The image {image_id} cannot be fetched: {error.strerror}.") from error
