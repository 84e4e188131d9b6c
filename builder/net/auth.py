"""Credentials: docker's config.json with its helpers, and the Basic and Bearer answers to a registry's challenge.

Credentials go to the registry they are stored for and to the token service that this registry itself names, nowhere else:
challenges of hosts reached by a redirect are not answered (CVE-2020-15157).
"""

from __future__ import annotations

import base64
import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from builder.errors import AuthError, SourceError, UsageError
from builder.net.agent import Agent
from builder.net.transport import TLS, Request
from builder.oci.reference import DOCKER_HUB
from builder.values import dataclass, field
from runtime.errors import UnsafePathError
from runtime.linux.named import read_named

_HUB_KEY = "https://index.docker.io/v1/"
_DEFAULT_TOKEN_SECONDS = 60
_MAX_TOKEN_BODY = 1 << 20
_MAX_CONFIG = 16 << 20
_HELPER_SECONDS = 60


@dataclass(frozen=True, slots=True)
class Credentials:
    """``identity_token`` is an OAuth refresh token, ``registry_token`` a bearer token to use as it is."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    def __bool__(self) -> bool:
        return bool(self.password or self.identity_token or self.registry_token)


NONE = Credentials()


class DockerConfig:
    """``config.json`` of $DOCKER_CONFIG or ~/.docker, read when credentials are first wanted."""

    def __init__(self, folder: str | None = None) -> None:
        self._folder = folder
        self._document: dict[str, Any] | None = None
        self._lock = threading.Lock()

    def credentials(self, registry: str, repository: str) -> Credentials:
        """For a repository of ``registry`` (``docker.io`` for Docker Hub); NONE where nothing is stored.

        Docker's order: a helper for the registry, the store for all, entries of the file. An entry ``host/path`` counts
        for repositories below that path only, the longest first.
        """
        document = self._read()
        helpers = document.get("credHelpers")
        name = helpers.get(registry) if isinstance(helpers, dict) else None
        store = name or document.get("credsStore")
        if store:
            found = _ask_helper(str(store), _HUB_KEY if registry == DOCKER_HUB else registry)
            if found:
                return found
        auths = document.get("auths")
        return _from_auths(auths if isinstance(auths, dict) else {}, registry, repository)

    def _read(self) -> dict[str, Any]:
        with self._lock:
            if self._document is None:
                folder = self._folder or os.environ.get("DOCKER_CONFIG") or os.path.expanduser("~/.docker")
                path = os.path.join(folder, "config.json")
                try:
                    document = json.loads(read_named(path, _MAX_CONFIG))
                except (FileNotFoundError, NotADirectoryError, PermissionError):
                    document = {}
                except (OSError, ValueError, UnsafePathError) as e:
                    raise UsageError(f"can't read {path}: {e}") from e
                except RecursionError:
                    raise UsageError(f"can't read {path}: it is nested too deeply") from None
                if not isinstance(document, dict):
                    raise UsageError(f"can't read {path}: not a JSON object")
                self._document = document
            return self._document


def _from_auths(auths: dict[str, Any], registry: str, repository: str) -> Credentials:
    best: tuple[int, Credentials] = (-1, NONE)
    for key in sorted(auths):
        entry = auths[key]
        host, path = _entry_scope(key)
        inside = not path or repository == path or repository.startswith(path + "/")
        if isinstance(entry, dict) and host == registry and inside and len(path) > best[0]:
            found = _from_entry(entry)
            if found:
                best = len(path), found
    return best[1]


def _entry_scope(key: str) -> tuple[str, str]:
    """(registry, repository prefix) of an ``auths`` key: ``quay.io``, ``https://quay.io/v1/``, ``quay.io/team``."""
    host, _, path = key.removeprefix("https://").removeprefix("http://").partition("/")
    path = path.strip("/")
    if host in ("index.docker.io", "registry-1.docker.io"):
        host = DOCKER_HUB
    return host, "" if path in ("v1", "v2") else path


def _from_entry(entry: dict[str, Any]) -> Credentials:
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    if entry.get("auth"):
        try:
            decoded = base64.b64decode(str(entry["auth"])).decode()
        except ValueError:
            decoded = ""
        username, _, password = decoded.partition(":")
        password = password.rstrip("\x00")
    return Credentials(username, password, str(entry.get("identitytoken") or ""), str(entry.get("registrytoken") or ""))


