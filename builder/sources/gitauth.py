"""Credentials of a git remote: where they come from, which URLs they are for, and that no redirect carries them to another origin.

git sends the headers it was configured with for the URL it began with, also after it followed a redirect of its first question: all
later requests then go to the new host with the old host's token (BuildKit has this hole). libcurl guards its own redirects only. So
git follows none where there are credentials. It names the URL that was refused, the redirect is looked up here, and git is told the
final URL: with the credentials at the same origin, without them anywhere else.
"""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING

from builder.errors import AuthError, SourceError
from builder.text.redact import redact_url

if TYPE_CHECKING:
    from builder.graph.ops import GitSource
    from builder.net.agent import Agent
    from builder.session import Session

_REFUSED = re.compile(r"unable to access '(.+?)/?': The requested URL returned error: 30[1-8]\b")
_QUESTION = "/info/refs?service=git-upload-pack"
_ACCOUNT_WIDE = ("https://github.com/", "https://www.github.com/")


class GitAuth:
    """The credentials for one remote, and what was learned of redirects. ``config`` changes as ``learn`` finds something out.

    AuthError for a secret that can't be a header.
    """

    def __init__(self, source: GitSource, session: Session, *, agent: Agent | None = None) -> None:
        self._remote = source.remote
        self._agent = agent
        self._plain, self._user = _split(source.remote)
        self._header = _header(source, session)
        self._moved: dict[str, str] = {}  # as git names the old place -> the new one, without credentials
        self._kept: set[str] = set()  # those of the new ones that are at the origin of the old

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must not be shown, in all forms that git may print."""
        from urllib.parse import unquote

        password = self._user.partition(":")[2]
        words = (self._header, self._header.partition(" ")[2], password, unquote(password))
        return tuple(dict.fromkeys(w for w in words if w))

    def config(self, name: str) -> dict[str, str]:
        """Settings for git, with the remote as ``remote.NAME``."""
        config = {f"remote.{name}.url": self._full(self._moved.get(self._plain, self._remote))}
        if not self._plain.startswith(("http://", "https://")) or not (self._header or self._user):
            return config
        for url in (*self._header_scopes(), *self._user_scopes()):
            config[f"http.{url}.followRedirects"] = "false"
        for url in self._header_scopes():
            config[f"http.{url}.extraHeader"] = f"Authorization: {self._header}"
        for old, new in self._moved.items():
            if old != self._plain:  # a submodule's: git has its URL from a file of the repository
                # With credentials in the remote, those URLs alone are refused that git made of relative ones.
                config[f"url.{self._full(new)}.insteadOf"] = self._with_user(old) if self._user else old
        return config

    def learn(self, stderr: str) -> bool:
        """Was git refused for a redirect that was not known yet? Then ``config`` has what leads to its end now. SourceError."""
        match = _REFUSED.search(stderr)
        if match is None:
            return False
        old = _split(match[1])[0]
        if old in self._moved:
            return False
        self._moved[old] = self._follow(old)
        return True

    def _header_scopes(self) -> list[str]:
        """Which URLs a secret is for: the remote alone; all of GitHub for a remote there, where its submodules mostly are too."""
        if not self._header:
            return []
        wide = [prefix for prefix in _ACCOUNT_WIDE if self._plain.startswith(prefix)]
        return [*(wide or [self._plain]), *sorted(self._kept)]

    def _user_scopes(self) -> list[str]:
        """Which URLs hold the remote's own credentials: those with its user at its origin, as git makes them of relative URLs of
        submodules too."""
        if not self._user:
            return []
        scheme, _, rest = self._plain.partition("://")
        return [f"{scheme}://{self._user.partition(':')[0]}@{rest.partition('/')[0]}/"]

    def _full(self, url: str) -> str:
        """With the credentials that were in the remote's URL, where they may go."""
        return self._with_user(url) if self._user and url in self._kept else url

    def _with_user(self, url: str) -> str:
        scheme, _, rest = url.partition("://")
        return f"{scheme}://{self._user}@{rest}"

    def _follow(self, url: str) -> str:
        from builder.net.agent import MAX_REDIRECTS, Agent, redirected
        from builder.net.transport import TLS, HttpxTransport, Request

        agent = self._agent = self._agent or Agent(HttpxTransport())
        ca = os.environ.get("GIT_SSL_CAINFO", "")
        secret = self._header or _basic(self._user)
        # Some servers look for git's name.
        headers = {"User-Agent": "git/2 (pybuild)", "Accept": "*/*", "Authorization": secret}
        request = Request("GET", url + _QUESTION, headers, tls=TLS(ca=(ca,) if ca else ()))
        for _ in range(MAX_REDIRECTS):
            with agent.send(request, follow=False) as response:
                target = response.headers.get("location", "")
                if response.status not in (301, 302, 303, 307, 308) or not target:
                    break
            request = redirected(request, target)
            if not request.url.endswith(_QUESTION):
                raise SourceError(f"{url} redirects to {redact_url(request.url)}, which is no git remote")
        else:
            raise SourceError(f"{url}: stopped after {MAX_REDIRECTS} redirects")
        found = request.url.removesuffix(_QUESTION)
        if "Authorization" in request.headers:
            self._kept.add(found)
        return found


def _split(url: str) -> tuple[str, str]:
    """(the URL without user and password, those two as they stand there)."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url, ""
    authority, slash, path = rest.partition("/")
    user, _, host = authority.rpartition("@")
    return f"{scheme}://{host}{slash}{path}".rstrip("/"), user


def _basic(user: str) -> str:
    import base64
    from urllib.parse import unquote

    name, _, password = user.partition(":")
    return "Basic " + base64.b64encode(f"{unquote(name)}:{unquote(password)}".encode()).decode()


def _header(source: GitSource, session: Session) -> str:
    """From the secrets, those for the host first; a header's value as it is, a token as GitHub and GitLab take it."""
    import base64
    from urllib.parse import urlsplit

    if not source.remote.startswith(("http://", "https://")):
        return ""
    host = urlsplit(source.remote).netloc.rpartition("@")[2]
    for suffix in ("." + host, ""):
        for name, token in ((source.auth_header_secret, False), (source.auth_token_secret, True)):
            value = session.secret(name + suffix) if name else None
            if value is None:
                continue
            if token:
                return "basic " + base64.b64encode(b"x-access-token:" + value).decode()
            text = value.decode("utf-8", "replace").strip()
            if any(c in text for c in "\r\n\0"):
                raise AuthError("the git auth secret holds a line break")
            return text
    return ""
