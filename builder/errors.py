"""The exception tree of the builder.

    PybuildError                one line of cause, an optional hint; what the command line prints without a traceback
     +-- UsageError             flags, config files, names the user typed
     +-- SourceError            a source (image, git, http, local) can't be had
     |    +-- NotFoundError     it does not exist
     |    +-- AuthError         credentials missing or refused
     |    +-- IntegrityError    bytes don't fit their digest or size
     |         +-- DamagedBlobError   those of a blob of the own store; it is deleted by then
     +-- LayerError             a layer or archive is malformed or hostile
     |    +-- RefusedLayerError  well-formed, and not to be unpacked: over a limit, or ambiguous between readers
     +-- StoreError             the state root can't be used: disk full, permission, damage
     |    +-- DamagedStoreError its metadata is damaged: it has to be written anew before it can be used
     |    +-- OlderStoreError   its metadata is of an older version: it has to be migrated before it can be used
     +-- StepError              a step of the build failed (exit code, missing file to copy)
     +-- UnsupportedError       understood, but not supported here; the text names it
     +-- CancelledError         the build was interrupted, or a sibling failed
"""

from __future__ import annotations


class PybuildError(Exception):
    """Base of every expected failure. ``str(e)`` is one line of cause; ``hint`` says what to try, or is empty."""

    exit_code = 1

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


class UsageError(PybuildError):
    """A flag, config file or name given by the user is wrong."""


class SourceError(PybuildError):
    """A source can't be had."""


class NotFoundError(SourceError):
    """The named thing does not exist at the source."""


class AuthError(SourceError):
    """The source wants credentials that are missing or were refused."""


class IntegrityError(SourceError):
    """Bytes do not fit their digest, size or media type."""


class DamagedBlobError(IntegrityError):
    """A blob of the own store has rotten. It is deleted by then: the same again makes or fetches it anew."""


class LayerError(PybuildError):
    """A layer or archive is malformed, hostile or over a limit."""


class RefusedLayerError(LayerError):
    """A layer or archive is well-formed, but over a limit, or other readers could take it for another one."""


class StoreError(PybuildError):
    """The state root can't be used: disk full, no permission, damaged beyond what a miss repairs."""


class DamagedStoreError(StoreError):
    """The metadata database can't be worked with. The command line writes it anew and starts again (``state.recovery``)."""


class OlderStoreError(StoreError):
    """The metadata database is of an older version. Opening the root migrates it (``state.recovery``)."""


class StepError(PybuildError):
    """A step failed. ``output`` holds the last lines the step printed, ``code`` the command's own exit code."""

    def __init__(self, message: str, *, hint: str = "", output: tuple[str, ...] = (), code: int | None = None) -> None:
        super().__init__(message, hint=hint)
        self.output = output
        self.code = code


class UnsupportedError(PybuildError):
    """Understood, but not supported; the message names what."""


class CancelledError(PybuildError):
    """The build was interrupted by the user or by the failure of a sibling. The exit code is that of SIGINT in a shell."""

    exit_code = 130
