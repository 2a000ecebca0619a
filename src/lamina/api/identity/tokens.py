"""Tokens: proving who one is, with a scope; looking at a token and ending it.

Source: Identity API v3, "Authentication and token management". Whatever is wrong with a proof or a scope, the answer is
the same 401: it tells nobody which users and projects there are.
"""

from __future__ import annotations

import dataclasses
import hmac
from typing import Annotated, Any, Literal

import msgspec
import sqlalchemy as sa

from lamina.api.identity import answers, proofs
from lamina.api.identity.catalog import catalog
from lamina.api.routing import ANY_USER, Reply, Request, Route
from lamina.model.audit import Initiator
from lamina.model.errors import BadRequest, Forbidden, NotFound, Unauthorized
from lamina.model.settings import Settings
from lamina.store import application_credentials, domains, identity
from lamina.store import tokens as store
from lamina.store.application_credentials import Credential
from lamina.store.domains import DOMAIN_ID, Domain
from lamina.store.identity import derived_id
from lamina.store.role_assignments import SYSTEM
from lamina.store.tokens import Token

_Text = Annotated[str, msgspec.Meta(max_length=4096, pattern=answers.TEXT)]


class DomainRef(msgspec.Struct):
    id: _Text | None = None
    name: _Text | None = None

    def find(self, tx: sa.Connection) -> str | None:
        """The id of the domain; None where there is none like that."""
        if self.id is None and self.name is None:
            raise BadRequest("domain: say its id or its name")
        by_name = self.name if self.id is None else None
        return next((domain.id for domain in domains.list_domains(tx, domain_id=self.id, name=by_name)), None)


class UserProof(msgspec.Struct):
    password: _Text
    id: _Text | None = None
    name: _Text | None = None
    domain: DomainRef | None = None


class PasswordProof(msgspec.Struct):
    user: UserProof


class TokenProof(msgspec.Struct):
    id: _Text


class Owner(msgspec.Struct):
    id: _Text | None = None
    name: _Text | None = None
    domain: DomainRef | None = None


class CredentialProof(msgspec.Struct):
    secret: _Text
    id: _Text | None = None
    name: _Text | None = None
    user: Owner | None = None


class Identity(msgspec.Struct):
    methods: Annotated[list[str], msgspec.Meta(min_length=1, max_length=8)]
    password: PasswordProof | None = None
    token: TokenProof | None = None
    application_credential: CredentialProof | None = None


class ProjectRef(msgspec.Struct):
    id: _Text | None = None
    name: _Text | None = None
    domain: DomainRef | None = None


class SystemRef(msgspec.Struct):
    all: Literal[True]


class Scope(msgspec.Struct, forbid_unknown_fields=True):
    project: ProjectRef | None = None
    system: SystemRef | None = None
    domain: DomainRef | None = None


class Auth(msgspec.Struct):
    identity: Identity
    scope: Scope | Literal["unscoped"] | None = None


class AuthBody(msgspec.Struct):
    auth: Auth


@dataclasses.dataclass(frozen=True, slots=True)
class _Proven:
    user: identity.User
    methods: tuple[str, ...]
    expires_at: float


def _refused() -> Unauthorized:
    return Unauthorized("The request you have made requires authentication.")


def issue(request: Request) -> Reply:
    """POST /auth/tokens."""
    plane = request.plane
    auth = request.json(AuthBody).auth
    if len(auth.identity.methods) != 1:
        raise BadRequest("auth.identity.methods: say one method, 'password' or 'token'")
    now = plane.clock.now()
    method = auth.identity.methods[0]
    if method == "password" and auth.identity.password is not None:
        # hashing takes its time and is done before the transaction; within it is seen whether the password is still this one
        proof = auth.identity.password.user
        kept = _check_password(request, proof)
        with plane.db.write() as tx:
            user, still = _lookup(tx, proof)
            if user is None or still is None or not hmac.compare_digest(still, kept):
                raise _refused()
            return _issue(request, tx, _Proven(user, ("password",), now + plane.settings.token_life), auth.scope, now)
    if method == "token" and auth.identity.token is not None:
        with plane.db.write() as tx:
            shown = store.find_token(tx, store.token_hash(auth.identity.token.id), now)
            if shown is None:
                raise _refused()
            if shown.credential is not None:
                raise Forbidden("A token got by an application credential is good for nothing but its own scope.")
            # a token got by a token lives no longer than that one, or none would ever end
            methods = tuple(dict.fromkeys(("token", *shown.methods)))
            return _issue(request, tx, _Proven(shown.user, methods, shown.expires_at), auth.scope, now)
    if method == "application_credential" and auth.identity.application_credential is not None:
        return _by_credential(request, auth.identity.application_credential, auth.scope, now)
    if method in {"password", "token", "application_credential"}:
        raise BadRequest(f"auth.identity: the method is {method!r}, and there is no {method!r} object beside it")
    raise Unauthorized("An unsupported method: 'password', 'token' and 'application_credential' are supported.")


