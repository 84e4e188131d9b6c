"""Typed instructions: what each holds, what expands, what is refused."""

from __future__ import annotations

import contextlib
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from frontend.errors import ParseError, Range
from frontend.instructions.expand import expand, expand_raw
from frontend.instructions.parse import parse_command, parse_instruction, parse_stages
from frontend.instructions.types import (
    AddCommand,
    ArgCommand,
    CmdCommand,
    Command,
    CopyCommand,
    Device,
    EntrypointCommand,
    EnvCommand,
    ExposeCommand,
    HealthCheckCommand,
    HealthConfig,
    KeyValuePair,
    KeyValuePairOptional,
    LabelCommand,
    MaintainerCommand,
    Mount,
    OnbuildCommand,
    RunCommand,
    ShellCommand,
    ShellInlineFile,
    SourceContent,
    Stage,
    StopSignalCommand,
    UserCommand,
    VolumeCommand,
    WorkdirCommand,
)
from frontend.instructions.values import csv_fields, parse_ram_in_bytes
from frontend.parser import parse


def command(text: str) -> Any:
    (node,) = parse(text).nodes
    return parse_command(node)


def stage(text: str) -> Stage:
    (node,) = parse(text).nodes
    parsed = parse_instruction(node)
    assert isinstance(parsed, Stage)
    return parsed


def mark(word: str) -> str:
    """An expander that shows where it was."""
    return f"<{word}>"


def mounted(value: str, **env: str) -> Mount:
    run = command(f"RUN --mount={value} x")
    expanded = expand(run, lambda word: env.get(word.removeprefix("$"), word))
    assert isinstance(expanded, RunCommand)
    (mount,) = expanded.mounts
    return mount


# ---------------------------------------------------------------- stages


def test_a_file_is_stages_with_their_commands_and_the_args_before() -> None:
    text = "ARG A=1 B\nFROM x AS one\nRUN a\nARG C\nFROM --platform=$P one\nRUN b\nRUN c\n"
    stages, meta_args = parse_stages(parse(text).nodes)
    assert [arg.args for arg in meta_args] == [(KeyValuePairOptional("A", "1"), KeyValuePairOptional("B"))]
    assert [(s.name, s.base_name, s.platform) for s in stages] == [("one", "x", ""), ("", "one", "$P")]
    assert [[str(c) for c in s.commands] for s in stages] == [["RUN a", "ARG C"], ["RUN b", "RUN c"]]


def test_stage_keeps_its_source() -> None:
    text = "# note\n# prod what it is\nfrom \\\n  a As Prod"
    assert stage(text) == Stage(
        name="prod",
        orig_cmd="from",
        base_name="a",
        platform="",
        doc_comment="what it is",
        source_code="from   a As Prod",
        location=(Range(3, 3), Range(4, 4)),
        comments=("note", "prod what it is"),
    )


def test_command_keeps_keyword_code_place_and_comments() -> None:
    run = command("# why\n rUn a \\\n  b ")
    assert (run.name, run.code, run.keyword) == ("rUn", "rUn a   b", "RUN")
    assert run.location == (Range(2, 2), Range(3, 3))
    assert run.comments == ("why",)


def test_a_trigger_is_no_stage() -> None:
    with pytest.raises(ParseError, match="FROM is not a command"):
        command("FROM a")


def test_error_has_the_place_of_the_instruction() -> None:
    with pytest.raises(ParseError) as caught:
        parse_stages(parse("FROM a\n\nRUNN \\\n b\n").nodes)
    assert caught.value.ranges == (Range(3, 3), Range(4, 4))
    assert caught.value.suggestion == "RUN"
    assert str(caught.value) == "dockerfile parse error on line 3: unknown instruction: RUNN (did you mean RUN?)"


# ---------------------------------------------------------------- fields


def test_arg() -> None:
    arg = command("# A first\n# B second one\nARG A=1=2 B C=")
    assert isinstance(arg, ArgCommand)
    assert arg.args == (
        KeyValuePairOptional("A", "1=2", "first"),
        KeyValuePairOptional("B", None, "second one"),
        KeyValuePairOptional("C", ""),
    )
    assert [arg_.value_string for arg_ in arg.args] == ["1=2", "", ""]


def test_env_and_label() -> None:
    env = command("ENV a=b 'c d'=\"e f\"")
    assert isinstance(env, EnvCommand)
    assert env.env == (KeyValuePair("a", "b"), KeyValuePair("'c d'", '"e f"'))
    label = command("LABEL a b  c")
    assert isinstance(label, LabelCommand)
    assert label.labels == (KeyValuePair("a", "b  c", no_delim=True),)


