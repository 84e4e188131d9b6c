"""What runtimes say when a step could not be started, in the words BuildKit's users know, without anything of our insides.

Two kinds: the command is at fault (it does not exist, it can't be executed, its working folder is none): then it is the step's
failure with exit code 1, as under runc, and the words are its output. Or the sandbox could not be set up.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from runtime.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable

# How each runtime begins what it says. crun is asked for JSON, all of it on standard error.
_BEGINNINGS = {"runc": (b"runc run failed: ",), "crun": (b'{"msg":"',), "bwrap": (b"bwrap: ",), "native": (), "unprivileged": ()}
_MOST = 1 << 14

_RUNC_PREFIX = re.compile(
    r"^(runc (run|create) failed: )?(unable to start container process: )?(error during container init: )?(error during start: )?"
)
_RUNC_COMMAND = re.compile(r"^exec: |^exec \S.*: [a-z ]+$", re.DOTALL)
_RUNC_FOLDER = re.compile(r"^mkdir (?P<path>.*): [a-z -]+$", re.DOTALL)
_CHDIR = re.compile(r"^chdir to cwd \((?P<go>\".*\")\) set in config.json failed: (?P<reason>.*)$")
_CRUN_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z")
_CRUN_COMMAND = re.compile(r"^executable file `(?P<name>.*)` not found in \$PATH(: .*)?$", re.DOTALL)
_CRUN_OPEN = re.compile(r"^open executable: (?P<reason>[A-Za-z ]+)$")
_CRUN_EXEC = re.compile(r"^exec container process (\(.*?\) )?`(?P<name>.*)`: (?P<reason>[A-Za-z ]+)$", re.DOTALL)
_CRUN_CHDIR = re.compile(r"^chdir (to )?`(?P<cwd>.*)`( failed)?: (?P<reason>[A-Za-z -]+)$", re.DOTALL)
_BWRAP_CHDIR = re.compile(r"^Can't chdir to (?P<cwd>.*): (?P<reason>[A-Za-z -]+)$", re.DOTALL)

# Numbers and names of our own that say nothing to a user.
_INSIDES = re.compile(r" \(via /proc/(self|thread-self)/fd/\d+\)|,? flags: 0x[0-9a-f]+|,? data: \S*")


@dataclass(frozen=True, slots=True)
class Complaint:
    """``text`` is one line. ``command``: the step's command is at fault, not the sandbox."""

    text: str
    command: bool


class Listener:
    """Stands before ``on_output`` and keeps back what the runtime itself says: the first thing on standard error, before any
    output of the command."""

    def __init__(self, runtime: str, on_output: Callable[[int, bytes], None]) -> None:
        self._beginnings = _BEGINNINGS[runtime]
        self._on_output = on_output
        self._held = bytearray()
        self._passing = False

    def __call__(self, stream: int, data: bytes) -> None:
        if not self._passing:
            if stream == 2 and self._beginnings and len(self._held) < _MOST and (self._held or data.startswith(self._beginnings)):
                self._held += data
                return
            self.release()
        self._on_output(stream, data)

    @property
    def held(self) -> str:
        """What may be the runtime's own words."""
        return self._held.decode("utf-8", "replace")

    def release(self) -> None:
        """It was the command's output after all."""
        self._passing = True
        if self._held:
            data, self._held = bytes(self._held), bytearray()
            self._on_output(2, data)


def explain(runtime: str, text: str, *, command: str, cwd: str, inside: tuple[str, ...]) -> Complaint | None:
    """What ``runtime`` means by ``text``; None if the text is not one of its own. ``command`` is the first word of the command,
    ``cwd`` its working folder, ``inside`` names folders of ours that no user should read of."""
    text = text.strip()
    if runtime == "runc":
        return _runc(text, cwd, inside)
    if runtime == "crun":
        return _crun(text, command, inside)
    if not text.startswith("bwrap: "):
        return None
    text = text.removeprefix("bwrap: ")
    if found := _BWRAP_CHDIR.match(text):
        return _bad_folder(_quoted(found["cwd"]), found["reason"])
    return Complaint(_clean(text, inside), False)


def _runc(text: str, cwd: str, inside: tuple[str, ...]) -> Complaint:
    text = _RUNC_PREFIX.sub("", text, count=1)
    folder = _RUNC_FOLDER.match(text)
    if _RUNC_COMMAND.match(text) or (folder and f"{cwd}/".startswith(f"{folder['path'].rstrip('/')}/")):
        return Complaint(text, True)
    if found := _CHDIR.match(text):
        return _bad_folder(found["go"], found["reason"])
    return Complaint(_clean(text, inside), False)


def _crun(line: str, command: str, inside: tuple[str, ...]) -> Complaint | None:
    import json

    try:
        entry = json.loads(line.split("\n")[-1])
    except ValueError:
        return None
    if not isinstance(entry, dict) or entry.keys() != {"msg", "level", "time"} or not _CRUN_TIME.fullmatch(str(entry["time"])):
        return None
    text = str(entry["msg"])
    if found := _CRUN_COMMAND.match(text):
        return Complaint(_missing(found["name"]), True)
    if found := _CRUN_OPEN.match(text):
        return Complaint(_not_executable(command, found["reason"]), True)
    if found := _CRUN_EXEC.match(text):
        return Complaint(f"exec {found['name']}: {found['reason'].lower()}", True)
    if found := _CRUN_CHDIR.match(text):
        return _bad_folder(_quoted(found["cwd"]), found["reason"])
    return Complaint(_clean(text, inside), False)


def _missing(name: str) -> str:
    if "/" in name:
        return f"exec: {_quoted(name)}: stat {name}: no such file or directory"
    return f"exec: {_quoted(name)}: executable file not found in $PATH"


def _not_executable(command: str, reason: str) -> str:
    if "/" not in command:
        return _missing(command)
    if reason == "Not a directory":
        return f"exec: {_quoted(command)}: stat {command}: not a directory"
    return f"exec: {_quoted(command)}: permission denied"


def _bad_folder(quoted: str, reason: str) -> Complaint:
    return Complaint(f"chdir to cwd ({quoted}) failed: {reason.lower()}", True)


def _quoted(text: str) -> str:
    """As Go's %q, near enough for a message."""
    import json

    return json.dumps(text, ensure_ascii=False)


def _clean(text: str, inside: tuple[str, ...]) -> str:
    text = _INSIDES.sub("", text.split("\n")[0])
    for folder in sorted(inside, key=len, reverse=True):
        text = text.replace(folder + "/", "/").replace(folder, "/")
    return text
