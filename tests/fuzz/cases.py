"""A case of the fuzzer: a Dockerfile in pieces, its contexts and its flags; and a scenario, which is a case and its changes."""

from __future__ import annotations

from builder.values import dataclass, field, replace
from tests.fuzz import trees
from tests.fuzz.trees import Tree


@dataclass(frozen=True)
class Stage:
    """``instructions`` are whole ones, heredocs with all their lines."""

    name: str
    base: str
    instructions: tuple[str, ...] = ()

    def text(self) -> str:
        return "\n".join([f"FROM {self.base} AS {self.name}", *self.instructions])


@dataclass(frozen=True)
class Case:
    """``head`` comes before the first stage. ``ignore`` None is no .dockerignore. ``named`` is the context called nctx.

    ``inside``: the Dockerfile lies in the context; else beside it.
    """

    seed: int
    head: tuple[str, ...] = ()
    stages: tuple[Stage, ...] = ()
    context: Tree = field(default_factory=dict)
    ignore: tuple[str, ...] | None = None
    named: Tree = field(default_factory=dict)
    args: tuple[tuple[str, str], ...] = ()
    inside: bool = False

    def dockerfile(self) -> str:
        return "\n".join([*self.head, *(s.text() for s in self.stages)]) + "\n"

    def tree(self) -> dict[str, trees.Node]:
        """The context with the files that builders themselves read."""
        out = dict(self.context)
        if self.ignore is not None:
            out[".dockerignore"] = trees.mtime_of(trees.Node("file", data="".join(f"{line}\n" for line in self.ignore).encode()))
        if self.inside:
            out["Dockerfile"] = trees.mtime_of(trees.Node("file", data=self.dockerfile().encode()))
        return out

    def show(self) -> str:
        """All of it, for people."""
        parts = [f"--- Dockerfile{'' if self.inside else ' (outside of the context)'}", self.dockerfile().rstrip()]
        if self.args:
            parts.append("--- " + " ".join(f"--build-arg {k}={v}" for k, v in self.args))
        if self.ignore is not None:
            parts += ["--- .dockerignore", *self.ignore]
        parts += ["--- context", trees.show(self.context)]
        if self.named:
            parts += ["--- context nctx", trees.show(self.named)]
        return "\n".join(parts)


@dataclass(frozen=True)
class Change:
    """A case as it is after a change. ``in_place``: files keep their inodes. ``cached``: no step may run because of it."""

    name: str
    case: Case
    in_place: bool = True
    cached: bool = False


@dataclass(frozen=True)
class Scenario:
    """What is built first, and what is built after it with the same state folder, in order."""

    first: Case
    changes: tuple[Change, ...] = ()


def with_stages(case: Case, stages: tuple[Stage, ...]) -> Case:
    return replace(case, stages=stages)
