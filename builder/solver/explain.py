"""Why a step was not cached: what differs from the nearest earlier record of it.

A step's record holds the parts that its key was made of, by name: those of the definition as the op tells them, and for each
input what it is called, the names of its keys, the checksum of what counts of it, and maybe the files in that checksum. Comparing
is a function of two such records; ``steplog`` keeps them.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Literal, Protocol

from builder.values import dataclass

if TYPE_CHECKING:
    from builder.oci.digest import Digest

Change = Literal["changed", "added", "removed"]
Kind = Literal["instruction", "arg", "env", "option", "definition", "file", "files", "paths", "content", "input"]
Reason = Literal["first", "different", "gone", "failed", "ignored"]

_ENV = "env "
_SPOKEN = frozenset({"command", "source", "destination"})
"""Parts that the instruction itself shows. If the instructions differ, these need not be told as well."""


@dataclass(frozen=True, slots=True)
class InputRecord:
    """``keys`` are names in the key store; two inputs are the same if they share one, or ``content`` (empty: not looked at).

    ``files``: (name, digest) of what ``content`` covers, sorted by name, empty if the op does not tell; not ``complete``: the first
    ones of more. ``identity`` of a source is what its name stood for: a manifest digest, a commit.
    """

    name: str
    selector: str = ""
    keys: tuple[str, ...] = ()
    content: str = ""
    files: tuple[tuple[str, str], ...] = ()
    complete: bool = True
    identity: str = ""


@dataclass(frozen=True, slots=True)
class StepRecord:
    """``title`` is the instruction, ``stage`` where it stands, ``name`` what progress shows. ``args`` are the variables of
    ``parts`` that come from ARG. ``digest`` is the definition's: it changes with parts that nobody named."""

    kind: str
    stage: str
    title: str
    parts: tuple[tuple[str, str], ...] = ()
    inputs: tuple[InputRecord, ...] = ()
    name: str = ""
    args: tuple[str, ...] = ()
    digest: str = ""


@dataclass(frozen=True, slots=True)
class Past:
    """An earlier execution. ``created_ns`` counts from the epoch; ``here``: by a build of the same Dockerfile and context."""

    step: StepRecord
    created_ns: int
    failed: bool = False
    here: bool = True


@dataclass(frozen=True, slots=True)
class Difference:
    """One thing that differs, and its values where they are worth showing.

    ``kind``: ``arg`` and ``env`` are variables; ``option`` any other part (``workdir``, ``user``, ``mount /cache``);
    ``definition`` something that has no name; ``file`` a file of an input; ``files`` that more files differ than are listed;
    ``paths`` that other paths of an input are used; ``content`` of an input whose files are not known; ``input`` is made by a step
    that ran, or is another image.
    """

    change: Change
    kind: Kind
    name: str = ""
    old: str = ""
    new: str = ""


@dataclass(frozen=True, slots=True)
class Miss:
    """Why a step ran, or would run. ``reason``: "first" (nothing like it was ever built), "different" (see ``differences``),
    "gone" (the same was built; its result is not there any more), "failed" (so it did the last time), "ignored" (--no-cache).

    ``since_ns``: when the record was made that it was compared with, None for none.
    """

    step: StepRecord
    reason: Reason
    differences: tuple[Difference, ...] = ()
    since_ns: int | None = None
    failed: bool = False
    """It did not come to an end this time."""


def differences(old: StepRecord, new: StepRecord) -> tuple[Difference, ...]:
    """What made the key another one, definition first."""
    out: list[Difference] = []
    if old.title != new.title:
        out.append(Difference("changed", "instruction", "", old.title, new.title))
    args = {*old.args, *new.args}
    for change, name, a, b in _compare(dict(old.parts), dict(new.parts)):
        if name.startswith(_ENV):
            variable = name.removeprefix(_ENV)
            out.append(Difference(change, "arg" if variable in args else "env", variable, a, b))
        elif not (out and out[0].kind == "instruction" and name in _SPOKEN):
            out.append(Difference(change, "option", name, a, b))
    if not out and old.digest != new.digest:
        out.append(Difference("changed", "definition"))
    for i in range(max(len(old.inputs), len(new.inputs))):
        if i >= len(old.inputs):
            out.append(Difference("added", "input", new.inputs[i].name))
        elif i >= len(new.inputs):
            out.append(Difference("removed", "input", old.inputs[i].name))
        else:
            out += _compare_inputs(old.inputs[i], new.inputs[i])
    return tuple(out)


def _compare_inputs(old: InputRecord, new: InputRecord) -> list[Difference]:
    if old.selector != new.selector:
        return [Difference("changed", "paths", new.name)]
    if old.content and new.content:
        if old.content == new.content:
            return []
        return _compare_files(old, new) or [Difference("changed", "content", new.name)]
    if set(old.keys) & set(new.keys):
        return []
    identities = (old.identity, new.identity) if old.identity != new.identity else ("", "")
    return [Difference("changed", "input", new.name, *identities)]


def _compare_files(old: InputRecord, new: InputRecord) -> list[Difference]:
    """The files that differ. If a list was cut, a name that one side lacks says nothing: it may have stood behind the cut."""
    if not old.files or not new.files:
        return []
    complete = old.complete and new.complete
    found = _compare(dict(old.files), dict(new.files))
    out = [Difference(change, "file", name) for change, name, _, _ in found if complete or change == "changed"]
    return out if complete else [*out, Difference("changed", "files", new.name)]


def _compare(old: Mapping[str, str], new: Mapping[str, str]) -> Iterable[tuple[Change, str, str, str]]:
    for name in sorted({*old, *new}):
        a, b = old.get(name), new.get(name)
        if a != b:
            yield "added" if a is None else "removed" if b is None else "changed", name, a or "", b or ""


def nearest(step: StepRecord, past: Sequence[Past]) -> Past | None:
    """The execution of the same kind of step with the least differences. The same instruction counts most, then the same place;
    the first wins a tie. One with another instruction counts only if it stood on the same, in the same stage."""

    def distance(other: Past) -> tuple[int, int]:
        place = (other.step.title != step.title) * 2 + (not other.here or other.step.stage != step.stage)
        return place, len(differences(other.step, step))

    candidates = [p for p in past if p.step.kind == step.kind and (p.step.title == step.title or _same_place(p, step))]
    return min(candidates, key=distance) if candidates else None


def _same_place(past: Past, step: StepRecord) -> bool:
    old, new = past.step.inputs[:1], step.inputs[:1]
    if not past.here or past.step.stage != step.stage or len(old) != len(new):
        return False
    return not old or not _compare_inputs(old[0], new[0])


def explain(step: StepRecord, past: Sequence[Past], *, ignored: bool = False, failed: bool = False) -> Miss:
    """The miss of a step, by the earlier executions of steps like it, newest first."""
    if ignored:
        return Miss(step, "ignored", failed=failed)
    old = nearest(step, past)
    if old is None:
        return Miss(step, "first", failed=failed)
    found = differences(old.step, step)
    reason: Reason = "different" if found else "failed" if old.failed else "gone"
    return Miss(step, reason, found, old.created_ns, failed)


class Explanations(Protocol):
    """Keeps steps' records and explains misses by them. Called from several threads."""

    def ran(self, vertex: Digest, step: StepRecord, *, ignored: bool, failed: bool) -> None:
        """A step was executed, and came to an end or failed: keep its record."""
        ...

    def would_run(self, vertex: Digest, step: StepRecord, *, ignored: bool) -> None:
        """A step would be executed: explain that."""
        ...