def _ask_helper(name: str, server: str) -> Credentials:
    """``docker-credential-NAME get``: the server on stdin, JSON on stdout (docker-credential-helpers' protocol)."""
    import subprocess

    if "/" in name or name.startswith("-"):
        raise UsageError(f"credential helper {name!r} is no name of a program")
    program = "docker-credential-" + name
    try:
        done = subprocess.run([program, "get"], input=server.encode(), capture_output=True, timeout=_HELPER_SECONDS, check=False)
    except FileNotFoundError as e:
        raise AuthError(f"credential helper {program} is not installed", hint="see credsStore in docker's config.json") from e
    except (OSError, subprocess.TimeoutExpired) as e:
        raise AuthError(f"credential helper {program} failed: {type(e).__name__}") from e
    if done.returncode != 0:
        # Helpers say "credentials not found" on stdout; whatever else they say may hold a secret and is not shown.
        if b"credentials not found" in done.stdout + done.stderr:
            return NONE
        raise AuthError(f"credential helper {program} failed with exit code {done.returncode}")
    try:
        answer = json.loads(done.stdout)
        username, secret = str(answer.get("Username") or ""), str(answer.get("Secret") or "")
    except (ValueError, AttributeError) as e:
        raise AuthError(f"credential helper {program} gave no JSON object") from e
    return Credentials(identity_token=secret) if username == "<token>" else Credentials(username, secret)


@dataclass(frozen=True, slots=True)
class Challenge:
    """One of Www-Authenticate (RFC 9110, 11.6.1); names in lower case."""

    scheme: str
    parameters: dict[str, str]


def parse_challenges(header: str) -> list[Challenge]:
    """All challenges of a header value; what can't be read is left out."""
    found: list[Challenge] = []
    for word, value in _tokens(header):
        if value is None:
            found.append(Challenge(word.lower(), {}))
        elif found:
            found[-1].parameters.setdefault(word.lower(), value)
    return found


def _tokens(header: str) -> Iterator[tuple[str, str | None]]:
    import re

    for match in re.finditer(r'([A-Za-z0-9_.~+-]+)(?:\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]*)))?', header[:8192]):
        word, quoted, plain = match.groups()
        if quoted is not None:
            yield word, re.sub(r"\\(.)", r"\1", quoted)
        else:
            yield word, plain


@dataclass(frozen=True, slots=True)
class Scope:
    """What a token is for: ``repository:NAME:ACTIONS``."""

    repository: str
    actions: tuple[str, ...] = ("pull",)

    def __str__(self) -> str:
        return f"repository:{self.repository}:{','.join(self.actions)}"


