"""CWE-664, secrets: real processes, a session over HTTP in which known secrets are used rightly and wrongly, and a search for them.

They may be in `passwords.json` and `clouds.yaml`, which are for that, and in the one answer that gives one away. What a user puts into
``user_data`` and a public key are told to the server and to its owner, so they are in the database; not in a log.
"""

from __future__ import annotations

import base64
import dataclasses
import json
import os
import signal
import stat
import subprocess
import sys
import urllib.parse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from lamina.api.rooms import ROOMS
from lamina.hosts.join_tokens import JoinToken
from lamina.hosts.private_files import write_private
from tests.scenario.agents import Agent, lamina
from tests.scenario.cloud import Cloud, cloud_of, gpu, host

PASSWORDS = {"admin": "canary-admin-5f0d83", "demo": "canary-demo-e1c947"}
#: where secrets may lie in clear, below the state directory
MEANT_FOR_IT = {"passwords.json", "clouds.yaml"}


@dataclasses.dataclass
class Session:
    """What was said in it."""

    cloud: Cloud
    #: what -> the secret
    secrets: dict[str, str] = dataclasses.field(default_factory=dict)
    #: of user_data and the like: what -> what it is, which the database may have
    private: dict[str, str] = dataclasses.field(default_factory=dict)
    answers: list[str] = dataclasses.field(default_factory=list)
    #: command lines of every process of it
    arguments: list[str] = dataclasses.field(default_factory=list)

    def ask(self, method: str, path: str, body: Any = None, *, token: str | None = None, gives: bool = False) -> httpx.Response:
        """One request; its answer is searched later, unless it `gives` a secret away as it should."""
        headers = {"OpenStack-API-Version": "compute 2.96"} if path.startswith("/compute") else {}
        headers |= {"X-Auth-Token": token} if token else {}
        answer = httpx.request(method, self.cloud.url + path, headers=headers, json=body, timeout=30, trust_env=False)
        told = [f"{name}: {value}" for name, value in answer.headers.items() if name != "x-subject-token"]
        self.answers += told if gives else [*told, answer.text]
        return answer

    def log_in(self, user: str, password: Any, status: int = 201, project: str | None = None) -> str:
        proof = {"name": user, "domain": {"id": "default"}, "password": password}
        scope = {"project": {"name": project or user, "domain": {"id": "default"}}}
        identity = {"methods": ["password"], "password": {"user": proof}}
        return self._logged_in({"identity": identity, "scope": scope}, status)

    def _logged_in(self, auth: dict[str, Any], status: int) -> str:
        answer = self.ask("POST", "/identity/v3/auth/tokens", {"auth": auth})
        assert answer.status_code == status, answer.text
        token: str = answer.headers.get("X-Subject-Token", "")
        if token:
            self.secrets[f"token {len(self.secrets)}"] = token
        return token

    def by_credential(self, credential: str, secret: str, status: int) -> None:
        identity = {"methods": ["application_credential"], "application_credential": {"id": credential, "secret": secret}}
        self._logged_in({"identity": identity}, status)


def logging_in(session: Session) -> tuple[str, str]:
    """Tokens of the administrator and of demo, after everything that can go wrong on the way."""
    secrets = session.secrets
    for user, password in PASSWORDS.items():
        secrets[f"the password of {user}"] = password
    secrets["a mistyped password"] = wrong = "canary-wrong-31ab66"
    session.log_in("demo", wrong, 401)
    session.log_in("nobody", wrong, 401)
    session.log_in("demo", [wrong], 400)
    session.log_in("demo", {"value": wrong}, 400)
    secrets["a token that is none"] = guessed = "canary-guessed-token-0a4471"
    session.ask("GET", "/compute/v2.1/servers", token=guessed)
    return session.log_in("admin", PASSWORDS["admin"]), session.log_in("demo", PASSWORDS["demo"])


