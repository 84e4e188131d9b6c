"""Values of --secret, read when a step asks for them and kept nowhere."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from builder.errors import UsageError

if TYPE_CHECKING:
    from builder.build.request import SecretSpec

MAX_SECRET = 500 << 10
"""Bytes: BuildKit's limit (session/secrets)."""


def secret_provider(specs: Sequence[SecretSpec]) -> Callable[[str], bytes | None]:
    """A lookup by id. UsageError at once for a file that isn't there: before the build, not in the middle of it."""
    sources = {s.id: _resolve(s) for s in specs}

    def lookup(name: str) -> bytes | None:
        source = sources.get(name)
        return None if source is None else _read(name, *source)

    return lookup


def _resolve(spec: SecretSpec) -> tuple[str, str]:
    """(file, variable), one of them empty."""
    if spec.env:
        return "", spec.env
    if spec.file:
        if not os.path.exists(spec.file):
            hint = f"it is the source of secret {spec.id!r}"
            raise UsageError(f"failed to stat {spec.file}: no such file or directory", hint=hint)
        return spec.file, ""
    return ("", spec.id) if spec.id in os.environ else (spec.id, "")


def _read(name: str, file: str, variable: str) -> bytes | None:
    if variable:
        value = os.environb.get(variable.encode())
    else:
        try:
            with open(file, "rb") as f:
                value = f.read(MAX_SECRET + 1)
        except FileNotFoundError:
            return None
        except OSError as e:
            raise UsageError(f"can't read secret {name!r}: {e.strerror}") from e
    if value is not None and len(value) > MAX_SECRET:
        raise UsageError(f"invalid secret size {len(value)}: a secret has at most {MAX_SECRET} bytes")
    return value
