"""Errors of the runtime."""

from __future__ import annotations


class RuntimeFault(Exception):
    """The sandbox could not be set up or run; one line of cause, ``hint`` says what to try."""

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UnsafePathError(RuntimeFault):
    """A path leaves the root it must stay in, or names something that must not be opened."""
