"""The state directory of a control plane: made, and filled at the first start."""

from __future__ import annotations

import secrets
from pathlib import Path

import msgspec
import structlog
import yaml

from lamina.api.rooms import ROOMS
from lamina.hosts.authority import FOLDER
from lamina.hosts.private_files import alone, is_private, write_private
from lamina.model import decoding
from lamina.model.clock import Clock
from lamina.model.errors import BadRequest, Conflict
from lamina.model.settings import Settings
from lamina.store.bootstrap import bootstrap
from lamina.store.database import Database

log = structlog.get_logger()


class Passwords(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Drawn at the first start; kept in the state directory for its owner's eyes only."""

    admin: str
    demo: str


def prepare(state: Path) -> Path:
    """Make the state directory, closed to others. Raises `BadRequest` where that cannot be, and where one with something in it was open."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        if not is_private(state):
            if any(state.iterdir()):
                raise BadRequest(f"--state: {state} is open to others, or theirs, and there are secrets in it; say chmod 700 {state}")
            state.chmod(0o700)
        for path in (*state.iterdir(), *(state / FOLDER).glob("*")):
            if not (path.is_symlink() or is_private(path)):
                log.warning("closed to others", path=str(path))
                path.chmod(path.stat().st_mode & 0o700)
        (state / "images").mkdir(mode=0o700, exist_ok=True)
        probe = state / f".probe-{secrets.token_hex(8)}"
        probe.touch(mode=0o600)
        probe.unlink()
    except OSError as error:
        raise BadRequest(f"--state: {state} cannot be used as state directory: {error.strerror}") from error
    return state.resolve()


def first_start(db: Database, common: Path, clock: Clock) -> Passwords:
    """The passwords, drawn if this is the first start, and the users that have them."""
    path = common / "passwords.json"
    try:
        with alone(common / "passwords.lock"):  # two control planes of one fleet may start at once
            if not path.exists():
                write_private(path, msgspec.json.encode(Passwords(admin=secrets.token_urlsafe(18), demo=secrets.token_urlsafe(18))))
        passwords = decoding.from_json(path.read_bytes(), Passwords)
    except msgspec.DecodeError as error:
        raise Conflict(f"{path} is damaged: {error}") from error
    with db.write(queued=True) as tx:
        bootstrap(tx, passwords.admin, passwords.demo, clock.now())
    return passwords


def write_clouds(settings: Settings, passwords: Passwords, ca: Path | None = None) -> None:
    """``clouds.yaml`` for the clients, with the newest versions that are answered, and whom to trust beside those they know."""

    def cloud(user: str, password: str, project: str) -> dict[str, object]:
        microversions = {room.name: str(room.microversions.most) for room in ROOMS if room.microversions is not None}
        return {
            "auth": {
                "auth_url": f"{settings.public_url}/identity/v3",
                "username": user,
                "password": password,
                "project_name": project,
                "user_domain_name": "Default",
                "project_domain_name": "Default",
            },
            **({} if ca is None else {"cacert": str(ca)}),
            "region_name": settings.region,
            "identity_api_version": "3",
            "compute_api_version": microversions["compute"],
            "compute_default_microversion": microversions["compute"],
            "placement_api_version": microversions["placement"],
            "placement_default_microversion": microversions["placement"],
        }

    clouds = {"lamina": cloud("admin", passwords.admin, "admin"), "lamina-demo": cloud("demo", passwords.demo, "demo")}
    write_private(settings.state / "clouds.yaml", yaml.safe_dump({"clouds": clouds}, sort_keys=False).encode())