def _by_credential(request: Request, proof: CredentialProof, scope: Scope | str | None, now: float) -> Reply:
    """Its project is the scope; another cannot be asked for."""
    if scope is not None:
        raise _refused()
    if proof.id is None and (proof.name is None or proof.user is None):
        raise BadRequest("auth.identity.application_credential: say its id, or its name and its user")
    plane = request.plane
    with plane.db.read() as tx:
        kept = _find_secret(tx, proof)
    if not proofs.matches_secret(request, kept[1] if kept is not None else None, proof.secret) or kept is None:
        raise _refused()
    with plane.db.write() as tx:
        if _find_secret(tx, proof) != kept:
            raise _refused()
        credential = application_credentials.get(tx, kept[0])
        user = identity.get_user(tx, credential.user_id)
        proven = _Proven(user, ("application_credential",), now + plane.settings.token_life)
        return _issue(request, tx, proven, credential, now)


def _find_secret(tx: sa.Connection, proof: CredentialProof) -> tuple[str, str] | None:
    """The credential's id and the hash of its secret."""
    if proof.id is not None:
        return application_credentials.secret_of(tx, credential_id=proof.id)
    if proof.user is None:
        return None
    user, _ = _found(tx, proof.user.id, proof.user.name, proof.user.domain)
    return application_credentials.secret_of(tx, user_id=user.id, name=proof.name) if user is not None else None


def _check_password(request: Request, proof: UserProof) -> str:
    """The kept hash that the password matches. Takes as long for an unknown user as for a known one."""
    if proof.id is None and (proof.name is None or proof.domain is None):
        raise BadRequest("auth.identity.password.user: say its id, or its name and its domain")
    with request.plane.db.read() as tx:
        user, kept = _lookup(tx, proof)
    if not proofs.is_right(request, user.id if user is not None else None, kept, proof.password) or kept is None:
        raise _refused()
    return kept


def _lookup(tx: sa.Connection, proof: UserProof) -> tuple[identity.User | None, str | None]:
    user, kept = _found(tx, proof.id, proof.name, proof.domain)
    return (user, kept) if user is not None and user.enabled else (None, None)


def _found(
    tx: sa.Connection, user_id: str | None, name: str | None, domain: DomainRef | None
) -> tuple[identity.User | None, str | None]:
    """The user with the hash of the password; both None for nobody, in a domain that there is not, or in one that is disabled."""
    domain_id = DOMAIN_ID if domain is None else domain.find(tx)
    if domain_id is None:
        return None, None
    user, kept = identity.password_of(tx, user_id=user_id, name=name, domain_id=domain_id)
    return (user, kept) if user is not None and (domain is None or user.domain_id == domain_id) else (None, None)


def _issue(request: Request, tx: sa.Connection, proven: _Proven, scope: Scope | Credential | str | None, now: float) -> Reply:
    credential = scope if isinstance(scope, Credential) else None
    target = scope.project_id if isinstance(scope, Credential) else _target(tx, proven.user, scope)
    credential_id = credential.id if credential is not None else None
    token = store.add_token(tx, proven.user.id, target, proven.methods, now, proven.expires_at, credential_id=credential_id)
    made = store.find_token(tx, store.token_hash(token), now)
    if made is None:  # no role on the target, the project disabled or not there: nothing is kept
        raise _refused()
    by = Initiator(id=made.user.id, name=made.user.name, project_id=made.project.id if made.project else None)
    return Reply(201, body(request.plane.settings, made, with_catalog=_wants_catalog(request)), _headers(token), by=by)


def _target(tx: sa.Connection, user: identity.User, scope: Scope | str | None) -> str | None:
    if scope is None:
        held = {project.id for project in identity.usable_projects(tx, user.id)}
        return user.default_project_id if user.default_project_id in held else None
    if not isinstance(scope, Scope):
        return None
    named = [ref for ref in (scope.project, scope.system, scope.domain) if ref is not None]
    if len(named) != 1:
        raise BadRequest("auth.scope: say one of 'project', 'domain' and 'system', or leave the scope out")
    if scope.system is not None:
        return SYSTEM
    if scope.project is not None:
        return _project_target(tx, scope.project)
    domain_id = scope.domain.find(tx) if scope.domain is not None else None
    if domain_id is None:
        raise _refused()
    return domain_id


