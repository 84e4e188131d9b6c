"""What a stage's conversion notes for the outline: arguments, secrets, ssh agents."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.values import dataclass, field

if TYPE_CHECKING:
    from frontend.convert.args import ArgInfo
    from frontend.errors import Range


@dataclass(frozen=True, slots=True)
class MountInfo:
    """A secret or ssh agent that a command asks for."""

    required: bool
    location: tuple[Range, ...]


@dataclass(slots=True)
class OutlineCapture:
    """``used_args`` are the names that matter to the stage, of those in ``all_args``."""

    all_args: dict[str, ArgInfo] = field(default_factory=dict)
    used_args: set[str] = field(default_factory=set)
    secrets: dict[str, MountInfo] = field(default_factory=dict)
    ssh: dict[str, MountInfo] = field(default_factory=dict)

    def clone(self) -> OutlineCapture:
        return OutlineCapture(dict(self.all_args), set(self.used_args), dict(self.secrets), dict(self.ssh))

    def with_dependencies(self) -> set[str]:
        """Names of used arguments and of those they are made from."""
        found: set[str] = set()
        todo = list(self.used_args)
        while todo:
            name = todo.pop()
            if name not in found:
                found.add(name)
                todo += self.all_args[name].deps if name in self.all_args else ()
        return found
