"""A small client of a running Lamina: logs in as `clouds.yaml` says, finds the APIs in the catalog, calls them.

The command line asks over HTTP like everybody else, so it sees what a user sees and needs no lock on the database.
"""

from __future__ import annotations

import dataclasses
import json
import ssl
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamina.model.errors import Conflict, Forbidden, LaminaError, NotFound, TooManyRequests, Unauthorized, Unavailable

if TYPE_CHECKING:
    import httpx

#: seconds that one answer may take; a report of a large fleet is the slowest
TIMEOUT = 30.0

_ERRORS: dict[int, type[LaminaError]] = {
    kind.status: kind for kind in (Unauthorized, Forbidden, NotFound, Conflict, TooManyRequests, Unavailable)
}


@dataclasses.dataclass(frozen=True, slots=True)
class Cloud:
    """One entry of a ``clouds.yaml``: where to log in, as whom, and the microversions to ask for."""

    auth_url: str
    username: str
    password: str
    project: str
    user_domain: str
    project_domain: str
    #: who certified it, if nobody whom this machine knows anyway
    ca: Path | None
    #: service type -> microversion
    microversions: dict[str, str]


def how_to_start(state: Path) -> str:
    return f"start it with 'lamina up --fleet demo --state {state}'"


def read_cloud(state: Path, name: str = "lamina") -> Cloud:
    """The cloud `name` of a state directory. Raises `Unavailable` where no Lamina has run, `Conflict` on a damaged file."""
    import yaml

    path = state / "clouds.yaml"
    try:
        entry = yaml.safe_load(path.read_text(encoding="utf-8"))["clouds"][name]
        auth = entry["auth"]
        return Cloud(
            auth_url=str(auth["auth_url"]).rstrip("/"),
            username=auth["username"],
            password=auth["password"],
            project=auth["project_name"],
            user_domain=auth["user_domain_name"],
            project_domain=auth["project_domain_name"],
            ca=Path(entry["cacert"]) if "cacert" in entry else None,
            microversions={service: str(entry[f"{service}_api_version"]) for service in ("compute", "placement")},
        )
    except (FileNotFoundError, NotADirectoryError) as error:
        raise Unavailable(f"No Lamina has run on {state}; {how_to_start(state)}.") from error
    except OSError as error:
        raise Unavailable(f"{path} cannot be read: {error.strerror}.") from error
    except (yaml.YAMLError, KeyError, TypeError, ValueError) as error:
        raise Conflict(f"{path} is damaged; a restart of Lamina on {state} writes it anew.") from error


class Client:
    """Calls a Lamina's APIs over one kept-alive connection. Use as a context manager."""

    def __init__(self, cloud: Cloud, http: httpx.Client) -> None:
        self.cloud = cloud
        self._http = http
        self._endpoints: dict[str, str] = {}
        self._token = ""

    @classmethod
    def connect(cls, state: Path, name: str = "lamina") -> Client:
        """Log in to the Lamina of a state directory. Raises `Unavailable` where none answers, with how to start it."""
        import httpx

        cloud = read_cloud(state, name)
        client = cls(cloud, httpx.Client(timeout=TIMEOUT, trust_env=False, verify=_trusted(cloud)))
        try:
            client.log_in()
        except LaminaError as error:
            client.close()
            if isinstance(error, Unavailable):
                raise Unavailable(f"No Lamina answers at {cloud.auth_url}; {how_to_start(state)}.") from error
            raise
        return client

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        self._http.close()

    @property
    def token(self) -> str:
        """What `log_in` got."""
        return self._token

    def log_in(self) -> None:
        """Get a token with its catalog. Raises as `call` does."""
        cloud = self.cloud
        user = {"name": cloud.username, "password": cloud.password, "domain": {"name": cloud.user_domain}}
        scope = {"project": {"name": cloud.project, "domain": {"name": cloud.project_domain}}}
        identity = {"methods": ["password"], "password": {"user": user}}
        answer = self._send("POST", f"{cloud.auth_url}/auth/tokens", {}, json={"auth": {"identity": identity, "scope": scope}})
        self._token = answer.headers["X-Subject-Token"]
        for service in answer.json()["token"]["catalog"]:
            for endpoint in service["endpoints"]:
                if endpoint["interface"] == "public":
                    self._endpoints[service["type"]] = endpoint["url"]

    def call(self, service: str, method: str, path: str, body: Any = None, *, content: bytes | None = None) -> Any:
        """One call: `path` below the service's endpoint, `body` as JSON or `content` as it is. Returns the JSON answered.

        Raises `NotFound`, `Conflict`, `Unauthorized`, `Forbidden`, `Unavailable` with the sentence of the answer, and
        `LaminaError` for any other refusal.
        """
        headers = {"X-Auth-Token": self._token}
        if service in self.cloud.microversions:
            headers["OpenStack-API-Version"] = f"{service} {self.cloud.microversions[service]}"
        if content is not None:
            headers["Content-Type"] = "application/octet-stream"
        answer = self._send(method, self._endpoints[service] + path, headers, json=body, content=content)
        return answer.json() if answer.content else None

    def _send(self, method: str, url: str, headers: dict[str, str], **what: Any) -> httpx.Response:
        import httpx

        try:
            answer = self._http.request(method, url, headers=headers, **what)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            if "CERTIFICATE_VERIFY_FAILED" in str(error):
                raise Unauthorized(f"Who answers at {url} is not trusted, so nothing was sent: {error}.") from error
            raise Unavailable(f"No Lamina answers at {url}.", cause=str(error)) from error
        if answer.is_error:
            kind = _ERRORS.get(answer.status_code, LaminaError)
            raise kind(sentence_of(answer.content) or f"{method} {url} was answered {answer.status_code}.")
        return answer


def _trusted(cloud: Cloud) -> ssl.SSLContext:
    """Whom a connection is made to. Raises `Unavailable` for a file of certificates that cannot be read."""
    if not cloud.auth_url.startswith("https:"):
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)  # of nobody's certificate: none is asked for
    try:
        return ssl.create_default_context(cafile=cloud.ca)
    except OSError as error:
        raise Unavailable(f"{cloud.ca}, which clouds.yaml names as cacert, cannot be used: {error.strerror or error}.") from error


def sentence_of(content: bytes) -> str | None:
    """The message of a fault body, whichever API's shape it has; None where there is none."""
    try:
        body = json.loads(content)
    except ValueError:
        return None
    if not isinstance(body, dict):
        return None
    if isinstance(body.get("errors"), list) and body["errors"] and isinstance(body["errors"][0], dict):
        told = body["errors"][0].get("detail")
        return told if isinstance(told, str) else None
    for fault in body.values():
        if isinstance(fault, dict) and isinstance(fault.get("message"), str):
            return str(fault["message"])
    return None
