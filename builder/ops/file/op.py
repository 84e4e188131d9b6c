"""FileOp: changes of files without a container (BuildKit: solver/llbsolver/ops/file.go)."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from builder.errors import PybuildError, StepError
from builder.files.types import ChecksumOptions
from builder.graph.ops import NO_INPUT, CopyAction, File, FileAction, MkdirAction, MkfileAction, Owner, RmAction, SymlinkAction
from builder.graph.vertex import canonical_json, encode
from builder.oci.digest import Digest, digest_parts
from builder.ops.ahead import before_work
from builder.ops.file.explained import explained_parts
from builder.ops.llb_json import file_digest, list_digest, selector_of
from builder.ops.refs import checksum, recorded
from builder.solver.types import CacheMap, CacheMapDep, FileListing, OpContext
from builder.sources.local import read_view
from builder.text import paths
from builder.text.glob import BadPatternError, contains_wildcards
from builder.text.quoting import quote
from builder.values import dataclass, replace

if TYPE_CHECKING:
    from builder.cache.refs import ImmutableRef, MutableRef
    from builder.cache.types import Readable
    from builder.files.tree import Tree
    from builder.graph.vertex import Vertex
    from builder.ops.refs import Ref
    from builder.session import Session
    from builder.worker import Worker


@dataclass(frozen=True, slots=True)
class Selection:
    """A part of an input that an action reads: a path and how it is looked for."""

    path: str
    options: ChecksumOptions

    @property
    def plain(self) -> bool:
        o = self.options
        return not (o.wildcard or o.include or o.exclude or o.required_paths)


class FileOp:
    """See ``builder.solver.types.Op``."""

    def __init__(self, vertex: Vertex, worker: Worker, session: Session) -> None:
        assert isinstance(vertex.op, File)
        self.actions = vertex.op.actions
        self.count = len(vertex.inputs)
        self.worker = worker
        self.vertex, self.session = vertex, session
        self.name = vertex.meta.name
        self._check()

    def _check(self) -> None:
        end = self.count + len(self.actions)
        for i, action in enumerate(self.actions):
            for index in _inputs_of(action):
                if not NO_INPUT <= index < end or index >= self.count + i:
                    raise StepError(f"invalid input index {index} in file op, {end} provided")
        outputs = sorted(a.output for a in self.actions if a.output != NO_INPUT)
        if not outputs:
            raise StepError("no outputs specified in file op")
        if outputs != list(range(len(outputs))):
            raise StepError(f"duplicate or missing output index in file op: {outputs}")

    # ------------------------------------------------------------------------------------------ keys
    def cache_map(self, context: OpContext, index: int) -> tuple[CacheMap[Ref], bool]:
        """Of a copied path only the last name enters the digest: what lies under it is said by the selector, or by its checksum.

        An input that is written to counts as a whole, so it gets neither.
        """
        written = {a.input for a in self.actions}
        selections: dict[int, list[Selection]] = {}
        parts: list[bytes] = []
        counted: list[FileAction] = []
        for i, action in enumerate(self.actions):
            if isinstance(action, CopyAction) and 0 <= action.secondary < self.count:
                selections.setdefault(action.secondary, []).append(_selection(action))
                action = replace(action, src=paths.base(action.src))
            if _names_somebody(action):
                base = self._base_of(i)
                for file in ("/etc/passwd", "/etc/group"):
                    selections.setdefault(base, []).append(Selection(file, ChecksumOptions(follow_links=True)))
            parts.append(canonical_json(encode(action)))
            counted.append(action)
        deps = tuple(CacheMapDep() if i in written or i not in selections else _dep(selections[i]) for i in range(self.count))
        digest = file_digest(counted, [self._base_of(i) for i in range(len(counted))])
        return CacheMap(digest or digest_parts("file", *parts), deps, explained_parts(self.actions)), True

    def _base_of(self, index: int) -> int:
        """The input that an action's chain of results began with."""
        at = self.actions[index].input
        while at >= self.count:
            at = self.actions[at - self.count].input
        return at

    # ------------------------------------------------------------------------------------------ work
    def exec(self, context: OpContext, inputs: Sequence[Ref]) -> Sequence[Ref]:
        """One ref for each output. StepError with the cause; nothing is left behind then."""
        before_work(self.vertex, self.session)
        run = _Run(self, context, inputs)
        try:
            return run.outputs()
        finally:
            run.release()