def _project_target(tx: sa.Connection, ref: ProjectRef) -> str:
    if ref.id is None and (ref.name is None or ref.domain is None):
        raise BadRequest("auth.scope.project: say its id, or its name and its domain")
    domain_id = ref.domain.find(tx) if ref.domain is not None else None
    if ref.domain is not None and domain_id is None:
        raise _refused()
    if ref.id is None:
        found = identity.list_projects(tx, name=ref.name, domain_id=domain_id)
    else:
        found = identity.list_projects(tx, project_id=ref.id, domain_id=domain_id)
    for project in found:
        return project.id
    raise _refused()


def _headers(token: str) -> dict[str, str]:
    return {"X-Subject-Token": token, "Vary": "X-Auth-Token"}


def _wants_catalog(request: Request) -> bool:
    return request.value("nocatalog") is None


def body(settings: Settings, token: Token, *, with_catalog: bool) -> dict[str, Any]:
    """A token as Keystone describes it; the token itself goes in the header ``X-Subject-Token`` only."""
    told: dict[str, Any] = {
        "methods": list(token.methods),
        "user": {
            "id": token.user.id,
            "name": token.user.name,
            "domain": _named(token.user_domain),
            "password_expires_at": None,
        },
        "audit_ids": [token.audit_id],
        "issued_at": answers.moment(token.issued_at),
        "expires_at": answers.moment(token.expires_at),
    }
    if token.target is not None:
        # what is implied comes with Lamina, and its id follows from its name
        ids = {name: token.role_ids.get(name) or derived_id("role", name) for name in sorted(token.roles)}
        told["roles"] = [{"id": role_id, "name": name} for name, role_id in ids.items()]
        if with_catalog:
            told["catalog"] = catalog(settings)
    if token.project is not None and token.project_domain is not None:
        project = {"id": token.project.id, "name": token.project.name, "domain": _named(token.project_domain)}
        told |= {"project": project, "is_domain": False}
    elif token.domain is not None:
        told["domain"] = _named(token.domain)
    elif token.target == SYSTEM:
        told["system"] = {"all": True}
    if token.credential is not None:
        one = token.credential
        told["application_credential"] = {"id": one.id, "name": one.name, "restricted": not one.unrestricted}
    return {"token": told}


def _named(domain: Domain) -> dict[str, str]:
    return {"id": domain.id, "name": domain.name}


def _subject(request: Request) -> tuple[str, Token]:
    """The token of ``X-Subject-Token``: one's own, or any for admins and services. Raises `NotFound`, and `Forbidden` to others."""
    shown = request.headers.get("x-subject-token")
    if not shown:
        raise BadRequest("The header X-Subject-Token is missing: it names the token that this is about.")
    hash_ = store.token_hash(shown)
    own = hmac.compare_digest(hash_, request.context.token_hash)
    if not (own or request.context.roles & {"admin", "service"}):
        raise Forbidden("You are not authorized to look at or end another's token.")
    with request.plane.db.read() as tx:
        found = store.find_token(tx, hash_, request.plane.clock.now())
    if found is None:
        raise NotFound("Could not find token.")
    return shown, found


def validate(request: Request) -> Reply:
    """GET and HEAD /auth/tokens."""
    shown, found = _subject(request)
    return Reply(200, body(request.plane.settings, found, with_catalog=_wants_catalog(request)), _headers(shown))


def revoke(request: Request) -> Reply:
    """DELETE /auth/tokens."""
    _, found = _subject(request)
    with request.plane.db.write() as tx:
        store.revoke(tx, found.hash)
    return Reply(204)


ROUTES = (
    Route(
        "POST",
        "/auth/tokens",
        issue,
        "identity:authenticate",
        "",
        public=True,
        takes=(AuthBody,),
        gives=(201,),
        refuses=(401, 403),
        query=("nocatalog",),
    ),
    Route("GET", "/auth/tokens", validate, "identity:validate_token", ANY_USER, query=("nocatalog",)),
    Route("DELETE", "/auth/tokens", revoke, "identity:revoke_token", ANY_USER, gives=(204,)),
)
