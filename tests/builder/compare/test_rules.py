"""Which differences a rule covers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from builder.compare import CompareError, Difference, Facts, Rule, load_rules, sort_out
from builder.compare.run import mount_points

FACTS = Facts("docker 20.10.24 (embedded BuildKit)", 1_700_000_000.7, "ctx/Dockerfile", frozenset(["/mnt", "/mnt/in"]))
BEFORE, AT, AFTER = "2023-11-14T22:13:19Z", "2023-11-14T22:13:20Z", "2023-11-14T22:13:25.123456789Z"


def file(field: str = "mode", left: str = "0644", right: str = "0600", path: str = "/etc/hosts", kind: str = "file") -> Difference:
    return Difference("file", path, field, left, right, kind)


def covers(difference: Difference, **keys: Any) -> bool:
    return Rule(**({"area": "file", "reason": "because"} | keys)).covers(difference, FACTS)


def test_a_rule_covers_only_its_area() -> None:
    assert covers(file())
    assert not covers(Difference("config", "/etc/hosts", "mode", "", ""))


@pytest.mark.parametrize(
    ("key", "matching", "other"),
    [
        ("subject", "/etc/*", "/etc"),
        ("field", "m*", "uid"),
        ("kind", "file", "directory"),
        ("builder", "docker 20.10.* (embedded*", "docker 27.*"),
        ("dockerfile", "*/Dockerfile", "*/other/Dockerfile"),
        ("pybuild", "06.*", "6.*"),
        ("other", "0600", "060"),
    ],
)
def test_every_key_narrows_the_rule(key: str, matching: str, other: str) -> None:
    assert covers(file(), **{key: matching})
    assert not covers(file(), **{key: other})


@pytest.mark.parametrize(
    ("left", "right", "covered"), [(AT, AFTER, True), (AFTER, AT, True), (BEFORE, AFTER, False), (AFTER, BEFORE, False)]
)
def test_made_by_build_wants_both_times_since_the_beginning(left: str, right: str, covered: bool) -> None:
    assert covers(file("mtime", left, right), when="made-by-build") is covered


@pytest.mark.parametrize(
    ("left", "right", "covered"), [(BEFORE, AFTER, True), (AFTER, AT, True), (AFTER, BEFORE, False), (AFTER, "", False)]
)
def test_other_made_by_build_wants_the_other_time_since_the_beginning(left: str, right: str, covered: bool) -> None:
    assert covers(file("mtime", left, right), when="other-made-by-build") is covered


def test_next_second_wants_the_other_time_to_be_just_later() -> None:
    assert covers(file("mtime", BEFORE, AT), when="next-second")
    assert not covers(file("mtime", AT, BEFORE), when="next-second")
    assert not covers(file("mtime", BEFORE, AFTER), when="next-second")


def test_times_in_the_configuration_are_quoted() -> None:
    difference = Difference("config", "created", "value", f'"{AT}"', f'"{AFTER}"')
    assert covers(difference, area="config", when="made-by-build")


@pytest.mark.parametrize(
    ("left", "right", "covered"), [("(absent)", "null", True), ('""', "[]", True), ("{}", "false", True), ("null", '"x"', False)]
)
def test_both_empty(left: str, right: str, covered: bool) -> None:
    assert covers(Difference("config", "k", "value", left, right), area="config", when="both-empty") is covered


def test_mount_points_are_targets_and_the_folders_above() -> None:
    assert covers(file(path="/mnt"), when="mount-point")
    assert not covers(file(path="/mnt/in/side"), when="mount-point")


def test_the_first_rule_has_the_difference_and_the_rest_is_wrong() -> None:
    first, second = Rule("file", "first", field="m*"), Rule("file", "second", field="mode")
    found = sort_out([file(), file("uid")], [first, second], FACTS)
    assert found.rightful == ((file(), first),)
    assert found.wrong == (file("uid"),)


def test_the_rules_of_the_repository_are_readable_and_give_reasons() -> None:
    rules = load_rules()
    assert rules
    assert len(set(rules)) == len(rules), "a rule twice"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[rule]]\narea = 'file'", "rule 1 has no reason"),
        ("[[rule]]\nreason = 'x'", "rule 1 has no area"),
        ("[[rule]]\narea = 'flie'\nreason = 'x'", "unknown area 'flie'"),
        ("[[rule]]\narea = 'file'\nreason = 'x'\nsubjct = '/a'", "unknown key 'subjct'"),
        ("[[rule]]\narea = 'file'\nreason = 'x'\nwhen = 'never'", "unknown condition 'never'"),
        ("[[rule]]\narea = 'file'\nreason = 'x'\nother = '('", "unterminated subpattern"),
        ("[[rule]]\narea = 'file'\nreason = 1", "reason is not a string"),
        ("[[rules]]\narea = 'file'", "expected \\[\\[rule\\]\\]"),
        ("rule = 1", "expected \\[\\[rule\\]\\]"),
        ("rule = [1]", "rule 1 is no table"),
        ("[[rule]", "Expected"),
    ],
)
def test_a_file_of_rules_that_is_wrong_names_what(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(CompareError, match=message):
        load_rules(str(tmp_path / "r.toml"))


def test_a_file_of_rules_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(CompareError, match="No such file"):
        load_rules(str(tmp_path / "none.toml"))


def test_a_mount_point_of_two_slashes_comes_to_an_end() -> None:
    """To POSIX ``//etc`` is another root, and the folder above ``//`` is ``//``."""
    assert mount_points("RUN --mount=target=//etc/x,type=tmpfs true") == {"/etc", "/etc/x"}
