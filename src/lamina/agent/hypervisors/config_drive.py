"""A config drive: a small ISO 9660 file system that tells a guest who it is.

Source: OpenStack Compute, "Config drives": labelled ``config-2``, read by cloud-init and its kin. Joliet and Rock Ridge, so that the names
are what they are on either kind of guest.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path

import pycdlib

LABEL = "config-2"


def write(path: Path, files: Mapping[str, bytes]) -> None:
    """Write the drive, whole or not at all, for its owner's eyes only. Paths are relative, ``a/b/c``. Raises OSError."""
    drive = pycdlib.PyCdlib()
    drive.new(interchange_level=3, joliet=3, rock_ridge="1.09", vol_ident=LABEL)
    folders: dict[str, str] = {"": ""}
    for number, (name, content) in enumerate(sorted(files.items())):
        folder, _, leaf = name.rpartition("/")
        at = _folder(drive, folder, folders)
        drive.add_fp(io.BytesIO(content), len(content), f"{at}/F{number:06d}.;1", rr_name=leaf, joliet_path=f"/{name}")
    packed = io.BytesIO()
    drive.write_fp(packed)
    drive.close()
    draft = path.with_suffix(".new")
    draft.unlink(missing_ok=True)
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(packed.getvalue())
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def _folder(drive: pycdlib.PyCdlib, name: str, folders: dict[str, str]) -> str:
    """The ISO path of a folder, made with those above it."""
    if name not in folders:
        above, _, leaf = name.rpartition("/")
        iso = f"{_folder(drive, above, folders)}/D{len(folders):06d}"
        drive.add_directory(iso, rr_name=leaf, joliet_path=f"/{name}")
        folders[name] = iso
    return folders[name]
