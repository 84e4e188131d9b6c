"""The form in which owners are kept beside files."""

from __future__ import annotations

import os
import stat

import pytest

from runtime.linux.overrides import Override, Table, read_table


@pytest.mark.parametrize(
    ("value", "override"),
    [
        (b"0:0:755", Override(0, 0, 0o755)),
        (b"1000:1001:4755:file", Override(1000, 1001, 0o4755, stat.S_IFREG)),
        (b"1:2:1777:dir", Override(1, 2, 0o1777, stat.S_IFDIR)),
        (b"1:2:666:char-1-3", Override(1, 2, 0o666, stat.S_IFCHR, os.makedev(1, 3))),
        (b"1:2:660:block-254-300", Override(1, 2, 0o660, stat.S_IFBLK, os.makedev(254, 300))),
    ],
)
def test_both_ways(value: bytes, override: Override) -> None:
    assert Override.decode(value) == override
    assert override.encode() == value


@pytest.mark.parametrize(
    "value",
    [b"", b"1", b"1:2", b"1:2:9", b"-1:2:755", b"4294967295:0:755", b"1:2:755:", b"1:2:755:char", b"1:2:755:char-1",
     b"1:2:755:file:x", b"1:2:17777", b"1:2:755:door-1-2", b"\xff:2:755", b"1:2:755:char-99999999999999999999-1"],
)  # fmt: skip
def test_what_is_of_another_form_is_none(value: bytes) -> None:
    assert Override.decode(value) is None


def test_the_last_line_of_an_inode_counts_and_numbers_are_used_again(tmp_path) -> None:
    table = Table(f"{tmp_path}/owners")
    table.record(7, 100, 1, 2)
    table.record(7, 100, 3, 4)
    table.record(7, 200, 5, 6)
    assert (table.find(7, 100), table.find(7, 200), table.find(7, 300)) == ((3, 4), (5, 6), None)
    assert read_table(f"{tmp_path}/owners") == {(7, 100): (3, 4), (7, 200): (5, 6)}
    assert Table(f"{tmp_path}/owners").find(7, 200) == (5, 6)


def test_a_line_that_was_cut_off_does_not_count(tmp_path) -> None:
    with open(f"{tmp_path}/owners", "w") as file:
        file.write("7 100 1 2\n8 100 1 2")
    assert read_table(f"{tmp_path}/owners") == {(7, 100): (1, 2)}
