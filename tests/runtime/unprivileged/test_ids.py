"""set*id and what it makes of ids: the table of setresuid(2), setreuid(2) and setuid(2)."""

from __future__ import annotations

import pytest

from runtime.unprivileged.ids import Ids, change, executed, file_system_id, of_user

SAME = 0xFFFFFFFF
ROOT = Ids()
USER = of_user(1000, 1001)
DROPPED = Ids(uids=(1000, 1000, 0, 1000))  # seteuid(1000) of root, with the real id changed too


@pytest.mark.parametrize(
    ("before", "name", "args", "uids"),
    [
        (ROOT, "setuid", (5,), (5, 5, 5, 5)),
        (ROOT, "setreuid", (SAME, 5), (0, 5, 5, 5)),
        (ROOT, "setreuid", (5, SAME), (5, 0, 0, 0)),
        (ROOT, "setreuid", (SAME, SAME), (0, 0, 0, 0)),
        (ROOT, "setresuid", (1, 2, 3), (1, 2, 3, 2)),
        (ROOT, "setresuid", (SAME, 2, SAME), (0, 2, 0, 2)),
        (DROPPED, "setuid", (0,), (1000, 0, 0, 0)),
        (DROPPED, "setresuid", (SAME, 0, SAME), (1000, 0, 0, 0)),
        (USER, "setuid", (1000,), (1000,) * 4),
        (USER, "setresuid", (SAME, SAME, SAME), (1000,) * 4),
    ],
)
def test_uids(before: Ids, name: str, args: tuple[int, ...], uids: tuple[int, ...]) -> None:
    assert change(before, name, args).uids == uids
    assert change(before, name, args).gids == before.gids


@pytest.mark.parametrize("name", ["setuid", "setreuid", "setresuid", "setgid", "setregid", "setresgid"])
def test_another_user_can_t_become_somebody_else(name: str) -> None:
    with pytest.raises(PermissionError):
        change(USER, name, (7, 7, 7))


def test_groups_are_free_to_root_alone() -> None:
    assert change(ROOT, "setresgid", (1, 2, 3)).gids == (1, 2, 3, 2)
    assert change(Ids(uids=(5, 0, 0, 0)), "setgid", (9,)).gids == (9,) * 4


def test_minus_one_is_no_id() -> None:
    with pytest.raises(OSError, match="no id"):
        change(ROOT, "setuid", (SAME,))


def test_the_file_system_id_tells_the_one_before() -> None:
    ids, before = file_system_id(ROOT, "setfsuid", 5)
    assert (ids.uids, before) == ((0, 0, 0, 5), 0)
    assert file_system_id(USER, "setfsgid", 7) == (USER, 1001)
    assert file_system_id(USER, "setfsuid", SAME) == (USER, 1000)


def test_a_set_id_program_saves_what_it_is() -> None:
    assert executed(USER, 0, None).uids == (1000, 0, 0, 0)
    assert executed(DROPPED, None, 5).gids == (0, 5, 5, 5)
    assert executed(DROPPED, None, None).uids == (1000, 1000, 1000, 1000)