class _Work:
    """A root that is being written to: a mutable ref, and its folder for as long as it is mounted."""

    def __init__(self, mutable: MutableRef) -> None:
        self._mutable = mutable
        self._stack = ExitStack()
        self.folder = ""

    def mount(self) -> str:
        if not self.folder:
            self.folder = self._stack.enter_context(self._mutable.mount())
        return self.folder

    def commit(self) -> ImmutableRef:
        self._stack.close()
        return self._mutable.commit()

    def release(self) -> None:
        self._stack.close()
        self._mutable.release()


class _Run:
    """One execution. A result that only one later action takes as its input is changed in place, others are committed."""

    def __init__(self, op: FileOp, context: OpContext, inputs: Sequence[Ref]) -> None:
        self._op = op
        self._context = context
        self._inputs = inputs
        self._committed: dict[int, ImmutableRef] = {}
        self._working: dict[int, _Work] = {}
        self._ids: dict[tuple[int, Owner], tuple[int, int]] = {}

    def outputs(self) -> list[Ref]:
        op = self._op
        wanted = {a.output: op.count + i for i, a in enumerate(op.actions) if a.output != NO_INPUT}
        for i in range(len(op.actions)):
            self._do(i)
        return [self._committed.pop(wanted[n]) for n in range(len(wanted))]

    def release(self) -> None:
        """Give back what is not an output."""
        for work in self._working.values():
            work.release()
        for ref in self._committed.values():
            ref.release()

    def _do(self, i: int) -> None:
        op, action = self._op, self._op.actions[i]
        index = op.count + i
        work = self._working.pop(action.input, None)
        if work is None:
            work = _Work(op.worker.cache.new(self._immutable(action.input), description=op.name))
        self._working[index] = work
        self._apply(i, action, work.mount())
        if self._must_commit(index, action):
            self._committed[index] = work.commit()
            del self._working[index]

    def _must_commit(self, index: int, action: FileAction) -> bool:
        users = [a for a in self._op.actions if index in _inputs_of(a)]
        if action.output != NO_INPUT or len(users) != 1:
            return True
        return users[0].input != index or (isinstance(users[0], CopyAction) and users[0].secondary == index)

    def _immutable(self, index: int) -> ImmutableRef | None:
        if index == NO_INPUT:
            return None
        return recorded(self._readable(index))

    def _readable(self, index: int) -> Ref:
        return self._inputs[index] if index < self._op.count else self._committed[index]

    def _apply(self, i: int, action: FileAction, folder: str) -> None:
        from builder.ops.file import actions
        from builder.ops.file.dest import Destination
        from builder.ops.file.errors import from_os
        from runtime.errors import RuntimeFault

        try:
            owner = self._owner(i, action)
            with Destination(folder) as root:
                if isinstance(action, CopyAction):
                    with self._source(action) as tree:
                        actions.copy(root, tree, action, owner)
                elif isinstance(action, MkdirAction):
                    actions.mkdir(root, action, owner)
                elif isinstance(action, MkfileAction):
                    actions.mkfile(root, action, owner)
                elif isinstance(action, SymlinkAction):
                    actions.symlink(root, action, owner)
                else:
                    actions.rm(root, action)
        except OSError as e:
            raise from_os(e, folder) from e
        except RuntimeFault as e:  # links without end
            raise StepError(str(e)) from e
        except ValueError as e:  # a malformed pattern, or a NUL in a name
            if isinstance(e, PybuildError) and not isinstance(e, BadPatternError):
                raise
            raise StepError(str(e)) from e

    @contextmanager
    def _source(self, action: CopyAction) -> Iterator[Tree]:
        if action.secondary != NO_INPUT:
            with read_view(self._readable(action.secondary)) as tree:
                yield tree
            return
        import tempfile

        from builder.files.tree import Tree

        with tempfile.TemporaryDirectory(dir=self._op.worker.layout.tmp) as folder, Tree(folder) as tree:
            yield tree

    def _owner(self, i: int, action: FileAction) -> tuple[int, int] | None:
        """Names are looked up in the root that the whole operation began with, not in what earlier actions made of it."""
        owner = None if isinstance(action, RmAction) else action.owner
        if owner is None:
            return None
        if not _names_somebody(action):
            user = owner.user if isinstance(owner.user, int) else 0
            return user, owner.group if isinstance(owner.group, int) else user
        base = self._op._base_of(i)
        if base == NO_INPUT:
            named = ":".join(str(x) for x in (owner.user, owner.group) if x is not None)
            raise StepError(f"can't look up the owner {quote(named)}: on scratch there is no /etc/passwd", hint="give numbers")
        key = (base, owner)
        if key not in self._ids:
            from runtime.user import lookup

            spec = f"{'' if owner.user is None else owner.user}:{'' if owner.group is None else owner.group}"
            with self._inputs[base].mount() as folder:
                self._ids[key] = lookup(folder, spec, self._warn)
        return self._ids[key]

    def _warn(self, text: str) -> None:
        from builder.progress.events import Warned

        self._context.progress(Warned(f"{self._op.name}: {text}"))


