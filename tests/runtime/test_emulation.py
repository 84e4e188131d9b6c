"""What the kernel is told of an emulator, and which programs are taken for one."""

from __future__ import annotations

import os
import struct
from pathlib import Path

import pytest

from runtime import emulation, foreign
from runtime.errors import RuntimeFault


@pytest.mark.parametrize(
    ("architecture", "magic", "mask"),
    [
        # As qemu's scripts/qemu-binfmt-conf.sh has them.
        ("arm64", "7f454c460201010000000000000000000200b700", "ffffffffffffff00fffffffffffffffffeffffff"),
        ("s390x", "7f454c4602020100000000000000000000020016", "ffffffffffffff00fffffffffffffffffffeffff"),
        ("arm", "7f454c4601010100000000000000000002002800", "ffffffffffffff00fffffffffffffffffeffffff"),
    ],
)
def test_programs_are_known_by_their_first_bytes(architecture: str, magic: str, mask: str) -> None:
    _, name, kind, offset, told_magic, told_mask, path, flags = emulation.rule(architecture, "/usr/bin/qemu").split(":")
    assert (name, kind, offset, path) == (f"pybuild-{architecture}", "M", "", "/usr/bin/qemu")
    assert told_magic.replace("\\x", "") == magic
    assert told_mask.replace("\\x", "") == mask
    assert set(flags) == set("POCF")


def test_what_the_rule_says_is_what_a_registered_one_is_found_by(tmp_path: Path) -> None:
    """The kernel shows its rules in another form: both are of one header."""
    _, _, _, _, magic, mask, _, _ = emulation.rule("riscv64", "/q").split(":")
    shown = f"enabled\ninterpreter /q\nflags: F\noffset 0\nmagic {magic}\nmask {mask}\n".replace("\\x", "")
    (tmp_path / "rule").write_text(shown)
    assert foreign.emulator("riscv64", f"{tmp_path}") == "/q"
    assert foreign.emulator("arm64", f"{tmp_path}") == ""
    (tmp_path / "rule").write_text(shown.replace("flags: F", "flags: "))
    assert foreign.emulator("riscv64", f"{tmp_path}") == "", "it would be looked for in the step's own files"


@pytest.mark.parametrize("path", ["/a:b/qemu", "/" + "x" * 128])
def test_a_path_that_would_be_another_rule_is_refused(path: str) -> None:
    with pytest.raises(RuntimeFault, match="can't be registered"):
        emulation.rule("arm64", path)


def program(*, dynamic: bool) -> bytes:
    """An ELF of 64 bits with two program headers: something loaded, and an interpreter or not."""
    head = b"\x7fELF\x02\x01\x01" + bytes(9) + struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, 0, 64, 0, 0, 64, 56, 2, 0, 0, 0)
    return head + struct.pack("<I", 1) + bytes(52) + struct.pack("<I", 3 if dynamic else 1) + bytes(52)


def test_only_a_static_program_is_an_emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{tmp_path}")
    for name, data in (("qemu-aarch64-static", b"#!/bin/sh\n"), ("qemu-aarch64", program(dynamic=True))):
        (tmp_path / name).write_bytes(data)
        os.chmod(tmp_path / name, 0o755)
    with pytest.raises(RuntimeFault, match="qemu-aarch64-static not found") as caught:
        emulation.find("arm64")
    assert "apt install" in caught.value.hint
    (tmp_path / "qemu-aarch64").write_bytes(program(dynamic=False))
    assert emulation.find("arm64") == f"{tmp_path}/qemu-aarch64"


def test_an_unknown_machine_has_none() -> None:
    with pytest.raises(RuntimeFault, match="no emulator is known for vax"):
        emulation.find("vax")