def users_and_credentials(session: Session, admin: str, demo: str) -> None:
    secrets = session.secrets
    secrets["a new user's password"], secrets["the next"] = first, second = "canary-new-77c0de", "canary-next-88d1ef"
    made = session.ask("POST", "/identity/v3/users", {"user": {"name": "newcomer", "password": first}}, token=admin)
    assert made.status_code == 201, made.text
    session.ask("POST", "/identity/v3/users", {"user": {"name": "newcomer", "password": first}}, token=admin)
    session.ask("POST", "/identity/v3/users", {"user": {"name": "another", "password": [first]}}, token=admin)
    path = f"/identity/v3/users/{made.json()['user']['id']}"
    session.ask("PATCH", path, {"user": {"password": second}}, token=admin)
    session.ask("POST", f"{path}/password", {"user": {"original_password": second, "password": second + "!"}}, token=admin)
    session.ask("POST", f"{path}/password", {"user": {"original_password": second, "oops": first}}, token=demo)

    me = session.ask("GET", "/identity/v3/users", token=admin).json()["users"]
    path = f"/identity/v3/users/{next(user['id'] for user in me if user['name'] == 'demo')}/application_credentials"
    drawn = session.ask("POST", path, {"application_credential": {"name": "drawn"}}, token=demo, gives=True)
    secrets["a drawn credential's secret"] = drawn.json()["application_credential"]["secret"]
    secrets["a chosen credential's secret"] = chosen = "canary-chosen-secret-99e2f0"
    body = {"application_credential": {"name": "chosen", "secret": chosen}}
    given = session.ask("POST", path, body, token=demo, gives=True)
    assert given.status_code == 201, given.text
    session.ask("POST", path, body, token=demo)  # there is one of this name
    credential = given.json()["application_credential"]["id"]
    session.by_credential(credential, chosen, 201)
    secrets["a wrong secret"] = "canary-wrong-secret-aa03"
    session.by_credential(credential, secrets["a wrong secret"], 401)
    session.by_credential("canary", chosen, 401)


def a_server(session: Session, admin: str, demo: str) -> None:
    flavor = {"flavor": {"name": "small", "vcpus": 1, "ram": 64, "disk": 0}}
    made = session.ask("POST", "/compute/v2.1/flavors", flavor, token=admin)
    image = session.ask("POST", "/image/v2/images", {"name": "i", "disk_format": "raw", "container_format": "bare"}, token=demo).json()[
        "id"
    ]
    headers = {"X-Auth-Token": demo, "Content-Type": "application/octet-stream"}
    httpx.put(f"{session.cloud.url}/image/v2/images/{image}/file", content=b"\0" * 512, headers=headers, trust_env=False)
    session.private["user data"] = "canary-user-data-b7d2"
    session.secrets["a server's password"] = "canary-guest-c8e3"
    wanted = {
        "name": "s",
        "flavorRef": made.json()["flavor"]["id"],
        "imageRef": image,
        "networks": "none",
        "adminPass": session.secrets["a server's password"],
        "user_data": base64.b64encode(session.private["user data"].encode()).decode(),
    }
    answer = session.ask("POST", "/compute/v2.1/servers", {"server": wanted}, token=demo, gives=True)
    assert answer.status_code == 202, answer.text
    session.ask("POST", "/compute/v2.1/servers", {"server": wanted | {"oops": 1}}, token=demo)
    without = {key: value for key, value in wanted.items() if key != "adminPass"}
    drawn = session.ask("POST", "/compute/v2.1/servers", {"server": without}, token=demo, gives=True).json()["server"]
    session.secrets["a drawn password of a server"] = drawn["adminPass"]
    for action in ({"changePassword": {"adminPass": session.secrets["a server's password"]}}, {"rebuild": {"imageRef": image, "oops": 1}}):
        session.ask("POST", f"/compute/v2.1/servers/{drawn['id']}/action", action, token=demo)


