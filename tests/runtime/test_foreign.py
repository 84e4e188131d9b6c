"""Emulators are found by what they are registered for, not by their names."""

from __future__ import annotations

from pathlib import Path

import pytest

from runtime import foreign

# As Debian's qemu-user-static registers it.
AARCH64 = """{state}
interpreter /usr/libexec/qemu-binfmt/aarch64-binfmt-P
flags: POCF
offset 0
magic 7f454c460201010000000000000000000200b700
mask ffffffffffffff00fffffffffffffffffeffffff
"""


@pytest.mark.parametrize(
    ("architecture", "state", "found"),
    [("arm64", "enabled", True), ("arm64", "disabled", False), ("riscv64", "enabled", False), ("vax", "enabled", False)],
)
def test_an_enabled_one_of_that_machine(tmp_path: Path, architecture: str, state: str, found: bool) -> None:
    (tmp_path / "register").write_text("")
    (tmp_path / "status").write_text("enabled\n")
    (tmp_path / "extension").write_text("enabled\ninterpreter /x\nextension .exe\n")
    (tmp_path / "strange").write_text("enabled\nmagic zz\n")
    (tmp_path / "any-name").write_text(AARCH64.format(state=state))
    expected = "/usr/libexec/qemu-binfmt/aarch64-binfmt-P" if found else ""
    assert foreign.emulator(architecture, f"{tmp_path}") == expected


def test_no_binfmt_misc_is_no_emulator(tmp_path: Path) -> None:
    assert foreign.emulator("arm64", f"{tmp_path}/missing") == ""
