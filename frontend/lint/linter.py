"""Runs lint rules: which are on, what they found, whether that fails the build.

The configuration comes from ``# check=skip=A,B;error=true;experimental=C`` at the top of the file or from the build
argument ``BUILDKIT_DOCKERFILE_CHECK`` in the same form (which then stands alone); a comment of that form directly above
an instruction adds to it for that instruction.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from builder.text.chars import SPACE
from builder.text.quoting import quote
from builder.text.strconv import parse_bool
from builder.values import dataclass, field, replace
from frontend.errors import FrontendError, Range
from frontend.parser.directives import DirectiveParser

if TYPE_CHECKING:
    from frontend.lint.rules import Rule


@dataclass(frozen=True, slots=True)
class LintConfig:
    """Rule names to skip and to switch on; ``all`` of either; ``return_as_error``: findings fail the build."""

    skip_all: bool = False
    skip_rules: frozenset[str] = frozenset()
    experimental_all: bool = False
    experimental_rules: frozenset[str] = frozenset()
    return_as_error: bool = False

    def allows(self, rule: Rule) -> bool:
        """Whether ``rule`` is to run."""
        if rule.deprecated:
            return False
        if rule.experimental:
            return self.experimental_all or rule.name in self.experimental_rules
        return not (self.skip_all or rule.name in self.skip_rules)

    def merged(self, other: LintConfig) -> LintConfig:
        """Both together; ``return_as_error`` stays that of this one."""
        return replace(
            self,
            skip_all=self.skip_all or other.skip_all,
            skip_rules=self.skip_rules | other.skip_rules,
            experimental_all=self.experimental_all or other.experimental_all,
            experimental_rules=self.experimental_rules | other.experimental_rules,
        )


@dataclass(frozen=True, slots=True)
class Warning:
    """One finding. ``message`` is about this place, ``description`` about the rule; ``url`` may be empty."""

    rule: str
    description: str
    url: str
    message: str
    ranges: tuple[Range, ...]

    @property
    def line(self) -> int:
        """First line of the place, 0 if there is none."""
        return self.ranges[0].start if self.ranges else 0

    def short(self) -> str:
        """``Rule: message (line N)``, as a build prints it."""
        text = f"{self.rule}: {self.message}"
        return f"{text} (line {self.line})" if self.line > 0 else text


@dataclass(frozen=True, slots=True)
class Linter:
    """Collects findings in ``warnings`` (shared by all linters made from one by ``for_comments``)."""

    config: LintConfig = LintConfig()
    warnings: list[Warning] = field(default_factory=list)

    def run(self, rule: Rule, location: Sequence[Range], *args: str) -> None:
        """Note a finding of ``rule``, unless it is off. ``args`` are those of the rule's ``message``."""
        if self.config.allows(rule):
            finding = Warning(rule.name, rule.description, rule.url, rule.message(*args), tuple(location))
            self.warnings.append(finding)

    def for_comments(self, comments: Sequence[str]) -> Linter:
        """This linter with the ``check=`` comment above an instruction applied; a malformed one is ignored."""
        for comment in comments:
            directive = DirectiveParser("").parse_line(comment)
            if directive is None or directive.name != "check":
                continue
            try:
                config = parse_lint_options(directive.value.partition(" ")[0])
            except FrontendError:
                return self
            return Linter(self.config.merged(config), self.warnings)
        return self

    def error(self) -> FrontendError | None:
        """The error that the findings are with ``error=true``, else None."""
        if not self.config.return_as_error or not self.warnings:
            return None
        names = sorted({warning.rule for warning in self.warnings})
        return FrontendError(f"lint violation found for rules: {', '.join(names)}")


def linter_for(text: str, check_arg: str | None = None) -> Linter:
    """The linter of a Dockerfile.

    ``check_arg`` is the build argument BUILDKIT_DOCKERFILE_CHECK, None if not given; an empty one still overrides the
    file's directive. Raises ``FrontendError`` for options that can't be read.
    """
    if check_arg is not None:
        try:
            return Linter(parse_lint_options(check_arg))
        except FrontendError as e:
            raise FrontendError(f"failed to parse build-arg:BUILDKIT_DOCKERFILE_CHECK: {e}") from None
    from frontend.parser.directives import parse_directive

    directive = parse_directive("check", text)
    try:
        return Linter(parse_lint_options(directive.value) if directive else LintConfig())
    except FrontendError as e:
        raise FrontendError(f"failed to parse check options: {e}", directive.ranges if directive else ()) from None


def parse_lint_options(text: str) -> LintConfig:
    """``skip=A,B|all;error=BOOL;experimental=A,B|all``. Raises ``FrontendError``."""
    text = text.strip(SPACE)
    config = LintConfig()
    for part in text.split(";", 2) if text else ():
        key, equals, value = part.partition("=")
        if not equals:
            raise FrontendError(f"invalid check option {quote(part)}")
        config = _with_option(config, key.strip(SPACE), value.strip(SPACE), part)
    return config


def _with_option(config: LintConfig, key: str, value: str, part: str) -> LintConfig:
    names = frozenset(name.strip(SPACE) for name in value.split(","))
    if key == "skip":
        return replace(config, skip_all=True) if value == "all" else replace(config, skip_rules=names)
    if key == "experimental":
        return replace(config, experimental_all=True) if value == "all" else replace(config, experimental_rules=names)
    if key != "error":
        raise FrontendError(f"invalid check option {quote(key)}")
    try:
        return replace(config, return_as_error=parse_bool(value))
    except ValueError as e:
        raise FrontendError(f"failed to parse check option {quote(part)}: {e}") from None