def a_host_joins(session: Session, folder: Path, admin: str) -> Agent:
    """By a token of its own, after one that is none; its agent runs from then on."""
    made = session.ask("POST", "/fleet/v1/tokens", {"host": "far"}, token=admin, gives=True).json()["token"]
    session.secrets["a join token's secret"] = JoinToken.parse(made["secret"]).secret
    session.secrets["a join token that is none"] = wrong = "lamina-join-1." + "c" * 43 + ".abc"
    agent = Agent("far", folder / "far", session.cloud.fleet_file, ())
    join = ("join", made["url"], "--name", "far", "--state", str(agent.state))
    for token, code in ((wrong, 2), (made["secret"], 0)):
        done = lamina(*join, stdin=token)
        assert done.returncode == code, done.stderr
        session.answers += [done.stdout, done.stderr]
    again = lamina(*join[:-1], str(folder / "again"), stdin=made["secret"])
    assert again.returncode != 0, "a token serves once"
    session.answers += [again.stdout, again.stderr]
    agent.start()
    return agent


def everything_listed(session: Session, *tokens: str) -> None:
    """Every listing of every API."""
    for room in ROOMS:
        for route in room.routes:
            if route.method == "GET" and "{" not in route.path:
                for token in tokens:
                    session.ask("GET", room.prefix + route.path, token=token, gives=room.prefix + route.path in WITH_USER_DATA)


#: where a server's owner and an administrator are shown its user_data, as Nova shows it
WITH_USER_DATA = {"/compute/v2.1/servers/detail"}


def running_processes(pids: list[int]) -> Iterator[str]:
    for pid in pids:
        yield Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Session]:
    """After its end; the processes have stopped and everything is on disk."""
    folder = tmp_path_factory.mktemp("secrets")
    (folder / "state").mkdir(mode=0o700)
    write_private(folder / "state" / "passwords.json", json.dumps(PASSWORDS).encode())
    before = os.umask(0o022)  # as most have it
    try:
        machines = [host("near", gpu("0000:81:00.0", "mdev")), host("far")]
        with cloud_of(folder, machines[:1], "--agents", "127.0.0.1:0", "--log-level", "debug") as cloud:
            cloud.fleet_file.write_text(json.dumps({"hosts": machines}))
            session = Session(cloud)
            admin, demo = logging_in(session)
            users_and_credentials(session, admin, demo)
            a_server(session, admin, demo)
            agent = a_host_joins(session, folder, admin)
            assert cloud.process is not None
            assert agent.process is not None
            session.arguments += running_processes([cloud.process.pid, agent.process.pid])
            everything_listed(session, admin, demo)
            verbs = (["fleet", "show"], ["fleet", "token", "list"], ["operation", "list"])
            for verb in verbs:
                done = lamina(*verb, "--state", str(cloud.state))
                assert done.returncode == 0, done.stderr
                session.answers += [done.stdout, done.stderr]
            session.ask("DELETE", "/identity/v3/auth/tokens", token=demo)
            assert agent.stop(signal.SIGTERM) == 0
        yield session
    finally:
        os.umask(before)


def forms(secret: str) -> Iterator[bytes]:
    """How it may be written."""
    yield secret.encode()
    yield urllib.parse.quote(secret, safe="").encode()
    yield base64.b64encode(secret.encode())
    yield secret.encode().hex().encode()


def found(session: Session, where: dict[str, bytes], *, private: bool) -> list[str]:
    """Which secrets are in which of these."""
    wanted = session.secrets | (session.private if private else {})
    return [
        f"{what} in {place}"
        for place, content in where.items()
        for what, secret in wanted.items()
        if any(f in content for f in forms(secret))
    ]


def files(session: Session) -> dict[str, bytes]:
    """Path -> content, of all that Lamina and the host's agent keep."""
    roots = (session.cloud.state, session.cloud.state.parent / "far", session.cloud.state.parent / "again")
    return {str(path): path.read_bytes() for root in roots for path in root.rglob("*") if path.is_file()}


