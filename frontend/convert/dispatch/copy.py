"""COPY and ADD."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.graph.ops import NO_INPUT, CopyAction, Merge
from builder.graph.vertex import Edge, Vertex, VertexMeta
from builder.text.paths import clean, join
from builder.text.quoting import quote
from builder.text.redact import redact_source
from builder.values import replace
from frontend.convert import lintrules, names
from frontend.convert.owner import parse_mode, parse_owner
from frontend.convert.paths import destination, normalize, unix_form
from frontend.convert.remote import git_ref, http_source, is_http_source, is_remote
from frontend.convert.state import SourcedCopy, copy_edge, inline_file_edge, locations
from frontend.errors import ConvertError
from frontend.instructions.types import AddCommand, CopyCommand

if TYPE_CHECKING:
    from builder.graph.gitref import GitRef
    from frontend.convert.context import ConvertContext
    from frontend.convert.stage import StageState
    from frontend.instructions.types import SourcesAndDest

_WILDCARDS = frozenset("*?[")


def dispatch_copy(
    stage: StageState, command: CopyCommand, sources: tuple[StageState, ...], context: ConvertContext
) -> None:
    """COPY, from the main context or the stage or image in ``sources``."""
    if sources and not sources[0].dispatched:
        where = f"stage {quote(command.from_)}, it needs to be defined before current stage {quote(stage.name)}"
        raise ConvertError(f"cannot copy from {where}")
    for path in command.source_paths:
        if git_ref(path) is not None:
            raise ConvertError("source can't be a git ref for COPY")
        if is_http_source(path):
            raise ConvertError("source can't be a URL for COPY")
    root = sources[0].state.edge if sources else context.main
    base = _base_action(stage, command)
    name = names.step_name(stage, _text(stage, command, context), stage.platform, stage.state.env)
    copies = []
    for path in command.source_paths:
        if not sources:
            lintrules.ignored_source("Copy", path, context.ignore, command.location, context.lint)
        copies.append(SourcedCopy(root, _local_action(base, _unix(stage, path), parents=command.parents, unpack=False)))
    _finish(stage, command, copies, base, name, context)


def dispatch_add(stage: StageState, command: AddCommand, context: ConvertContext) -> None:
    """ADD: as COPY from the main context with archives unpacked, or a fetched file, or a git repository."""
    _check_checksum(command)
    base = _base_action(stage, command)
    text = _masked(_text(stage, command, context), command)
    name = names.step_name(stage, text, stage.platform, stage.state.env)
    fetched = VertexMeta(name=name, locations=locations(command.location))
    copies = []
    for path in command.source_paths:
        repository = git_ref(path)
        if repository is not None:
            copies.append(_git_copy(base, repository, command, fetched))
        elif is_http_source(path):
            copies.append(_http_copy(base, path, command, fetched))
        else:
            lintrules.ignored_source("Add", path, context.ignore, command.location, context.lint)
            unpack = True if command.unpack is None else command.unpack
            copies.append(SourcedCopy(context.main, _local_action(base, _unix(stage, path), parents=False, unpack=unpack)))
    _finish(stage, command, copies, base, name, context)


def _check_checksum(command: AddCommand) -> None:
    if not command.checksum:
        return
    if len(command.source_paths) != 1:
        raise ConvertError("checksum can't be specified for multiple sources")
    if not is_remote(command.source_paths[0]):
        raise ConvertError("checksum requires HTTP(S) or Git sources")


def _base_action(stage: StageState, command: SourcesAndDest) -> CopyAction:
    """What all copies of the instruction have in common; indexes and source are set later."""
    mode, mode_text = parse_mode(command.chmod) if command.chmod else (None, "")
    return CopyAction(
        NO_INPUT,
        NO_INPUT,
        NO_INPUT,
        "/",
        destination(stage.state.dir, _unix(stage, command.dest_path)),
        owner=parse_owner(command.chown) if command.chown else None,
        mode=mode,
        mode_text=mode_text,
        create_dest_path=True,
        exclude=command.exclude_patterns,
    )


def _unix(stage: StageState, path: str) -> str:
    try:
        return unix_form(path, stage.platform.os if stage.platform is not None else "")
    except ValueError as e:
        raise ConvertError(f"removing drive letter: {e}") from None


def _local_action(base: CopyAction, path: str, *, parents: bool, unpack: bool) -> CopyAction:
    include: tuple[str, ...] = ()
    required: tuple[str, ...] = ()
    if parents:
        # What is left of the pivot /./ is where to start, what is right of it is kept below the destination.
        start, pivot, pattern = path.partition("/./")
        if not pivot:
            start, pattern = "/", path
        pattern = normalize("/", pattern, keep_slash=False)
        include = (pattern.removeprefix("/"),)
        if not _has_wildcards(start) and not _has_wildcards(pattern):
            required = (normalize("/", join(start, pattern), keep_slash=False),)
        path = start
    return replace(
        base,
        src=join("/", clean(normalize("/", path, keep_slash=False))),
        follow_symlink=True,
        dir_copy_contents=True,
        attempt_unpack=unpack,
        allow_wildcard=True,
        allow_empty_wildcard=True,
        include=include,
        required_paths=required,
    )


def _git_copy(base: CopyAction, ref: GitRef, command: AddCommand, meta: VertexMeta) -> SourcedCopy:
    if command.keep_git_dir is not None and ref.keep_git_dir not in (None, command.keep_git_dir):
        raise ConvertError("inconsistent keep-git-dir configuration")
    if command.checksum and ref.checksum and command.checksum != ref.checksum:
        raise ConvertError(f"checksum mismatch {quote(command.checksum)} != {quote(ref.checksum)}")
    source = ref.source(keep_git_dir=bool(command.keep_git_dir), checksum=command.checksum)
    # ?mtime=commit is for contexts; ADD does not look at it, as in BuildKit.
    return SourcedCopy(Edge(Vertex(replace(source, mtime_commit=False), meta=meta)), base)


def _http_copy(base: CopyAction, url: str, command: AddCommand, meta: VertexMeta) -> SourcedCopy:
    source = http_source(url, command.checksum)
    action = replace(base, src="/" + source.filename, attempt_unpack=bool(command.unpack))
    return SourcedCopy(Edge(Vertex(source, meta=meta)), action)


def _finish(
    stage: StageState,
    command: SourcesAndDest,
    copies: list[SourcedCopy],
    base: CopyAction,
    name: str,
    context: ConvertContext,
) -> None:
    """Add the heredocs, make the vertices, write the history."""
    for content in command.source_contents:
        path = join("/", _unix(stage, content.path))
        copies.append(SourcedCopy(inline_file_edge(path, content.data, 0o644), replace(base, src=path)))
    text = _masked(_created_by(command), command)
    meta = VertexMeta(
        name=name,
        locations=locations(command.location),
        ignore_cache=stage.ignore_cache,
        stage=stage.stage.name,
        instruction=text,
    )
    # BuildKit copies on the parent when there is a --chmod: so do we, layers are to be the same.
    if command.link and not command.chmod:
        edge = _linked(stage, command, copies, context, meta)
    else:
        edge = copy_edge(stage.state.edge, copies, meta)
    stage.state = stage.state.on(edge)
    stage.commit(f"{text} # buildkit", layer=True)


def _linked(
    stage: StageState, command: SourcesAndDest, copies: list[SourcedCopy], context: ConvertContext, meta: VertexMeta
) -> Edge:
    """A layer that knows nothing of what is below it, laid over what is."""
    layer = copy_edge(None, copies, meta)
    if stage.state.edge is None:
        return layer
    text = _masked(_text(stage, command, context), command)
    name = names.numbered(stage, "LINK " + text, stage.platform, stage.state.env)
    return Edge(Vertex(Merge(), (stage.state.edge, layer), meta=replace(meta, name=name)))


def _text(stage: StageState, command: SourcesAndDest, context: ConvertContext) -> str:
    return names.uppercase_keyword(names.expanded(str(command), context.lex, stage.state.env))


def _masked(text: str, command: SourcesAndDest) -> str:
    """Without the credentials of sources, also where they hold what ends a URL in a text: quotes, angle brackets."""
    for path in command.source_paths:
        text = text.replace(path, redact_source(path)) if is_remote(path) else text
    return text


def _created_by(command: SourcesAndDest) -> str:
    words = [command.keyword]
    if isinstance(command, CopyCommand) and command.parents:
        words.append("--parents")
    if command.chown:
        words.append(f"--chown={command.chown}")
    if command.chmod:
        words.append(f"--chmod={command.chmod}")
    words += command.source_paths
    words += [f"<<{content.path}" for content in command.source_contents]
    return " ".join([*words, command.dest_path])


def _has_wildcards(path: str) -> bool:
    escaped = False
    for char in path:
        if not escaped and char in _WILDCARDS:
            return True
        escaped = char == "\\" and not escaped
    return False
