"""What the solver asks of operations and results. It knows nothing of containers, files or images (BuildKit: solver/types.go)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Generic, Protocol, TypeVar

from builder.errors import PybuildError, StepError
from builder.graph.vertex import Vertex
from builder.oci.digest import Digest
from builder.progress.events import Event, Sink
from builder.state.cancel import Token
from builder.values import dataclass, field


class Result(Protocol):
    """An output of an op: in a build a ref (``builder.cache``), in the solver's tests anything. Release what you were given."""

    @property
    def id(self) -> str: ...
    def clone(self) -> Result: ...
    def release(self) -> None: ...


R = TypeVar("R", bound=Result)
"""What the results of one solver are: refs in a build, counters in a test."""
R_contra = TypeVar("R_contra", bound=Result, contravariant=True)


class RefusedStepError(StepError):
    """``vertex`` could not be executed here. What it builds on raises that, before work is done for nothing."""

    def __init__(self, vertex: Vertex, message: str, *, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.vertex = vertex


class UnknownContentError(PybuildError):
    """Content that a plan can't look at: it would have to be mounted, unpacked or fetched."""


@dataclass(frozen=True, slots=True)
class FileListing:
    """Files of an input: (name, digest), sorted by name; not ``complete``: the first ones of more."""

    files: tuple[tuple[str, str], ...] = ()
    complete: bool = True


@dataclass(frozen=True, slots=True)
class CacheMapDep(Generic[R_contra]):
    """How one input enters the key.

    ``selector`` names the part of the input that matters (definition-based). ``content`` computes the checksum of that part of a
    solved input: the slow key, which hits when the input was rebuilt with the same content. ``listing`` names the files that
    ``content`` covers; it is asked only when the op is (or would be) executed, and only read by explanations of a later miss.

    While a plan is made (``OpContext.planning``) both raise UnknownContentError where it takes more than a look.
    """

    selector: str = ""
    content: Callable[[R_contra, OpContext], Digest] | None = None
    listing: Callable[[R_contra, OpContext], FileListing] | None = None


@dataclass(frozen=True, slots=True)
class CacheMap(Generic[R_contra]):
    """What an op says of its caching: ``digest`` of everything but its inputs, and one ``dep`` for each input.

    ``parts`` are the named pieces that went into ``digest`` (name, value), for explanations of a miss; never secrets.
    ``ephemeral``: the digest holds for this build alone (a local folder, where only content counts): nothing is stored under it,
    and ``exec`` is cheap and without effect, so that ``Solver.plan`` may call it. A digest that starts with ``random:`` is
    ephemeral too.
    """

    digest: Digest
    deps: tuple[CacheMapDep[R_contra], ...] = ()
    parts: tuple[tuple[str, str], ...] = ()
    ephemeral: bool = False


@dataclass(frozen=True, slots=True)
class OpContext:
    """What an op may use while it works. ``cancelled`` is set when the result is not wanted any more: stop at once. It is the
    current token (builder.state.cancel) of the thread that the op is called on.

    ``planning``: nothing will be executed. Nothing may be mounted, unpacked or fetched to answer.
    """

    vertex: Vertex
    cancelled: Token = field(default_factory=Token)
    progress: Sink = field(default=lambda _: None)
    planning: bool = False

    def emit(self, event: Event) -> None:
        self.progress(event)


class Op(Protocol[R]):
    """The behaviour behind a vertex, whose inputs and outputs are results of type ``R``."""

    def cache_map(self, context: OpContext, index: int) -> tuple[CacheMap[R], bool]:
        """The ``index``-th cache map, from 0, and whether it was the last. More than one means alternative keys (an image has
        one by its manifest and one by its chainID); only an op without inputs may have more than one.

        An op without inputs is asked on a thread of its own and may use the network. One with inputs is asked in the solver's
        loop: it must answer from its definition, at once.
        """
        ...

    def exec(self, context: OpContext, inputs: Sequence[R]) -> Sequence[R]:
        """Do it, on a thread of its own. One result for each output. The inputs stay the caller's.

        When ``context.cancelled`` is set, stop and raise (CancelledError, best): nothing may go on after the return.
        """
        ...


class ResultStore(Protocol[R]):
    """Keeps results between builds: in a build the cache manager. Called from several threads."""

    def save(self, result: R) -> str:
        """Make the result findable after this process; gives its persistent id."""
        ...

    def load(self, result_id: str) -> R | None:
        """The result, or None if it is gone. Cheap: nothing is unpacked or fetched."""
        ...

    def exists(self, result_id: str) -> bool:
        """As ``load``, cheaper: nothing is taken hold of."""
        ...