@pytest.mark.weakness(532)
@pytest.mark.weakness(215)
def test_no_secret_is_in_a_log(session: Session) -> None:
    logs = {path.name: path.read_bytes() for path in (session.cloud.log, session.cloud.state.parent / "far.log")}
    assert b"refused" in logs["log"], "the log was read"
    assert found(session, logs, private=True) == []


@pytest.mark.weakness(312)
@pytest.mark.weakness(256)
def test_no_secret_lies_in_clear_in_the_database_or_in_a_file_that_is_not_for_it(session: Session) -> None:
    kept = {path: content for path, content in files(session).items() if Path(path).name not in MEANT_FOR_IT}
    assert len(kept[str(session.cloud.state / "lamina.db")]) > 10_000, "the database was read"
    assert found(session, kept, private=False) == []
    meant = {path: content for path, content in files(session).items() if Path(path).name in MEANT_FOR_IT}
    assert {line.partition(" in ")[0] for line in found(session, meant, private=True)} == {f"the password of {user}" for user in PASSWORDS}


@pytest.mark.weakness(214)
@pytest.mark.weakness(497)
def test_no_secret_is_among_the_arguments_of_a_process(session: Session) -> None:
    assert len(session.arguments) == 2
    assert all("lamina.cli.main" in line for line in session.arguments)
    assert found(session, {line: line.encode() for line in session.arguments}, private=True) == []


@pytest.mark.weakness(209)
@pytest.mark.weakness(201)
def test_no_answer_tells_a_secret_but_the_one_that_gives_it(session: Session) -> None:
    assert len(session.answers) > 500
    assert (
        found(session, {f"answer {number}: {text[:300]}": text.encode() for number, text in enumerate(session.answers)}, private=True) == []
    )


@pytest.mark.weakness(200)
def test_the_search_finds_what_is_there(session: Session) -> None:
    """Each form of each secret, were it somewhere."""
    for what, secret in session.secrets.items():
        for form in forms(secret):
            assert f"{what} in there" in found(session, {"there": b"x" + form + b"y"}, private=False)


@pytest.mark.weakness(732)
@pytest.mark.weakness(276)
def test_every_file_is_its_owners_alone(session: Session) -> None:
    roots = (session.cloud.state, session.cloud.state.parent / "far")
    seen = [path for root in roots for path in (root, *root.rglob("*"))]
    assert len(seen) > 20
    assert [str(path) for path in seen if stat.S_IMODE(path.lstat().st_mode) & 0o077] == []


@pytest.mark.weakness(732)
def test_what_an_older_version_left_open_is_closed(tmp_path: Path) -> None:
    with cloud_of(tmp_path, [host("one")]) as cloud:
        pass
    for name in ("lamina.db", "passwords.json", "clouds.yaml", "lock"):
        (cloud.state / name).chmod(0o644)
    (cloud.state / "images").chmod(0o755)
    with cloud_of(tmp_path, [host("one")]):
        assert [str(path) for path in cloud.state.rglob("*") if stat.S_IMODE(path.lstat().st_mode) & 0o077] == []
    assert "closed to others" in cloud.log.read_text()


@pytest.mark.weakness(214)
@pytest.mark.parametrize("verb", ["up", "api", "join", "agent"])
def test_no_option_takes_a_secret(verb: str) -> None:
    """Those that need one read it from a file, the environment or standard input."""
    told = subprocess.run([sys.executable, "-m", "lamina.cli.main", verb, "--help"], capture_output=True, text=True, timeout=60, check=True)
    options = {word.split("=")[0].rstrip(",") for word in told.stdout.split() if word.startswith("--")}
    assert "--help" in options
    assert {option for option in options if any(word in option for word in ("password", "secret", "token"))} <= {"--token-file"}
