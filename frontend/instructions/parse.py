"""Nodes to typed instructions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from builder.text.chars import SPACE
from builder.text.quoting import quote
from builder.values import replace
from frontend import suggest
from frontend.errors import FrontendError, ParseError
from frontend.instructions import flags as fl
from frontend.instructions.health import parse_health
from frontend.instructions.linted import LINTED, lint_after, lint_before
from frontend.instructions.mount import mount_from, parse_device
from frontend.instructions.types import (
    AddCommand,
    ArgCommand,
    CmdCommand,
    Command,
    CopyCommand,
    EntrypointCommand,
    EnvCommand,
    ExposeCommand,
    HealthCheckCommand,
    KeyValuePair,
    KeyValuePairOptional,
    LabelCommand,
    Location,
    MaintainerCommand,
    NetworkMode,
    OnbuildCommand,
    RunCommand,
    SecurityMode,
    ShellCommand,
    ShellInlineFile,
    SourceContent,
    Stage,
    StopSignalCommand,
    UserCommand,
    VolumeCommand,
    WorkdirCommand,
)
from frontend.lint.linter import Linter
from frontend.parser.heredoc import chomp, maybe_heredoc
from frontend.parser.node import Node
from frontend.parser.words import INSTRUCTIONS

_NETWORKS: dict[str, NetworkMode] = {"default": "default", "none": "none", "host": "host"}
_SECURITIES: dict[str, SecurityMode] = {"sandbox": "sandbox", "insecure": "insecure"}

_NO_FLAGS: dict[str, fl.FlagType] = {}
_ADD_FLAGS: dict[str, fl.FlagType] = {
    "chown": "string", "chmod": "string", "link": "bool", "keep-git-dir": "bool", "checksum": "string",
    "unpack": "bool", "exclude": "strings",
}  # fmt: skip
_COPY_FLAGS: dict[str, fl.FlagType] = {
    "chown": "string", "from": "string", "chmod": "string", "link": "bool", "exclude": "strings", "parents": "bool",
}  # fmt: skip
_FROM_FLAGS: dict[str, fl.FlagType] = {"platform": "string"}
_RUN_FLAGS: dict[str, fl.FlagType] = {
    "mount": "strings", "network": "string", "security": "string", "device": "strings",
}  # fmt: skip


def parse_stages(nodes: Sequence[Node], lint: Linter | None = None) -> tuple[tuple[Stage, ...], tuple[ArgCommand, ...]]:
    """The stages of a file, and the ARGs in front of the first.

    Raises ``ParseError`` (``dockerfile parse error on line N: ...``).
    """
    stages: list[Stage] = []
    commands: list[Command] = []
    meta_args: list[ArgCommand] = []
    for node in nodes:
        try:
            parsed = parse_instruction(node, lint)
        except ParseError as e:
            text = f"dockerfile parse error on line {node.start_line}: {e}"
            raise ParseError(text, e.ranges, suggestion=e.suggestion) from None
        if isinstance(parsed, Stage):
            _close(stages, commands)
            stages.append(parsed)
        elif stages:
            commands.append(parsed)
        elif isinstance(parsed, ArgCommand):
            meta_args.append(parsed)
        else:
            raise ParseError("no build stage in current context", node.location)
    _close(stages, commands)
    return tuple(stages), tuple(meta_args)


def _close(stages: list[Stage], commands: list[Command]) -> None:
    if stages:
        stages[-1] = replace(stages[-1], commands=tuple(commands))
    commands.clear()


def parse_command(node: Node, lint: Linter | None = None) -> Command:
    """One command (a trigger of ONBUILD). Raises ``ParseError``, also for a FROM."""
    parsed = parse_instruction(node, lint)
    if isinstance(parsed, Stage):
        raise ParseError("FROM is not a command", node.location)
    return parsed


def parse_instruction(node: Node, lint: Linter | None = None) -> Command | Stage:
    """One instruction, checked. Lint findings that need no more than the node go to ``lint``. Raises ``ParseError``."""
    name = node.value.lower()
    try:
        parse = _PARSERS.get(name)
        if parse is None:
            raise suggest.parse_error(f"unknown instruction: {node.value}", node.value, INSTRUCTIONS, case_sensitive=False)
        if lint is not None and name in LINTED:
            lint_before(name, node, lint.for_comments(node.comments))
        parsed = parse(node)
        if lint is not None and name in LINTED:
            lint_after(parsed, node, lint.for_comments(node.comments))
        return parsed
    except FrontendError as e:
        raise e.at(node.location) from None


# ---------------------------------------------------------------- what several instructions share


def _head(node: Node) -> tuple[str, str, Location, tuple[str, ...]]:
    return node.value, node.original.strip(SPACE), node.location, node.comments


def _at_least_one(node: Node, name: str) -> tuple[str, ...]:
    if not node.args:
        raise ParseError(f"{name} requires at least one argument")
    return node.args


def _exactly_one(node: Node, name: str) -> str:
    if len(node.args) != 1:
        raise ParseError(f"{name} requires exactly one argument")
    return node.args[0]


def _no_flags(node: Node) -> None:
    fl.parse_flags(node.flags, _NO_FLAGS)


def _pairs(node: Node, name: str) -> tuple[KeyValuePair, ...]:
    args = _at_least_one(node, name)
    if "" in args[::3]:
        raise ParseError(f"{name} names can not be blank")
    triples = zip(args[::3], args[1::3], args[2::3], strict=True)
    return tuple(KeyValuePair(key, value, no_delim=not equals) for key, value, equals in triples)


def _doc_comment(comments: Sequence[str], name: str) -> str:
    if not name:
        return ""
    start = f"{name} "
    return next((line[len(start) :] for line in comments if line.startswith(start)), "")


def _cmdline(node: Node) -> tuple[str, ...]:
    if node.json or not node.args:
        return node.args
    return (" ".join(node.args),)


def _inline_files(node: Node) -> tuple[ShellInlineFile, ...]:
    return tuple(ShellInlineFile(heredoc.name, heredoc.content, heredoc.chomp) for heredoc in node.heredocs)


# ---------------------------------------------------------------- one function an instruction


def _from(node: Node) -> Stage:
    args = node.args
    name = ""
    if len(args) == 3 and args[1].casefold() == "as":
        name = args[2].lower()
        if not _is_stage_name(name):
            raise ParseError(f"invalid name for build stage: {quote(args[2])}, name can't start with a number or contain symbols")
    elif len(args) != 1:
        raise ParseError("FROM requires either one or three arguments")
    given = fl.parse_flags(node.flags, _FROM_FLAGS)
    return Stage(
        name=name,
        orig_cmd=node.value,
        base_name=args[0],
        platform=given.string("platform"),
        doc_comment=_doc_comment(node.comments, name),
        source_code=node.original.strip(SPACE),
        location=node.location,
        comments=node.comments,
    )


_LETTERS = "abcdefghijklmnopqrstuvwxyz"
_STAGE_CHARS = frozenset(_LETTERS + "0123456789-_.")


def _is_stage_name(name: str) -> bool:
    return name[:1] in tuple(_LETTERS) and _STAGE_CHARS.issuperset(name)


def _arg(node: Node) -> ArgCommand:
    args = []
    for word in _at_least_one(node, "ARG"):
        key, equals, value = word.partition("=")
        if equals and not key:
            raise ParseError("ARG names can not be blank")
        args.append(KeyValuePairOptional(key, value if equals else None, _doc_comment(node.comments, key)))
    return ArgCommand(*_head(node), args=tuple(args))


def _env(node: Node) -> EnvCommand:
    _no_flags(node)
    return EnvCommand(*_head(node), env=_pairs(node, "ENV"))


def _label(node: Node) -> LabelCommand:
    _no_flags(node)
    return LabelCommand(*_head(node), labels=_pairs(node, "LABEL"))


def _maintainer(node: Node) -> MaintainerCommand:
    maintainer = _exactly_one(node, "MAINTAINER")
    _no_flags(node)
    return MaintainerCommand(*_head(node), maintainer=maintainer)


_Shared = tuple[
    str, str, Location, tuple[str, ...], str, tuple[str, ...], tuple[SourceContent, ...], str, str, bool, tuple[str, ...]
]


def _sources(node: Node, name: str, given: fl.Flags) -> _Shared:
    """The fields of SourcesAndDest, in their order, behind those of every command."""
    *words, dest = node.args
    if maybe_heredoc(dest) is not None:
        raise ParseError(f"{name} cannot accept a heredoc as a destination")
    bodies = {heredoc.name: heredoc.content for heredoc in node.heredocs}
    paths: list[str] = []
    contents: list[SourceContent] = []
    for word in words:
        heredoc = maybe_heredoc(word)
        if heredoc is None:
            paths.append(word)
            continue
        body = bodies.get(heredoc.name, "")
        contents.append(SourceContent(heredoc.name, chomp(body) if heredoc.chomp else body, heredoc.expand))
    more = given.string("chown"), given.string("chmod"), given.boolean("link"), given.strings("exclude")
    return *_head(node), dest, tuple(paths), tuple(contents), *more


def _source_flags(node: Node, name: str, flags: dict[str, fl.FlagType]) -> fl.Flags:
    if len(node.args) < 2:
        raise ParseError(f"{name} requires at least two arguments, but only one was provided. Destination could not be determined")
    return fl.parse_flags(node.flags, flags)


def _add(node: Node) -> AddCommand:
    given = _source_flags(node, "ADD", _ADD_FLAGS)
    return AddCommand(
        *_sources(node, "ADD", given),
        keep_git_dir=given.optional_boolean("keep-git-dir"),
        checksum=given.string("checksum"),
        unpack=given.optional_boolean("unpack"),
    )


def _copy(node: Node) -> CopyCommand:
    given = _source_flags(node, "COPY", _COPY_FLAGS)
    return CopyCommand(*_sources(node, "COPY", given), from_=given.string("from"), parents=given.boolean("parents"))


def _run(node: Node) -> RunCommand:
    given = fl.parse_flags(node.flags, _RUN_FLAGS)
    devices = tuple(map(parse_device, given.strings("device")))
    mounts = tuple(map(mount_from, given.strings("mount")))
    network = given.string("network", "default")
    if network not in _NETWORKS:
        raise ParseError(f"invalid network mode {quote(network)}")
    security = given.string("security", "sandbox")
    if security not in _SECURITIES:
        raise ParseError(f"security {quote(security)} is not valid")
    return RunCommand(
        *_head(node),
        cmdline=_cmdline(node),
        files=_inline_files(node),
        prepend_shell=not node.json,
        flags_used=given.used,
        mount_flags=given.strings("mount"),
        mounts=mounts,
        network=_NETWORKS[network],
        security=_SECURITIES[security],
        devices=devices,
    )


def _cmd(node: Node) -> CmdCommand:
    _no_flags(node)
    return CmdCommand(*_head(node), cmdline=_cmdline(node), files=_inline_files(node), prepend_shell=not node.json)


def _entrypoint(node: Node) -> EntrypointCommand:
    _no_flags(node)
    cmdline = _cmdline(node) or None
    return EntrypointCommand(*_head(node), cmdline=cmdline, files=_inline_files(node), prepend_shell=not node.json)


def _expose(node: Node) -> ExposeCommand:
    ports = _at_least_one(node, "EXPOSE")
    _no_flags(node)
    return ExposeCommand(*_head(node), ports=tuple(sorted(ports)))


def _user(node: Node) -> UserCommand:
    user = _exactly_one(node, "USER")
    _no_flags(node)
    return UserCommand(*_head(node), user=user)


def _volume(node: Node) -> VolumeCommand:
    args = _at_least_one(node, "VOLUME")
    _no_flags(node)
    volumes = tuple(volume.strip(SPACE) for volume in args)
    if "" in volumes:
        raise ParseError("VOLUME specified can not be an empty string")
    return VolumeCommand(*_head(node), volumes=volumes)


def _workdir(node: Node) -> WorkdirCommand:
    path = _exactly_one(node, "WORKDIR")
    _no_flags(node)
    return WorkdirCommand(*_head(node), path=path)


def _stop_signal(node: Node) -> StopSignalCommand:
    return StopSignalCommand(*_head(node), signal=_exactly_one(node, "STOPSIGNAL"))


def _shell(node: Node) -> ShellCommand:
    _no_flags(node)
    words = _at_least_one(node, "SHELL")
    if not node.json:
        raise ParseError("SHELL requires the arguments to be in JSON form")
    return ShellCommand(*_head(node), shell=words)


def _health_check(node: Node) -> HealthCheckCommand:
    _at_least_one(node, "HEALTHCHECK")
    return HealthCheckCommand(*_head(node), health=parse_health(node))


def _onbuild(node: Node) -> OnbuildCommand:
    if node.child is None:
        raise ParseError("ONBUILD requires at least one argument")
    _no_flags(node)
    trigger = node.child.value.strip(SPACE).upper()
    if trigger == "ONBUILD":
        raise ParseError("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    if trigger in ("MAINTAINER", "FROM"):
        raise ParseError(f"{trigger} isn't allowed as an ONBUILD trigger")
    return OnbuildCommand(*_head(node), expression="".join(_trigger_text(node)))


def _trigger_text(node: Node) -> Iterator[str]:
    # The keyword ends at the first blank or at the end, else it would not have been ONBUILD.
    yield node.original.lstrip(SPACE)[len("ONBUILD") :].lstrip("\t\n\f\r ")
    for heredoc in node.heredocs:
        yield f"\n{heredoc.content}{heredoc.name}"


_PARSERS: dict[str, Callable[[Node], Command | Stage]] = {
    "add": _add,
    "arg": _arg,
    "cmd": _cmd,
    "copy": _copy,
    "entrypoint": _entrypoint,
    "env": _env,
    "expose": _expose,
    "from": _from,
    "healthcheck": _health_check,
    "label": _label,
    "maintainer": _maintainer,
    "onbuild": _onbuild,
    "run": _run,
    "shell": _shell,
    "stopsignal": _stop_signal,
    "user": _user,
    "volume": _volume,
    "workdir": _workdir,
}