def _inputs_of(action: FileAction) -> tuple[int, ...]:
    return (action.input, action.secondary) if isinstance(action, CopyAction) else (action.input,)


def _names_somebody(action: FileAction) -> bool:
    owner = None if isinstance(action, RmAction) else action.owner
    return owner is not None and (isinstance(owner.user, str) or isinstance(owner.group, str))


# ------------------------------------------------------------------------------------------------ selectors
def _selection(action: CopyAction) -> Selection:
    return Selection(
        action.src,
        ChecksumOptions(
            follow_links=action.follow_symlink,
            wildcard=action.allow_wildcard and contains_wildcards(action.src),
            include=action.include,
            exclude=action.exclude,
            required_paths=action.required_paths,
        ),
    )


def _dep(selections: Sequence[Selection]) -> CacheMapDep[Ref]:
    selected = dedupe(selections)

    def listing(result: Ref, context: OpContext) -> FileListing:
        from builder.ops.listing import Listing

        return Listing([(paths.rooted(s.path), s.options) for s in selected])(result, context)

    return CacheMapDep(_selector(selections), _Content(selected), listing)


def _selector(selections: Sequence[Selection]) -> str:
    return selector_of(sorted((s.path for s in selections), reverse=True))


def dedupe(selections: Sequence[Selection]) -> tuple[Selection, ...]:
    """Sorted; plain paths below other plain ones say nothing more."""
    out = [s for s in selections if not s.plain]
    for follow in (False, True):
        paths = {s.path for s in selections if s.plain and s.options.follow_links is follow}
        kept = [p for p in paths if not any(p != other and p.startswith(other + "/") for other in paths)]
        out += [Selection(p, ChecksumOptions(follow_links=follow)) for p in kept]
    return tuple(sorted(set(out), key=lambda s: (s.path, encode_options(s.options))))


def encode_options(options: ChecksumOptions) -> bytes:
    return canonical_json(encode(options))


class _Content:
    """Checksum of the selected parts of a result, for the slow key."""

    def __init__(self, selections: tuple[Selection, ...]) -> None:
        self._selections = selections

    def __call__(self, result: Ref, context: OpContext) -> Digest:
        # The last comes first: where several paths are missing BuildKit names the last (the goroutine started last runs first).
        digests = {s: self._checksum(result, s, context) for s in self._selections[-1:] + self._selections[:-1]}
        return list_digest([digests[s] for s in self._selections])

    def _checksum(self, ref: Ref, selection: Selection, context: OpContext) -> Digest:
        path = paths.rooted(selection.path)
        try:
            return checksum(ref, path, selection.options, context)
        except FileNotFoundError as e:
            missing = e.filename if isinstance(e.filename, str) else path
            text = f"failed to calculate checksum of ref {ref.id}: {quote(missing)}: not found"
            raise StepError(text, hint=_hint(ref, missing)) from e
        except (OSError, ValueError) as e:
            reason = (e.strerror or str(e)).lower() if isinstance(e, OSError) else str(e)
            raise StepError(f"failed to calculate checksum of ref {ref.id}: {reason}") from e


def _hint(ref: Readable, path: str) -> str:
    """What the user may have meant: a file that .dockerignore leaves out, one with a similar name; or where a link leads."""
    try:
        with read_view(ref) as tree:
            if tree.filter is not None and _exists(tree.fd, path):
                return f'"{path}" is excluded by .dockerignore'
            _, link = tree.lookup(path, follow_last=False)
            if link is not None and link.is_link:
                return f'"{path}" is a link to "{tree.readlink(link)}", which is not there'
            folder = posixpath.dirname(path)
            _, node = tree.lookup(folder, follow_last=True)
            names: Iterable[str] = tree.children(node) if node is not None and node.is_dir else ()
            import difflib

            name = posixpath.basename(path)  # a link that leads nowhere is there, and missing
            near = difflib.get_close_matches(name, [n for n in names if n != name], 1, 0.6)
            return f'did you mean "{posixpath.join(folder, near[0])}"?' if near else ""
    except (OSError, PybuildError):
        return ""


def _exists(root_fd: int, path: str) -> bool:
    from runtime.linux.safepath import open_in_root

    try:
        os.close(open_in_root(root_fd, path, os.O_PATH | os.O_NOFOLLOW))
    except OSError:
        return False
    return True