def test_copy_flags() -> None:
    copy = command("COPY --from=s --chown=u:g --chmod=u+x --link --parents --exclude=a --exclude=b x y /z/")
    assert isinstance(copy, CopyCommand)
    assert (copy.from_, copy.chown, copy.chmod, copy.link, copy.parents) == ("s", "u:g", "u+x", True, True)
    assert copy.exclude_patterns == ("a", "b")
    assert (copy.source_paths, copy.dest_path) == (("x", "y"), "/z/")


def test_copy_defaults() -> None:
    copy = command("COPY a b")
    assert (copy.from_, copy.chown, copy.chmod, copy.link, copy.parents, copy.exclude_patterns) == ("", "", "", False, False, ())


def test_add_flags_that_can_be_left_open() -> None:
    add = command("ADD --unpack=false --keep-git-dir --checksum=sha256:0 a b")
    assert isinstance(add, AddCommand)
    assert (add.unpack, add.keep_git_dir, add.checksum) == (False, True, "sha256:0")
    add = command("ADD a b")
    assert (add.unpack, add.keep_git_dir) == (None, None)


def test_copy_heredocs() -> None:
    copy = command("COPY <<a <<-'b' c /d\n$x\na\n\t\tt\n\tb\n")
    assert copy.source_paths == ("c",)
    assert copy.source_contents == (SourceContent("a", "$x\n", True), SourceContent("b", "t\n", False))


def test_run_forms() -> None:
    run = command("RUN a  b")
    assert (run.cmdline, run.prepend_shell) == (("a  b",), True)
    run = command('RUN ["a", "b c"]')
    assert (run.cmdline, run.prepend_shell) == (("a", "b c"), False)
    run = command("RUN <<-E cat\n\tx\nE\n")
    assert run.files == (ShellInlineFile("E", "\tx\n", chomp=True),)


def test_run_flags() -> None:
    run = command("RUN --network=host --security=insecure --device=v/c=d,required --mount=target=/x a")
    assert isinstance(run, RunCommand)
    assert (run.network, run.security) == ("host", "insecure")
    assert run.devices == (Device("v/c=d", True),)
    assert run.mount_flags == ("target=/x",)
    assert run.flags_used == ("network", "security", "device", "mount")
    run = command("RUN a")
    assert (run.network, run.security, run.devices, run.mounts) == ("default", "sandbox", (), ())


def test_cmd_and_entrypoint() -> None:
    assert isinstance(cmd := command("CMD a b"), CmdCommand)
    assert (cmd.cmdline, cmd.prepend_shell) == (("a b",), True)
    assert isinstance(entrypoint := command('ENTRYPOINT ["a"]'), EntrypointCommand)
    assert (entrypoint.cmdline, entrypoint.prepend_shell) == (("a",), False)
    assert command("ENTRYPOINT []").cmdline is None
    assert command("CMD []").cmdline == ()


def test_small_instructions() -> None:
    found: list[tuple[type[Command], str, str, object]] = [
        (ExposeCommand, "EXPOSE 9 80/udp 7", "ports", ("7", "80/udp", "9")),
        (UserCommand, "USER a b", "user", "a b"),
        (VolumeCommand, 'VOLUME [" /a ", "/b c"]', "volumes", ("/a", "/b c")),
        (WorkdirCommand, "WORKDIR /a b", "path", "/a b"),
        (StopSignalCommand, "STOPSIGNAL 9", "signal", "9"),
        (ShellCommand, 'SHELL ["a", "-c"]', "shell", ("a", "-c")),
        (MaintainerCommand, "MAINTAINER a <b>", "maintainer", "a <b>"),
    ]
    for kind, text, field, value in found:
        parsed = command(text)
        assert type(parsed) is kind
        assert getattr(parsed, field) == value


def test_health_check() -> None:
    check = command("HEALTHCHECK --interval=1m --timeout=1.5s --start-period=0s --start-interval=1ms --retries=3 CMD a b")
    assert isinstance(check, HealthCheckCommand)
    assert check.health == HealthConfig(("CMD-SHELL", "a b"), 60 * 10**9, 1500 * 10**6, 0, 10**6, 3)
    assert command('healthcheck cmd ["a", "b"]').health == HealthConfig(("CMD", "a", "b"))
    assert command("HEALTHCHECK none").health == HealthConfig(("NONE",))


@pytest.mark.parametrize(
    ("text", "expression"),
    [
        ("ONBUILD RUN a", "RUN a"),
        ("onBuild \t copy <<a /b\nx\na\n", "copy <<a /b\nx\na"),
        ("ONBUILD RUN a \\\n  b", "RUN a   b"),
    ],
)
def test_onbuild_keeps_the_text_of_its_trigger(text: str, expression: str) -> None:
    onbuild = command(text)
    assert isinstance(onbuild, OnbuildCommand)
    assert onbuild.expression == expression
    assert len(parse(onbuild.expression).nodes) == 1


