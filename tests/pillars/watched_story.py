"""Run by a test in a process of its own: every kind of operation, and the API, under a hook of the interpreter that sees what it opens.

A hook cannot be taken away again, which is why it has a process for itself. Arguments: the folder that may be written to, and what
is to be tried under the hook: ``stories``, or one of the things that it has to refuse.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

#: what changes a file system: numbers of the arguments that are a path and the folder it is relative to, if it has one
_CHANGES: dict[str, tuple[tuple[int, int | None], ...]] = {
    "os.remove": ((0, 1),),
    "os.rename": ((0, 2), (1, 3)),
    "os.mkdir": ((0, 2),),
    "os.rmdir": ((0, 1),),
    "os.link": ((1, 3),),
    "os.symlink": ((1, 2),),
    "os.chmod": ((0, 2),),
    "os.chown": ((0, 3),),
    "os.truncate": ((0, None),),
    "os.utime": ((0, 3),),
    "sqlite3.connect": ((0, None),),
}
#: ways to begin another program; nothing of this run needs one
_PROGRAMS = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork", "os.forkpty", "pty.spawn"}
_WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Forbidden(BaseException):
    """Not an Exception, so that nothing can take it for a failure of a file."""


class Watch:
    """The hook. `seen` counts what it looked at."""

    def __init__(self, *folders: Path) -> None:
        self._folders = [os.path.realpath(folder) for folder in folders]
        self.seen = 0
        sys.addaudithook(self)

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in _PROGRAMS:
            raise Forbidden(f"{event} {arguments[:2]}")
        if event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITES:
            self._must_be_within(event, arguments[0], -1)
        for at, folder in _CHANGES.get(event, ()):
            self._must_be_within(event, arguments[at], -1 if folder is None else arguments[folder])

    def _must_be_within(self, event: str, path: Any, relative_to: int) -> None:
        self.seen += 1
        if isinstance(path, int) or path == ":memory:":
            return  # a file that was opened already, or none
        start = str(Path(f"/proc/self/fd/{relative_to}").readlink()) if relative_to >= 0 else ""
        at = os.path.realpath(os.path.dirname(os.path.join(start, os.fsdecode(path))))  # noqa: PTH118, PTH120
        if not any(at == folder or at.startswith(folder + os.sep) for folder in self._folders):
            raise Forbidden(f"{event} {path!r}")


def stories(folder: Path) -> None:
    import tempfile

    from starlette.testclient import TestClient

    from lamina.api.application import application
    from lamina.api.rooms import ROOMS
    from lamina.cli import state_directory
    from tests.empty_database import empty_database
    from tests.faults.desk import Desk
    from tests.faults.stories import STORIES
    from tests.faults.world import World

    tempfile.tempdir = str(folder)
    empty_database()
    desk = Desk()
    watch = Watch(folder, desk.folder)
    for story in STORIES:
        world = World.on(desk, "vfio" if story.kind in ("create", "resize", "restore") else "mdev")
        server_id = story.begin(world, story.prepare(world))
        world.settle()
        assert world.operations() == [] or server_id, story
        world.check()
    world = World.on(desk, "mdev")
    passwords = state_directory.first_start(world.plane.db, world.plane.settings.common, world.clock)
    state_directory.write_clouds(world.plane.settings, passwords)
    identity = {"methods": ["password"], "password": {"user": {"name": "admin", "domain": {"id": "default"}, "password": passwords.admin}}}
    scope = {"project": {"name": "admin", "domain": {"id": "default"}}}
    with TestClient(application(world.plane, ROOMS)) as client:
        shown = client.post("/identity/v3/auth/tokens", json={"auth": {"identity": identity, "scope": scope}})
        headers = {"X-Auth-Token": shown.headers["x-subject-token"]}
        for path in ("/compute/v2.1/servers/detail", "/placement/resource_providers", "/fleet/v1/vgpus", "/image/v2/images"):
            assert client.get(path, headers=headers).status_code == 200, path
        image = client.post("/image/v2/images", json={"name": "../x", "disk_format": "raw", "container_format": "bare"}, headers=headers)
        put = client.put(f"/image/v2/images/{image.json()['id']}/file", content=b"\0" * 512, headers=headers | _BYTES)
        assert put.status_code == 204, put.text
        assert client.delete(f"/image/v2/images/{image.json()['id']}", headers=headers).status_code == 204
    print(f"{len(STORIES)} stories, {watch.seen} changes of files looked at")


_BYTES = {"Content-Type": "application/octet-stream"}


def _write_elsewhere(folder: Path) -> None:
    Watch(folder)
    (folder.parent / "elsewhere").write_text("x")


def _run_a_shell(folder: Path) -> None:
    Watch(folder)
    subprocess.run("true", shell=True, check=True)  # noqa: S602


def _remove_elsewhere(folder: Path) -> None:
    Watch(folder)
    (folder / ".." / "kept").unlink()


TRIED = {"stories": stories, "write": _write_elsewhere, "shell": _run_a_shell, "remove": _remove_elsewhere}

if __name__ == "__main__":
    TRIED[sys.argv[2]](Path(sys.argv[1]))
