"""The program made for bubblewrap: valid files, run for real where this machine can."""

from __future__ import annotations

import os
import struct
import subprocess

import pytest

from runtime.capabilities import DEFAULT, NAMES
from runtime.errors import RuntimeFault
from runtime.trampoline import Command, _arm64_skip_unless, build, candidates, idle
from runtime.values import replace

PLAIN = Command(("/bin/busybox", "true"), (), 0, 0, None, DEFAULT, (), True, ())


def run(folder: object, command: Command) -> subprocess.CompletedProcess[str]:
    machine = os.uname().machine
    if machine not in ("x86_64", "aarch64") or os.geteuid() != 0:
        pytest.skip("needs root on amd64 or arm64")
    path = f"{folder}/program"
    with open(path, "wb") as file:
        file.write(build(machine, command))
    os.chmod(path, 0o755)
    return subprocess.run([path], capture_output=True, text=True, timeout=20)


@pytest.mark.parametrize(("architecture", "machine"), [("x86_64", 62), ("aarch64", 183)])
def test_the_file_is_an_executable_with_one_segment_that_covers_it(architecture: str, machine: int) -> None:
    data = build(architecture, PLAIN)
    assert data[:6] == b"\x7fELF\x02\x01"
    kind, found, _, entry, headers = struct.unpack_from("<HHIQQ", data, 16)
    assert (kind, found, entry, headers) == (2, machine, 0x400078, 64)
    segment, flags, offset, address, _, in_file, in_memory, _ = struct.unpack_from("<IIQQQQQQ", data, 64)
    assert (segment, flags, offset, address, in_file, in_memory) == (1, 5, 0, 0x400000, len(data), len(data))


def test_arm64_instructions_are_encoded_as_the_manual_has_them() -> None:
    """close_range(3, 0xffffffff, 0): movz/movk of x0, x1, x2, x8, then svc."""
    words = struct.unpack_from("<21I", build("aarch64", PLAIN), 120)
    assert words[0] == 0xD2800060  # movz x0, #3
    assert words[1] == 0xF2A00000  # movk x0, #0, lsl #16
    assert words[4] == 0xD29FFFE1  # movz x1, #0xffff
    assert words[5] == 0xF2BFFFE1  # movk x1, #0xffff, lsl #16
    assert words[12] == 0xD2803688  # movz x8, #436
    assert words[16] == 0xD4000001  # svc #0


def test_arm64_comparisons_are_encoded_as_the_manual_has_them() -> None:
    """cmn x0, #13 (EACCES); b.ne over two instructions."""
    assert struct.unpack("<II", _arm64_skip_unless(13, 8)) == (0xB100341F, 0x54000061)


def test_an_unknown_architecture_is_named() -> None:
    with pytest.raises(RuntimeFault, match="bwrap is not supported on riscv64"):
        build("riscv64", PLAIN)


def test_candidates_follow_the_commands_own_path() -> None:
    assert candidates("/x/y", ("PATH=/bin",)) == ["/x/y"]
    assert candidates("./y", ("PATH=/bin",)) == ["./y"]
    assert candidates("y", ("A=1", "PATH=/a:rel::/b", "PATH=/c")) == ["/a/y", "/b/y"]
    assert candidates("y", ()) == []


@pytest.mark.integration
class TestRun:
    def test_ids_groups_and_environment_are_set(self, tmp_path: object) -> None:
        shell = ("/usr/bin/busybox", "sh", "-c", "id -u; id -g; id -G; echo $A-$1", "x", "ü y")
        done = run(tmp_path, replace(PLAIN, args=shell, env=("A=ä",), uid=1234, gid=5678, groups=(5678, 42)))
        assert done.stdout == "1234\n5678\n5678 42\nä-ü y\n", done.stderr

    def test_capability_sets_are_exact(self, tmp_path: object) -> None:
        with open("/proc/self/status") as file:
            bounding = next(int(line.split()[1], 16) for line in file if line.startswith("CapBnd"))
        held = tuple(name for number, name in enumerate(NAMES) if bounding >> number & 1)
        show = ("/usr/bin/busybox", "grep", "Cap", "/proc/self/status")
        done = run(tmp_path, replace(PLAIN, args=show, groups=(), held=held, all_sets=False))
        values = [line.split()[1] for line in done.stdout.splitlines()]
        assert values == ["0" * 16, "00000000a80425fb", "00000000a80425fb", "00000000a80425fb", "0" * 16], done.stderr

    def test_limits_hold(self, tmp_path: object) -> None:
        show = ("/usr/bin/busybox", "sh", "-c", "ulimit -n; ulimit -Hn")
        assert run(tmp_path, replace(PLAIN, args=show, rlimits=((7, 50, 60),))).stdout == "50\n60\n"

    def test_a_command_not_found_is_told_as_runc_does(self, tmp_path: object) -> None:
        done = run(tmp_path, replace(PLAIN, args=("nonsense",), env=("PATH=/bin:/usr/bin",)))
        assert (done.returncode, done.stderr) == (1, 'exec: "nonsense": executable file not found in $PATH\n')

    def test_the_first_executable_of_the_path_counts_even_if_it_can_not_be_executed(self, tmp_path: object) -> None:
        for name, mode, text in (("a", 0o644, ""), ("b", 0o755, "garbage"), ("c", 0o755, "#!/bin/sh\n")):
            os.mkdir(f"{tmp_path}/{name}")
            with open(f"{tmp_path}/{name}/tool", "w") as file:
                file.write(text)
            os.chmod(f"{tmp_path}/{name}/tool", mode)
        path = ":".join(f"{tmp_path}/{name}" for name in "abc")
        done = run(tmp_path, replace(PLAIN, args=("tool",), env=(f"PATH={path}",)))
        assert (done.returncode, done.stderr) == (1, f"exec {tmp_path}/b/tool: exec format error\n")

    def test_the_idle_program_ends_at_once(self, tmp_path: object) -> None:
        path = f"{tmp_path}/idle"
        with open(path, "wb") as file:
            file.write(idle(os.uname().machine))
        os.chmod(path, 0o755)
        assert subprocess.run([path], timeout=20).returncode == 0

    def test_a_step_that_fails_is_named_with_126(self, tmp_path: object) -> None:
        done = run(tmp_path, replace(PLAIN, rlimits=((99, 1, 1),)))
        assert (done.returncode, done.stderr) == (126, "sandbox: prlimit64 failed\n")