# ---------------------------------------------------------------- expansion


@pytest.mark.parametrize(
    ("text", "fields"),
    [
        ("ENV a=b c=d", {"env": (KeyValuePair("<a>", "<b>"), KeyValuePair("<c>", "<d>"))}),
        ("LABEL a b", {"labels": (KeyValuePair("<a>", "<b>", no_delim=True),)}),
        (
            "ADD --chown=a --chmod=b --checksum=c --exclude=d e f",
            {
                "chown": "<a>", "chmod": "<b>", "checksum": "<c>", "exclude_patterns": ("d",),
                "source_paths": ("<e>",), "dest_path": "<f>",
            },
        ),
        (
            "COPY --from=a --chown=b c d",
            {"from_": "a", "chown": "<b>", "chmod": "<>", "source_paths": ("<c>",), "dest_path": "<d>"},
        ),
        ("WORKDIR a b", {"path": "<a b>"}),
        ("USER a", {"user": "<a>"}),
        ("VOLUME a b", {"volumes": ("<a>", "<b>")}),
        ("STOPSIGNAL a", {"signal": "<a>"}),
        ("ARG a=b c", {"args": (KeyValuePairOptional("<a>", "<b>"), KeyValuePairOptional("<c>", None))}),
    ],
)
def test_fields_that_expand(text: str, fields: dict[str, object]) -> None:
    expanded = expand(command(text), mark)
    assert {name: getattr(expanded, name) for name in fields} == fields


@pytest.mark.parametrize(
    "text",
    ["RUN $a", "CMD $a", "ENTRYPOINT $a", "EXPOSE $a", "HEALTHCHECK CMD $a", "ONBUILD USER $a", 'SHELL ["$a"]'],
)
def test_instructions_without_expansion(text: str) -> None:
    assert expand(command(text), mark) == command(text)


def test_labels_of_the_builder_do_not_expand() -> None:
    label = LabelCommand("label", "", (), (), (KeyValuePair("a", "$b"),), no_expand=True)
    assert expand(label, mark) is label


def test_heredocs_expand_raw_unless_quoted() -> None:
    copy = command("COPY <<a <<'b' /d\nx\na\ny\nb\n")
    assert expand(copy, mark).source_contents == copy.source_contents
    assert [content.data for content in expand_raw(copy, mark).source_contents] == ["<x\n>", "y\n"]


def test_error_of_the_expander_gets_the_place() -> None:
    def fail(word: str) -> str:
        raise ParseError("no")

    (node,) = parse("\n\nUSER a").nodes
    with pytest.raises(ParseError) as caught:
        expand(parse_command(node), fail)
    assert caught.value.ranges == (Range(3, 3),)


# ---------------------------------------------------------------- mounts and devices


@pytest.mark.parametrize(
    ("value", "mount"),
    [
        ("target=/x", Mount(read_only=True, target="/x")),
        ("type=bind,from=s,src=/a,dst=/x,rw", Mount(from_="s", source="/a", target="/x")),
        ("TYPE=Cache,id=i,destination=/x,sharing=LOCKED,mode=0750,uid=1,gid=2",
         Mount("cache", target="/x", cache_id="i", cache_sharing="locked", mode=0o750, uid=1, gid=2)),
        ("type=cache,target=/x,ro", Mount("cache", target="/x", read_only=True)),
        ("type=cache,target=/x,readwrite=false", Mount("cache", target="/x", read_only=True)),
        ("type=tmpfs,target=/x,size=64m", Mount("tmpfs", target="/x", size_limit=64 * 2**20)),
        ("type=secret,id=s,env=E,required", Mount("secret", read_only=True, cache_id="s", env="E", required=True)),
        ("type=secret,id=s,env=", Mount("secret", read_only=True, cache_id="s", env="")),
        ("type=ssh,required=true,mode=600", Mount("ssh", read_only=True, required=True, mode=0o600)),
        ("type=bind,target=/x,readonly=0", Mount(target="/x")),
        ("'type=bind,\"target=/a,b\"'", Mount(read_only=True, target="/a,b")),
    ],
)  # fmt: skip
def test_mount(value: str, mount: Mount) -> None:
    assert mounted(value) == mount


def test_values_of_a_mount_expand_one_by_one() -> None:
    assert mounted("type=$t,target=$x", t="cache", x="/a,ro") == Mount("cache", target="/a,ro")


