"""What runtimes say becomes what BuildKit's users know; a command's own output is never taken for it."""

from __future__ import annotations

import json

import pytest

from runtime.complaints import Complaint, Listener, explain

RUNC = "runc run failed: unable to start container process: "


def crun(text: str) -> str:
    return json.dumps({"msg": text, "level": "error", "time": "2026-08-01T10:00:00.123456Z"})


def told(runtime: str, text: str, command: str = "tool", cwd: str = "/w/x") -> Complaint | None:
    return explain(runtime, text, command=command, cwd=cwd, inside=("/mnt", "/root/state/tmp/mounts-1/7"))


@pytest.mark.parametrize(
    ("runtime", "text", "said"),
    [
        ("runc", RUNC + 'exec: "tool": executable file not found in $PATH', 'exec: "tool": executable file not found in $PATH'),
        (
            "runc",
            RUNC + 'error during container init: exec: "/t": stat /t: no such file or directory',
            'exec: "/t": stat /t: no such file or directory',
        ),
        ("runc", RUNC + "error during container init: mkdir /w: read-only file system", "mkdir /w: read-only file system"),
        (
            "runc",
            RUNC + 'error during container init: chdir to cwd ("/w/x") set in config.json failed: permission denied',
            'chdir to cwd ("/w/x") failed: permission denied',
        ),
        (
            "crun",
            crun("executable file `tool` not found in $PATH: No such file or directory"),
            'exec: "tool": executable file not found in $PATH',
        ),
        (
            "crun",
            crun("executable file `/t` not found in $PATH: No such file or directory"),
            'exec: "/t": stat /t: no such file or directory',
        ),
        ("crun", crun("open executable: Permission denied"), 'exec: "tool": executable file not found in $PATH'),
        (
            "crun",
            crun("exec container process (missing dynamic library?) `/t`: No such file or directory"),
            "exec /t: no such file or directory",
        ),
        ("crun", crun("chdir `/w/x`: Permission denied"), 'chdir to cwd ("/w/x") failed: permission denied'),
        ("bwrap", "bwrap: Can't chdir to /w/x: Not a directory", 'chdir to cwd ("/w/x") failed: not a directory'),
    ],
)
def test_a_command_at_fault_is_told_in_buildkits_words(runtime: str, text: str, said: str) -> None:
    assert told(runtime, text) == Complaint(said, True)


@pytest.mark.parametrize(
    ("runtime", "text", "said"),
    [
        (
            "runc",
            RUNC + 'error during container init: error mounting "/mnt/hosts" to rootfs at "/etc/hosts": mount /mnt/hosts:/etc/hosts'
            " (via /proc/self/fd/6), flags: 0x5000: not a directory",
            'error mounting "/hosts" to rootfs at "/etc/hosts": mount /hosts:/etc/hosts: not a directory',
        ),
        ("runc", RUNC + "mkdir /sys/fs/cgroup/x: permission denied", "mkdir /sys/fs/cgroup/x: permission denied"),
        ("crun", crun("mount `/root/state/tmp/mounts-1/7/a` to `etc`: Not a directory"), "mount `/a` to `etc`: Not a directory"),
        (
            "bwrap",
            "bwrap: Can't mount proc on /newroot/proc: Operation not permitted",
            "Can't mount proc on /newroot/proc: Operation not permitted",
        ),
    ],
)
def test_other_failures_are_the_sandboxs_and_name_no_folder_of_ours(runtime: str, text: str, said: str) -> None:
    assert told(runtime, text) == Complaint(said, False)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "error",
        '{"msg":"x"}',
        '{"msg":"x","level":"error","time":"now"}',
        "[]",
        '{"msg":"x","level":"error","time":"2026-08-01T10:00:00.123456Z","more":1}',
    ],
)
def test_what_crun_would_not_write_is_not_taken_for_cruns(text: str) -> None:
    assert told("crun", text) is None


class TestListener:
    def heard(self, runtime: str, *packets: tuple[int, bytes]) -> tuple[list[tuple[int, bytes]], str]:
        passed: list[tuple[int, bytes]] = []
        listener = Listener(runtime, lambda stream, data: passed.append((stream, data)))
        for stream, data in packets:
            listener(stream, data)
        return passed, listener.held

    def test_output_passes_at_once(self) -> None:
        packets = [(2, b"runc is old\n"), (1, b"a"), (2, b"runc run failed: x")]
        assert self.heard("runc", *packets) == (packets, "")

    def test_the_runtimes_first_words_are_kept_back_while_nothing_else_comes(self) -> None:
        assert self.heard("runc", (2, b"runc run failed: "), (2, b"why\n")) == ([], "runc run failed: why\n")

    def test_they_were_output_if_the_command_prints_something(self) -> None:
        assert self.heard("bwrap", (2, b"bwrap: x\n"), (1, b"out")) == ([(2, b"bwrap: x\n"), (1, b"out")], "")

    def test_no_more_is_kept_than_a_runtime_says(self) -> None:
        passed, held = self.heard("crun", (2, b'{"msg":"' + b"x" * 20_000), (2, b"y" * 20_000), (2, b"z"))
        assert b"".join(data for _, data in passed) == b'{"msg":"' + b"x" * 20_000 + b"y" * 20_000 + b"z"
        assert held == ""
