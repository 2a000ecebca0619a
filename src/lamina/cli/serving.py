"""Serving: from a state directory and an address to a process that answers, and back to nothing on SIGTERM."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import signal
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import structlog
import uvicorn
import yaml

from lamina.agent.simulated import fleet as fleets
from lamina.agent.simulated.host import simulated_host
from lamina.api.application import application
from lamina.api.image.content import sweep
from lamina.api.rooms import ROOMS
from lamina.hosts.directory import Hosts
from lamina.model.clock import Clock, SystemClock
from lamina.model.errors import BadRequest, Conflict, Unavailable
from lamina.model.settings import Settings
from lamina.operations.control_plane import ControlPlane
from lamina.operations.kinds import KINDS
from lamina.operations.reconcile import Reconciler
from lamina.store import identity, schema
from lamina.store.database import Database

log = structlog.get_logger()


class Passwords(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Drawn at the first start; kept in the state directory for its owner's eyes only."""

    admin: str
    demo: str


def serve(state: Path, listen: str, fleet: str | None, *, ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT; `ready` is called with the base URL once requests are answered.

    Raises `BadRequest` for what the caller has to mend, with nothing begun.
    """
    simulated = load_fleet(fleet)
    with contextlib.closing(bind(listen)) as door, hold(state := prepare(state)):
        settings = Settings(state=state, public_url=url_of(door))
        clock = SystemClock()
        db = Database.at(state)
        with contextlib.closing(db):
            schema.upgrade(db)
            passwords = first_start(db, state, clock)
            write_clouds(settings, passwords)
            hosts = Hosts()
            for described in simulated.hosts:
                host = simulated_host(described, state, clock)
                hosts.join(described.name, host.compute, host.machine.reboot)
            plane = ControlPlane.assemble(settings, db, clock, hosts, KINDS)
            sweep(plane)
            reconciler = Reconciler(plane)
            plane.start()
            reconciler.start()
            try:
                _answer(plane, door, ready)
            finally:
                reconciler.stop()
                plane.stop()


def load_fleet(named: str | None) -> fleets.Fleet:
    """The simulated hosts. Raises `BadRequest`; without a fleet it says what this machine lacks."""
    if named is None:
        raise BadRequest(
            "this build runs servers on simulated hosts only: say --fleet demo, or --fleet FILE; "
            "'lamina doctor' tells what this machine has"
        )
    return fleets.demo_fleet() if named == "demo" else fleets.load_fleet(Path(named))


def prepare(state: Path) -> Path:
    """Make the state directory, closed to others. Raises `BadRequest` where that cannot be."""
    try:
        state.mkdir(mode=0o700, parents=True, exist_ok=True)
        (state / "images").mkdir(mode=0o700, exist_ok=True)
        probe = state / f".probe-{secrets.token_hex(8)}"
        probe.touch(mode=0o600)
        probe.unlink()
    except OSError as error:
        raise BadRequest(f"--state: {state} cannot be used as state directory: {error.strerror}") from error
    return state.resolve()


@contextlib.contextmanager
def hold(state: Path) -> Iterator[None]:
    """Keep other processes off the state directory; the kernel lets go of it however this process ends."""
    with (state / "lock").open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise BadRequest(f"--state: another lamina is running on {state}") from error
        yield


def bind(listen: str) -> socket.socket:
    """A listening socket. Raises `BadRequest` for an address that is malformed, in use or not ours."""
    host, colon, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (colon and host and port.isascii() and port.isdecimal() and int(port) <= 65535):
        raise BadRequest(f"--listen: {listen!r} is not HOST:PORT, as in 127.0.0.1:8774")
    try:
        family = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM)[0][0]
        door = socket.socket(family, socket.SOCK_STREAM)
        door.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        door.bind((host, int(port)))
    except socket.gaierror as error:
        raise BadRequest(f"--listen: {host!r} is not an address of this machine") from error
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise BadRequest(f"--listen: {listen} is in use by another process; choose another port") from error
        raise BadRequest(f"--listen: {listen} cannot be listened on: {error.strerror}") from error
    return door


def url_of(door: socket.socket) -> str:
    host, port = door.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def first_start(db: Database, state: Path, clock: Clock) -> Passwords:
    """The passwords, drawn if this is the first start, and the users that have them."""
    path = state / "passwords.json"
    try:
        passwords = msgspec.json.decode(path.read_bytes(), type=Passwords)
    except FileNotFoundError:
        passwords = Passwords(admin=secrets.token_urlsafe(18), demo=secrets.token_urlsafe(18))
        write_private(path, msgspec.json.encode(passwords))
    except msgspec.DecodeError as error:
        raise Conflict(f"{path} is damaged: {error}") from error
    with db.write() as tx:
        identity.bootstrap(tx, passwords.admin, passwords.demo, clock.now())
    return passwords


def write_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, whole or not at all."""
    draft = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    handle = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(handle, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    draft.replace(path)


def write_clouds(settings: Settings, passwords: Passwords) -> None:
    """``clouds.yaml`` for the clients, with the newest versions that are answered."""

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
            "region_name": settings.region,
            "identity_api_version": "3",
            "compute_api_version": microversions["compute"],
            "compute_default_microversion": microversions["compute"],
            "placement_api_version": microversions["placement"],
            "placement_default_microversion": microversions["placement"],
        }

    clouds = {"lamina": cloud("admin", passwords.admin, "admin"), "lamina-demo": cloud("demo", passwords.demo, "demo")}
    write_private(settings.state / "clouds.yaml", yaml.safe_dump({"clouds": clouds}, sort_keys=False).encode())


class _Server(uvicorn.Server):
    """Says when it answers, and leaves the rest of the clean stop to its caller."""

    def __init__(self, config: uvicorn.Config, ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._ready = ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._ready()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """As uvicorn's, but without raising the signal again: it has been answered."""
        before = {number: signal.signal(number, self.handle_exit) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def _answer(plane: ControlPlane, door: socket.socket, ready: Callable[[str], None]) -> None:
    config = uvicorn.Config(
        application(plane, ROOMS),
        log_level="warning",
        access_log=False,
        lifespan="off",
        server_header=False,
        timeout_graceful_shutdown=5,
    )
    server = _Server(config, lambda: ready(plane.settings.public_url))
    server.run(sockets=[door])
    if not server.started:
        raise Unavailable("The server could not be started; its log tells more.")
