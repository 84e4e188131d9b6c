"""Lint: configuration, which rules run, and the findings that need the parsed file alone."""

from __future__ import annotations

import pytest

from frontend import suggest
from frontend.errors import FrontendError, Range
from frontend.instructions.parse import parse_stages
from frontend.lint import LintConfig, Linter, Warning, linter_for, parse_lint_options, rules
from frontend.lint.checks import check_empty_continuations, check_instruction_casing, check_stage_names
from frontend.parser import parse


def findings(text: str, check_arg: str | None = None) -> list[str]:
    lint = linter_for(text, check_arg)
    result = parse(text)
    check_empty_continuations(result, lint)
    stages, _ = parse_stages(result.nodes, lint)
    check_stage_names(stages, lint)
    check_instruction_casing(stages, lint)
    return [warning.short() for warning in lint.warnings]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM a AS b\nRUN x", []),
        ("FROM a AS B", ["StageNameCasing: Stage name 'B' should be lowercase (line 1)"]),
        ("FROM a as b", ["FromAsCasing: 'as' and 'FROM' keywords' casing do not match (line 1)"]),
        ("from a AS b", ["FromAsCasing: 'AS' and 'from' keywords' casing do not match (line 1)"]),
        ("FROM a\nRUN x \\\n\n y\n", ["NoEmptyContinuation: Empty continuation line (line 4)"]),
        ("FROM a\nMAINTAINER x", ["MaintainerDeprecated: Maintainer instruction is deprecated in favor of using label (line 2)"]),
        ("FROM a AS b\nFROM c AS b", ['DuplicateStageName: Duplicate stage name "b", stage names should be unique (line 2)']),
        (
            "FROM a AS scratch\nFROM b AS context",
            [
                'ReservedStageName: Stage name should not use the same name as reserved stage "scratch" (line 1)',
                'ReservedStageName: Stage name should not use the same name as reserved stage "context" (line 2)',
            ],
        ),
        (
            "FROM a\nrun x\nRUN y",
            ["ConsistentInstructionCasing: Command 'run' should match the case of the command majority (uppercase) (line 2)"],
        ),
        (
            "from a\nRun x\nrun y\nRUN z",
            [
                "ConsistentInstructionCasing: Command 'Run' should match the case of the command majority (lowercase) (line 2)",
                "ConsistentInstructionCasing: Command 'RUN' should match the case of the command majority (lowercase) (line 4)",
            ],
        ),
        (
            "From a as b",
            ["ConsistentInstructionCasing: Command 'From' should match the case of the command majority (uppercase) (line 1)"],
        ),
        ("# x\nFROM a AS b", []),
    ],
)
def test_findings(text: str, expected: list[str]) -> None:
    assert findings(text) == expected


def test_experimental_rule_runs_where_asked_for() -> None:
    text = "# check=experimental=InvalidDefinitionDescription\n# x is y\nFROM a AS b\n# c is d\nARG c e\n"
    text += "# f is g\nARG c e\n# h\nFROM a\n"
    assert findings(text) == [
        "InvalidDefinitionDescription: Comment for FROM should follow the format: `# b <description>` (line 3)",
        "InvalidDefinitionDescription: Comment for ARG should follow the format: `# <arg_key> <description>` (line 7)",
    ]


def test_skipped_by_directive_by_argument_and_by_comment() -> None:
    text = "# check=skip=StageNameCasing\nFROM a AS B\nMAINTAINER x\n"
    assert [line.split(":")[0] for line in findings(text)] == ["MaintainerDeprecated"]
    assert findings(text, "skip=all") == []
    assert [line.split(":")[0] for line in findings(text, "")] == ["StageNameCasing", "MaintainerDeprecated"]
    assert findings("FROM a\n# check=skip=MaintainerDeprecated\nMAINTAINER x\n") == []
    assert len(findings("FROM a\n# check=skip=MaintainerDeprecated\nRUN a\nMAINTAINER x\n")) == 1


def test_options() -> None:
    assert parse_lint_options("skip=A, B ;error=true;experimental=C") == LintConfig(
        skip_rules=frozenset("AB"), experimental_rules=frozenset("C"), return_as_error=True
    )
    assert parse_lint_options(" experimental=all;skip=all") == LintConfig(experimental_all=True, skip_all=True)
    assert parse_lint_options(" ") == LintConfig()


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("skip", 'invalid check option "skip"'),
        ("skip=A;warn=B", 'invalid check option "warn"'),
        ("error=maybe", 'failed to parse check option "error=maybe": strconv.ParseBool: parsing "maybe": invalid syntax'),
    ],
)
def test_options_refused(text: str, error: str) -> None:
    with pytest.raises(FrontendError) as caught:
        parse_lint_options(text)
    assert str(caught.value) == error
    with pytest.raises(FrontendError, match="failed to parse check options: ") as caught:
        linter_for(f"# check={text}\nFROM a")
    assert caught.value.ranges == (Range(1, 1),)
    with pytest.raises(FrontendError, match="failed to parse build-arg:BUILDKIT_DOCKERFILE_CHECK: "):
        linter_for("FROM a", text)


def test_malformed_comment_changes_nothing() -> None:
    lint = Linter()
    assert lint.for_comments(("check=what",)) is lint
    assert lint.for_comments(("x", "skip=all")) is lint


def test_findings_are_an_error_where_asked_for() -> None:
    lint = linter_for("# check=error=true\n")
    assert lint.error() is None
    lint.for_comments(("check=error=false",)).run(rules.MAINTAINER_DEPRECATED, ())
    lint.run(rules.COPY_IGNORED_FILE, (), "Copy", "x")
    lint.run(rules.COPY_IGNORED_FILE, (), "Copy", "y")
    assert str(lint.error()) == "lint violation found for rules: CopyIgnoredFile, MaintainerDeprecated"
    assert Linter(warnings=lint.warnings).error() is None


def test_a_finding_tells_all_of_itself() -> None:
    lint = Linter()
    lint.run(rules.COPY_IGNORED_FILE, [Range(2, 2), Range(3, 3)], "Add", 'a"b')
    assert lint.warnings == [
        Warning(
            rule="CopyIgnoredFile",
            description="Attempting to Copy file that is excluded by .dockerignore",
            url="https://docs.docker.com/go/dockerfile/rule/copy-ignored-file/",
            message='Attempting to Add file "a\\"b" that is excluded by .dockerignore',
            ranges=(Range(2, 2), Range(3, 3)),
        )
    ]
    assert lint.warnings[0].line == 2


def test_every_rule_has_its_own_name_and_page() -> None:
    assert len({rule.name for rule in rules.RULES}) == len(rules.RULES) == 22
    assert [rule.name for rule in rules.RULES if not rule.url] == ["InvalidBaseImagePlatform"]
    assert [rule.name for rule in rules.RULES if rule.experimental] == ["InvalidDefinitionDescription"]


@pytest.mark.parametrize(
    ("value", "options", "expected"),
    [
        ("RNU", ["env", "run"], "RUN"),
        ("form", ["from", "chown"], "from"),
        ("from", ["from", "form"], ""),
        ("FROMM", ["from"], ""),
        ("abcdef", ["uvwxyz", "abc"], ""),
        ("ab", ["b", "a"], "a"),
    ],
)
def test_suggestion(value: str, options: list[str], expected: str) -> None:
    assert suggest.search(value, options, case_sensitive=value != "RNU") == expected
