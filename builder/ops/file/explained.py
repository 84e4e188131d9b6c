"""The actions of a FileOp in the words of a Dockerfile, for explanations."""

from __future__ import annotations

from collections.abc import Sequence

from builder.graph.ops import CopyAction, FileAction, MkdirAction, MkfileAction, Owner, SymlinkAction


def explained_parts(actions: Sequence[FileAction]) -> tuple[tuple[str, str], ...]:
    """(name, value) of what the actions do, values of one name together."""
    out: dict[str, dict[str, None]] = {}
    for action in actions:
        for name, value in _parts(action):
            if value:
                out.setdefault(name, {})[value] = None
    return tuple((name, " ".join(values)) for name, values in out.items())


def _parts(action: FileAction) -> list[tuple[str, str]]:
    parts: list[tuple[str, str]] = []
    if isinstance(action, CopyAction):
        parts += [("source", action.src), ("destination", action.dest), ("exclude", " ".join(action.exclude))]
        parts += [("include", " ".join(action.include)), ("unpack", "yes" if action.attempt_unpack else "")]
        parts += [("mode", action.mode_text or ("" if action.mode is None else f"{action.mode:o}"))]
    elif isinstance(action, SymlinkAction):
        parts += [("source", action.old_path), ("destination", action.new_path)]
    else:
        parts += [("destination", action.path)]
    if isinstance(action, MkdirAction | MkfileAction):
        parts += [("mode", f"{action.mode:o}")]
    if isinstance(action, CopyAction | MkdirAction | MkfileAction | SymlinkAction):
        parts += [("owner", _owner(action.owner)), ("timestamp", "" if action.timestamp is None else str(action.timestamp))]
    return parts


def _owner(owner: Owner | None) -> str:
    if owner is None:
        return ""
    return ":".join("" if part is None else str(part) for part in (owner.user, owner.group)).rstrip(":")