class Authorizer:
    """Answers challenges and remembers the answers, for one registry host (of one pybuild process)."""

    def __init__(
        self,
        registry: str,
        credentials: Callable[[str, str], Credentials],
        agent: Agent,
        tls: TLS,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._registry = registry
        self._credentials = credentials
        self._agent = agent
        self._tls = tls
        self._clock = clock
        self._lock = threading.Lock()
        self._headers: dict[tuple[Scope, ...], tuple[str, float]] = {}

    def header(self, scopes: tuple[Scope, ...]) -> str | None:
        """The Authorization header that worked for ``scopes`` before, or None."""
        known = self._headers.get(scopes)
        return known[0] if known is not None and known[1] > self._clock() else None

    def answer(self, challenge_header: str, scopes: tuple[Scope, ...], *, url: str, refused: str | None) -> str | None:
        """An Authorization header for the challenge, or None if there is no (other) answer than ``refused``."""
        with self._lock:
            known = self.header(scopes)
            if known is not None and known != refused:
                return known  # another thread has just got it
            self._headers.pop(scopes, None)
            credentials = self._credentials(self._registry, scopes[0].repository)
            for challenge in parse_challenges(challenge_header):
                if challenge.scheme == "bearer" and challenge.parameters.get("realm"):
                    header, until = self._bearer(challenge, scopes, credentials, url)
                elif challenge.scheme == "basic" and credentials.password:
                    pair = f"{credentials.username}:{credentials.password}".encode()
                    header, until = "Basic " + base64.b64encode(pair).decode(), float("inf")
                else:
                    continue
                if header == refused:
                    return None
                self._headers[scopes] = header, until
                return header
            return None

    def _bearer(self, challenge: Challenge, scopes: tuple[Scope, ...], credentials: Credentials, url: str) -> tuple[str, float]:
        if credentials.registry_token:
            return "Bearer " + credentials.registry_token, float("inf")
        realm = challenge.parameters["realm"]
        if not realm.startswith(("https://", "http://")) or "@" in realm.split("/")[2]:
            raise AuthError(f"{self._registry}: the token service {realm[:100]!r} is no http address")
        if credentials and url.startswith("https:") and not realm.startswith("https:"):
            raise AuthError(f"{self._registry}: credentials are not sent to a token service without TLS: {realm[:100]}")
        wanted = {str(s) for s in scopes} | set(challenge.parameters.get("scope", "").split())
        token, seconds = self._fetch(realm, challenge.parameters.get("service", ""), _merge(wanted), credentials)
        return "Bearer " + token, self._clock() + 0.9 * seconds

    def _fetch(self, realm: str, service: str, scopes: list[str], credentials: Credentials) -> tuple[str, float]:
        """(token, seconds it lives): by GET, or by POST (OAuth2) for identity tokens and where GET is refused."""
        from urllib.parse import urlencode

        if not credentials.identity_token:
            query = [("service", service)] * bool(service) + [("scope", s) for s in scopes]
            headers = {}
            if credentials.password:
                pair = base64.b64encode(f"{credentials.username}:{credentials.password}".encode()).decode()
                headers["Authorization"] = "Basic " + pair
                query.insert(0, ("account", credentials.username))
            url = realm + ("&" if "?" in realm else "?") + urlencode(query) if query else realm
            status, body = self._send(Request("GET", url, headers, tls=self._tls))
            if status == 200:
                return self._token(body)
            if not credentials.password or status not in (401, 404, 405):
                raise self._refused(status, anonymous=not credentials)
        form = {"client_id": "pybuild", "service": service, "scope": " ".join(scopes)}
        if credentials.identity_token:
            form |= {"grant_type": "refresh_token", "refresh_token": credentials.identity_token}
        else:
            form |= {"grant_type": "password", "username": credentials.username, "password": credentials.password}
        content = {"Content-Type": "application/x-www-form-urlencoded"}
        status, body = self._send(Request("POST", realm, content, urlencode(form).encode(), self._tls))
        if status != 200:
            raise self._refused(status, anonymous=False)
        return self._token(body)

    def _send(self, request: Request) -> tuple[int, bytes]:
        with self._agent.send(request, follow=request.method == "GET") as response:
            return response.status, response.read(_MAX_TOKEN_BODY)

    def _refused(self, status: int, *, anonymous: bool) -> AuthError:
        what = "failed to fetch anonymous token" if anonymous else "failed to fetch oauth token"
        text = f"failed to authorize: {what} for {self._registry}: status {status}"
        return AuthError(text, hint=f"docker login {self._registry}")

    def _token(self, body: bytes) -> tuple[str, float]:
        try:
            document = json.loads(body)
            token = document.get("token") or document.get("access_token")
            seconds = float(document.get("expires_in") or _DEFAULT_TOKEN_SECONDS)
        except (ValueError, TypeError, AttributeError, RecursionError) as e:
            raise SourceError(f"{self._registry}: the token service's answer is malformed") from e
        if not isinstance(token, str) or not token or not token.isascii() or not token.isprintable():
            raise AuthError(f"{self._registry}: the token service gave no token")
        return token, seconds


def _merge(scopes: set[str]) -> list[str]:
    """One entry for each resource, its actions sorted."""
    merged: dict[str, set[str]] = {}
    for scope in scopes:
        resource, colon, actions = scope.rpartition(":")
        if colon:
            merged.setdefault(resource, set()).update(actions.split(","))
    return [f"{resource}:{','.join(sorted(merged[resource]))}" for resource in sorted(merged)]
