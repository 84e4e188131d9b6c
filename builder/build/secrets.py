"""Values of --secret, read when a step asks for them and kept nowhere; but for pipes, which can be read once."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import TYPE_CHECKING

from builder.errors import UsageError
from runtime.errors import UnsafePathError
from runtime.linux.named import descriptor_of, read_named

if TYPE_CHECKING:
    from builder.build.request import SecretSpec

MAX_SECRET = 500 << 10
"""Bytes: BuildKit's limit (session/secrets)."""


class Secrets:
    """Where each secret comes from, checked when this is made: before the build, not in the middle of it.

    UsageError, as of BuildKit's client (secretsprovider/store.go), for a file that can't be one. Of two secrets with one id the
    last counts. ``warnings`` are for the user.
    """

    def __init__(self, specs: Sequence[SecretSpec]) -> None:
        self.warnings: list[str] = []
        self._sources: dict[str, tuple[str, str]] = {}
        self._taken: dict[str, bytes] = {}
        for spec in specs:
            file, variable = source = _source(spec)
            if self._sources.setdefault(spec.id, source) != source:
                self.warnings.append(f"secret {spec.id} is given more than once: the last one counts")
                self._sources[spec.id] = source
            if file and file not in self._taken:
                value = _read_file(spec.id, file)
                if descriptor_of(file) is not None:
                    self._taken[file] = value
            if variable and variable not in os.environ:
                self.warnings.append(f"secret {spec.id} is empty: the environment has no variable {variable}")

    def get(self, name: str) -> bytes | None:
        """The value; None where no secret has that id. UsageError if its file can't be read any more."""
        if name not in self._sources:
            return None
        file, variable = self._sources[name]
        if variable:
            # A variable that isn't there is an empty secret, as with BuildKit (os.Getenv).
            return _bounded(os.environb.get(os.fsencode(variable), b""))
        return self._taken[file] if file in self._taken else _read_file(name, file)


def _source(spec: SecretSpec) -> tuple[str, str]:
    """(file, variable), one of them empty. The id alone names a variable, or else a file."""
    if spec.env:
        return "", spec.env
    return ("", spec.id) if not spec.file and spec.id in os.environ else (spec.file or spec.id, "")


def _read_file(name: str, file: str) -> bytes:
    try:
        return _bounded(read_named(file, MAX_SECRET))
    except (FileNotFoundError, NotADirectoryError) as e:
        hint = f"it is the source of secret {name!r}"
        if file == name:
            hint = "a secret without src or env is the variable, or else the file, that has its id for a name"
        raise UsageError(f"failed to stat {file}: no such file or directory", hint=hint) from e
    except UnsafePathError as e:
        hint = f"a secret is a regular file of at most {MAX_SECRET} bytes; what a command prints is src=<(command)"
        raise UsageError(f"can't read secret {name!r}: {e}", hint=hint) from e
    except OSError as e:
        raise UsageError(f"can't read secret {name!r}: {file}: {(e.strerror or str(e)).lower()}") from e


def _bounded(value: bytes) -> bytes:
    if len(value) > MAX_SECRET:
        raise UsageError(f"invalid secret size {len(value)}: a secret has at most {MAX_SECRET} bytes")
    return value