def test_before_expansion_a_mount_tells_from_alone() -> None:
    assert command("RUN --mount=type=$t,from=s,target=$x a").mounts == (Mount(read_only=True, from_="s"),)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("type=bnd", 'unsupported mount type "bnd" (did you mean bind?)'),
        ("type=volume", 'unsupported mount type "volume"'),
        ("x", "invalid field 'x' must be a key=value pair"),
        ("form=a", "unexpected key 'form' in 'form=a' (did you mean from?)"),
        ("ro=maybe", "invalid value for ro: maybe"),
        ("required", "unexpected key 'required' for mount type 'bind'"),
        ("type=cache,required=true", "unexpected key 'required' for mount type 'cache'"),
        ("type=secret,required=x", "invalid value for required: x"),
        ("size=1", "unexpected key 'size' for mount type 'bind'"),
        ("type=tmpfs,size=1x", "invalid value for size: 1x"),
        ("type=cache,sharing=share", 'unsupported sharing value "share" (did you mean shared?)'),
        ("sharing=shared", "invalid cache sharing set for bind mount"),
        ("mode=1", 'mode not allowed for "bind" type mounts'),
        ("type=tmpfs,uid=1", 'uid not allowed for "tmpfs" type mounts'),
        ("type=cache,mode=8", "invalid value 8 for mode"),
        ("type=cache,uid=-1", "invalid value -1 for uid"),
        ("type=cache,gid=4294967296", "invalid value 4294967296 for gid"),
        ("type=secret", "invalid secret mount. one of source, target required"),
        ("type=secret,id=a,from=b", "secret mount should not have a from"),
        ("type=secret,id=a,sharing=locked", "secret mount should not define sharing"),
        ("type=secret,id=a,source=b", "both source and id can't be set"),
    ],
)
def test_mount_refused(value: str, error: str) -> None:
    with pytest.raises(ParseError) as caught:
        mounted(value)
    assert str(caught.value) == error


@pytest.mark.parametrize(
    ("value", "device"),
    [
        ("v/c=d", Device("v/c=d")),
        ("v/c", Device("v/c")),
        ("name=v/c=d,required=true", Device("v/c=d", True)),
        ("required,v/c=d", Device("v/c=d", True)),
    ],
)
def test_device(value: str, device: Device) -> None:
    assert command(f"RUN --device={value} x").devices == (device,)


@pytest.mark.parametrize(
    ("value", "error"),
    [
        ("a,b", "invalid field 'b' must be a key=value pair"),
        ("a,name=b", "device name already set to a"),
        ("a,nam=b", "unexpected key 'nam' in 'nam=b' (did you mean name?)"),
        ("a,required=x", "invalid value for required: x"),
    ],
)
def test_device_refused(value: str, error: str) -> None:
    with pytest.raises(ParseError) as caught:
        command(f"RUN --device={value} x")
    assert str(caught.value) == error


# ---------------------------------------------------------------- values


@pytest.mark.parametrize(
    ("text", "size"), [("5", 5), ("5b", 5), ("1k", 1024), ("1.5 KiB", 1536), ("2mb", 2**21), ("1G", 2**30), ("0", 0), ("1e3", 1000)]
)
def test_size(text: str, size: int) -> None:
    assert parse_ram_in_bytes(text) == size


@pytest.mark.parametrize("text", ["", "k", "-1", "1x", "1kk", "1kib2", "1 2", "1_0", "١", "nan", "9999999p"])
def test_size_refused(text: str) -> None:
    with pytest.raises(ParseError):
        parse_ram_in_bytes(text)


@pytest.mark.parametrize(
    ("line", "fields"), [("a,b", ["a", "b"]), ("a,", ["a", ""]), ('"a,""b""",c', ['a,"b"', "c"]), ('""', [""]), ("a\r\n", ["a"])]
)
def test_csv(line: str, fields: list[str]) -> None:
    assert csv_fields(line) == fields


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("", "EOF"),
        ('a"b', 'parse error on line 1, column 2: bare " in non-quoted field'),
        ('"a', 'parse error on line 1, column 2: extraneous or missing " in quoted-field'),
        ('"a"b', 'parse error on line 1, column 3: extraneous or missing " in quoted-field'),
    ],
)
def test_csv_refused(line: str, error: str) -> None:
    with pytest.raises(ParseError) as caught:
        csv_fields(line)
    assert str(caught.value) == error


@given(st.text(alphabet="0123456789.-+ hmsuµnskbKiBe_", max_size=12))
def test_any_value_is_read_or_refused(text: str) -> None:
    with contextlib.suppress(ParseError):
        assert isinstance(parse_ram_in_bytes(text), int)


@given(st.lists(st.text(alphabet='a,"\n é', max_size=6), min_size=1, max_size=4))
def test_csv_reads_what_is_quoted(fields: list[str]) -> None:
    line = ",".join('"' + field.replace('"', '""') + '"' for field in fields)
    assert csv_fields(line) == fields
