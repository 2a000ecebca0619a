"""The options that say who knows the users, and what they may do."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

import click
import msgspec

from lamina.hosts.private_files import is_private
from lamina.model import decoding
from lamina.model.errors import BadRequest
from lamina.model.settings import Keystone

KEYSTONE = (
    "Have a real Keystone say whose a token is; FILE (TOML, mode 0600) has its auth_url and Lamina's username and password there."
    "  [default: Lamina's own Identity API]"
)
POLICY_FILE = "Rules of oslo.policy (policy.yaml) that replace the defaults; 'lamina policy' prints those."

keystone_option = click.option("--keystone", type=click.Path(path_type=Path), metavar="FILE", help=KEYSTONE)
policy_file_option = click.option("--policy-file", type=click.Path(path_type=Path), metavar="FILE", help=POLICY_FILE)

_Word = Annotated[str, msgspec.Meta(min_length=1, max_length=4096)]


class _File(msgspec.Struct, forbid_unknown_fields=True):
    auth_url: _Word
    username: _Word
    password: _Word
    project_name: _Word = "service"
    user_domain_name: _Word = "Default"
    project_domain_name: _Word = "Default"
    ca_file: _Word | None = None


def read_keystone(path: Path) -> Keystone:
    """Raises `BadRequest` for a file that others may read, or that is none."""
    try:
        if not is_private(path):
            raise BadRequest(f"--keystone: {path} has a password in it and can be read by others; say chmod 600 {path}")
        said = decoding.from_plain(tomllib.loads(path.read_text(encoding="utf-8")), _File)
    except OSError as error:
        raise BadRequest(f"--keystone: {path} cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, msgspec.ValidationError) as error:
        raise BadRequest(f"--keystone: {path}: {error}") from error
    url = urlsplit(said.auth_url)
    if url.scheme not in ("http", "https") or not url.hostname:
        raise BadRequest(f"--keystone: {path}: auth_url is not an address like https://keystone.example.org/v3")
    if url.scheme == "http" and url.hostname not in ("127.0.0.1", "::1", "localhost"):
        raise BadRequest(f"--keystone: {path}: auth_url is plain http; tokens and a password would go over the network in clear")
    ca_file = Path(said.ca_file) if said.ca_file is not None else None
    if ca_file is not None and not ca_file.is_file():
        raise BadRequest(f"--keystone: {path}: there is no ca_file {ca_file}")
    return Keystone(
        auth_url=said.auth_url.rstrip("/"),
        username=said.username,
        password=said.password,
        project_name=said.project_name,
        user_domain_name=said.user_domain_name,
        project_domain_name=said.project_domain_name,
        ca_file=ca_file,
    )
