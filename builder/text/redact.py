"""Hide credentials of URLs before they are shown, logged or stored (CVE-2023-26054).

``VertexMeta`` masks what it is told, so that nothing that is said of a step holds any; errors are masked where they become text.
"""

from __future__ import annotations

MASK = "xxxxx"
_GIT = "git"
"""The user of every ssh remote: a convention, no secret. Texts that people write keep it; ``redact_url`` is as in BuildKit."""


def redact_url(url: str) -> str:
    """``https://user:password@host/x`` becomes ``https://xxxxx:xxxxx@host/x``; anything without credentials is left as it is."""
    scheme, user, rest = _split(url)
    return url if user is None else f"{scheme}://{_masked(user)}@{rest}"


def redact_source(url: str) -> str:
    """As ``redact_url`` in texts that people write: there the user of ssh remotes stays."""
    return url if _split(url)[1] == _GIT else redact_url(url)


def redact_text(text: str, secrets: tuple[str, ...] = ()) -> str:
    """As ``redact_url`` for every URL inside a text; each of ``secrets`` is masked wherever it stands."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, MASK)
    return _replaced(text, "[a-zA-Z][a-zA-Z0-9+.-]*")


def redact_history(text: str) -> str:
    """As ``redact_text``, for URLs of http and git alone: an image's history is BuildKit's, but for what could open a source.
    ``ENV DB=postgres://app:app@db`` is told as it is, as the image's configuration does."""
    return _replaced(text, r"(?:git\+)?(?:https?|git|ssh)")


def _replaced(text: str, schemes: str) -> str:
    if "://" not in text or "@" not in text:
        return text
    import re

    def mask(match: re.Match[str]) -> str:
        scheme, user = match.groups()
        return match.group() if user == _GIT else f"{scheme}://{_masked(user)}@"

    return re.sub(rf"(?<![a-zA-Z0-9+.-])({schemes})://([^\s'\"<>/?#]*)@", mask, text)


def _split(url: str) -> tuple[str, str | None, str]:
    """(scheme, user and password as they stand there or None, the rest)."""
    scheme, separator, rest = url.partition("://")
    end = min((i for i in map(rest.find, "/?#") if i >= 0), default=len(rest))
    user, at, host = rest[:end].rpartition("@")
    return scheme, user if separator and at else None, host + rest[end:]


def _masked(user: str) -> str:
    name, colon, password = user.partition(":")
    return (MASK if name else "") + (":" + MASK if colon and password else colon)
