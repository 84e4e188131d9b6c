"""Hide credentials of URLs before they are shown, logged or stored (CVE-2023-26054)."""

from __future__ import annotations

MASK = "xxxxx"


def redact_url(url: str) -> str:
    """``https://user:password@host/x`` becomes ``https://xxxxx:xxxxx@host/x``; anything without credentials is left as it is."""
    scheme, separator, rest = url.partition("://")
    if not separator:
        return url
    end = min((i for i in map(rest.find, "/?#") if i >= 0), default=len(rest))
    user, at, host = rest[:end].rpartition("@")
    if not at:
        return url
    name, colon, password = user.partition(":")
    masked = (MASK if name else "") + (":" + MASK if colon and password else colon)
    return f"{scheme}://{masked}@{host}{rest[end:]}"


def redact_text(text: str, secrets: tuple[str, ...] = ()) -> str:
    """As ``redact_url`` for every URL inside a text; each of ``secrets`` is masked wherever it stands."""
    for secret in secrets:
        if secret:
            text = text.replace(secret, MASK)
    if "://" not in text or "@" not in text:
        return text
    import re

    return re.sub(r"[a-zA-Z][a-zA-Z0-9+.-]*://[^\s'\"<>]+", lambda m: redact_url(m.group()), text)
