"""The lint rules that need expanded words, resolved images or the graph; ``frontend.lint.checks`` has those of the file alone."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from builder.oci.platform import Platform, normalize
from builder.oci.reference import Reference
from builder.text.paths import clean
from frontend import suggest
from frontend.convert.args import NOT_IN_ENVIRONMENT, global_args
from frontend.errors import ShellError
from frontend.lint import rules

if TYPE_CHECKING:
    from builder.text.patterns import PatternMatcher
    from frontend.errors import Range
    from frontend.instructions.types import ArgCommand, KeyValuePairOptional, Stage
    from frontend.lint import Linter
    from frontend.shell import Lex, ProcessWordResult

# Whole names, or words of names between underscores.
_SECRET_WORDS = frozenset(
    ("apikey", "auth", "credential", "credentials", "key", "password", "pword", "passwd", "secret", "token")
)
_HARMLESS_WORDS = frozenset(("public", "file", "version"))
_ALL = frozenset(("*", "**", "**/*"))
_MANY = 1 << 18


def default_args_in_from(
    stages: Sequence[Stage], lex: Lex, env: Mapping[str, str], commands: Sequence[ArgCommand], lint: Linter
) -> None:
    """InvalidDefaultArgInFrom: with no build argument given every FROM still names an image."""
    try:
        values, _ = global_args(env, commands, {}, lex)
        for stage in stages:
            name = lex.process_word(stage.base_name, values)
            if not _is_reference(name):
                lint.run(rules.INVALID_DEFAULT_ARG_IN_FROM, stage.location, stage.base_name)
    except ShellError:
        return  # the conversion itself will tell


def undefined_args_in_from(known: Iterable[str], missing: Iterable[str], location: Sequence[Range], lint: Linter) -> None:
    """UndefinedArgInFrom."""
    known = set(known)
    for name in sorted(missing):
        if name not in known:
            lint.run(rules.UNDEFINED_ARG_IN_FROM, location, name, _near(name, known, lint))


def redundant_target_platform(
    written: str, result: ProcessWordResult, location: Sequence[Range], env: Mapping[str, str], lint: Linter
) -> None:
    """RedundantTargetPlatform: ``--platform=$TARGETPLATFORM`` and nothing more."""
    only = result.matched == {"TARGETPLATFORM"} and not result.unmatched
    if only and result.result == env.get("TARGETPLATFORM", ""):
        lint.run(rules.REDUNDANT_TARGET_PLATFORM, location, written)


def constant_platform(stage_name: str, result: ProcessWordResult, location: Sequence[Range], lint: Linter) -> None:
    """FromPlatformFlagConstDisallowed: no variable, and the stage's name does not tell of the platform."""
    if result.matched or result.unmatched:
        return
    try:
        platform = Platform.parse(result.result)
    except ValueError:
        return
    if platform.os not in stage_name and platform.architecture not in stage_name:
        lint.run(rules.FROM_PLATFORM_FLAG_CONST_DISALLOWED, location, result.result)


def base_image_platform(name: str, expected: Platform, actual: Platform, location: Sequence[Range], lint: Linter) -> None:
    """InvalidBaseImagePlatform."""
    if (expected.os, expected.architecture) != (actual.os, actual.architecture):
        lint.run(rules.INVALID_BASE_IMAGE_PLATFORM, location, name, str(normalize(expected)), str(normalize(actual)))


def undefined_variables(
    missing: Iterable[str],
    declared: Iterable[KeyValuePairOptional],
    env: Mapping[str, str],
    location: Sequence[Range],
    lint: Linter,
) -> None:
    """UndefinedVar. An ARG without a value declares its name."""
    names = set(missing).difference((arg.key for arg in declared), NOT_IN_ENVIRONMENT)
    for name in sorted(names):
        lint.run(rules.UNDEFINED_VAR, location, name, _near(name, env, lint))


def secret_name(instruction: str, key: str, location: Sequence[Range], lint: Linter) -> None:
    """SecretsUsedInArgOrEnv: by the words of the name."""
    words = frozenset(key.lower().split("_"))
    if words & _SECRET_WORDS and not words & _HARMLESS_WORDS:
        lint.run(rules.SECRETS_USED_IN_ARG_OR_ENV, location, instruction, key)


def ignored_source(command: str, source: str, matcher: PatternMatcher | None, location: Sequence[Range], lint: Linter) -> None:
    """CopyIgnoredFile. Not told where the ignore file has exceptions: a folder may be out and a file in it be in again."""
    if matcher is None or matcher.exclusions:
        return
    path = clean(source)
    if path in (".", "/") and not any(pattern.text in _ALL and not pattern.exclusion for pattern in matcher.patterns):
        return  # a context's root is no path that a pattern can mean, unless it takes all
    if matcher.matches_or_parent_matches(path):
        lint.run(rules.COPY_IGNORED_FILE, location, command, path)


def _near(name: str, known: Collection[str], lint: Linter) -> str:
    """What may have been meant; not looked for any more where there are so many findings that nobody reads the hints."""
    return suggest.search(name, known) if len(lint.warnings) * len(known) < _MANY else ""


def _is_reference(text: str) -> bool:
    try:
        Reference.parse(text)
    except ValueError:
        return False
    return True
