"""The rules of BuildKit's linter (``frontend/dockerfile/linter/ruleset.go``): names, texts, documentation.

A rule's ``message`` is called with the facts of one finding, in the order its template names them.
"""

from __future__ import annotations

from collections.abc import Callable

from builder.text.quoting import quote
from builder.values import dataclass

_DOCS = "https://docs.docker.com/go/dockerfile/rule/"


@dataclass(frozen=True, slots=True)
class Rule:
    """``experimental`` rules run only where asked for; ``deprecated`` ones never. ``url`` may be empty."""

    name: str
    description: str
    url: str
    message: Callable[..., str]
    deprecated: bool = False
    experimental: bool = False


def _did_you_mean(text: str, suggestion: str) -> str:
    return f"{text} (did you mean {suggestion}?)" if suggestion else text


STAGE_NAME_CASING = Rule(
    "StageNameCasing",
    "Stage names should be lowercase",
    _DOCS + "stage-name-casing/",
    lambda stage: f"Stage name '{stage}' should be lowercase",
)
FROM_AS_CASING = Rule(
    "FromAsCasing",
    "The 'as' keyword should match the case of the 'from' keyword",
    _DOCS + "from-as-casing/",
    lambda from_, as_: f"'{as_}' and '{from_}' keywords' casing do not match",
)
NO_EMPTY_CONTINUATION = Rule(
    "NoEmptyContinuation",
    "Empty continuation lines will become errors in a future release",
    _DOCS + "no-empty-continuation/",
    lambda: "Empty continuation line",
)
CONSISTENT_INSTRUCTION_CASING = Rule(
    "ConsistentInstructionCasing",
    "All commands within the Dockerfile should use the same casing (either upper or lower)",
    _DOCS + "consistent-instruction-casing/",
    lambda command, casing: f"Command '{command}' should match the case of the command majority ({casing})",
)
DUPLICATE_STAGE_NAME = Rule(
    "DuplicateStageName",
    "Stage names should be unique",
    _DOCS + "duplicate-stage-name/",
    lambda stage: f"Duplicate stage name {quote(stage)}, stage names should be unique",
)
RESERVED_STAGE_NAME = Rule(
    "ReservedStageName",
    "Reserved words should not be used as stage names",
    _DOCS + "reserved-stage-name/",
    lambda stage: f"Stage name should not use the same name as reserved stage {quote(stage)}",
)
JSON_ARGS_RECOMMENDED = Rule(
    "JSONArgsRecommended",
    "JSON arguments recommended for ENTRYPOINT/CMD to prevent unintended behavior related to OS signals",
    _DOCS + "json-args-recommended/",
    lambda name: f"JSON arguments recommended for {name} to prevent unintended behavior related to OS signals",
)
MAINTAINER_DEPRECATED = Rule(
    "MaintainerDeprecated",
    "The MAINTAINER instruction is deprecated, use a label instead to define an image author",
    _DOCS + "maintainer-deprecated/",
    lambda: "Maintainer instruction is deprecated in favor of using label",
)
UNDEFINED_ARG_IN_FROM = Rule(
    "UndefinedArgInFrom",
    "FROM command must use declared ARGs",
    _DOCS + "undefined-arg-in-from/",
    lambda arg, suggestion: _did_you_mean(f"FROM argument '{arg}' is not declared", suggestion),
)
WORKDIR_RELATIVE_PATH = Rule(
    "WorkdirRelativePath",
    "Relative workdir without an absolute workdir declared within the build can have unexpected results "
    "if the base image changes",
    _DOCS + "workdir-relative-path/",
    lambda workdir: f"Relative workdir {quote(workdir)} can have unexpected results if the base image changes",
)
UNDEFINED_VAR = Rule(
    "UndefinedVar",
    "Variables should be defined before their use",
    _DOCS + "undefined-var/",
    lambda name, suggestion: _did_you_mean(
        f"Usage of undefined variable '${name}'", f"${suggestion}" if suggestion else ""
    ),
)
MULTIPLE_INSTRUCTIONS_DISALLOWED = Rule(
    "MultipleInstructionsDisallowed",
    "Multiple instructions of the same type should not be used in the same stage",
    _DOCS + "multiple-instructions-disallowed/",
    lambda name: (
        f"Multiple {name} instructions should not be used in the same stage because only the last one will be used"
    ),
)
LEGACY_KEY_VALUE_FORMAT = Rule(
    "LegacyKeyValueFormat",
    "Legacy key/value format with whitespace separator should not be used",
    _DOCS + "legacy-key-value-format/",
    lambda name: f'"{name} key=value" should be used instead of legacy "{name} key value" format',
)
INVALID_BASE_IMAGE_PLATFORM = Rule(
    "InvalidBaseImagePlatform",
    "Base image platform does not match expected target platform",
    "",
    lambda image, expected, actual: (
        f"Base image {image} was pulled with platform {quote(actual)}, expected {quote(expected)} for current build"
    ),
)
REDUNDANT_TARGET_PLATFORM = Rule(
    "RedundantTargetPlatform",
    "Setting platform to predefined $TARGETPLATFORM in FROM is redundant as this is the default behavior",
    _DOCS + "redundant-target-platform/",
    lambda var: f"Setting platform to predefined {var} in FROM is redundant as this is the default behavior",
)
SECRETS_USED_IN_ARG_OR_ENV = Rule(
    "SecretsUsedInArgOrEnv",
    "Sensitive data should not be used in the ARG or ENV commands",
    _DOCS + "secrets-used-in-arg-or-env/",
    lambda instruction, key: (
        f"Do not use ARG or ENV instructions for sensitive data ({instruction} {quote(key)})"
    ),
)
INVALID_DEFAULT_ARG_IN_FROM = Rule(
    "InvalidDefaultArgInFrom",
    "Default value for global ARG results in an empty or invalid base image name",
    _DOCS + "invalid-default-arg-in-from/",
    lambda base: f"Default value for ARG {base} results in empty or invalid base image name",
)
FROM_PLATFORM_FLAG_CONST_DISALLOWED = Rule(
    "FromPlatformFlagConstDisallowed",
    "FROM --platform flag should not use a constant value",
    _DOCS + "from-platform-flag-const-disallowed/",
    lambda platform: f"FROM --platform flag should not use constant value {quote(platform)}",
)
COPY_IGNORED_FILE = Rule(
    "CopyIgnoredFile",
    "Attempting to Copy file that is excluded by .dockerignore",
    _DOCS + "copy-ignored-file/",
    lambda command, file: f"Attempting to {command} file {quote(file)} that is excluded by .dockerignore",
)
INVALID_DEFINITION_DESCRIPTION = Rule(
    "InvalidDefinitionDescription",
    "Comment for build stage or argument should follow the format: `# <arg/stage name> <description>`. "
    "If this is not intended to be a description comment, add an empty line or comment between the instruction "
    "and the comment.",
    _DOCS + "invalid-definition-description/",
    lambda instruction, name: f"Comment for {instruction} should follow the format: `# {name} <description>`",
    experimental=True,
)
EXPOSE_PROTO_CASING = Rule(
    "ExposeProtoCasing",
    "Protocol in EXPOSE instruction should be lowercase",
    _DOCS + "expose-proto-casing/",
    lambda port: f"Defined protocol '{port}' in EXPOSE instruction should be lowercase",
)
EXPOSE_INVALID_FORMAT = Rule(
    "ExposeInvalidFormat",
    "IP address and host-port mapping should not be used in EXPOSE instruction. "
    "This will become an error in a future release",
    _DOCS + "expose-invalid-format/",
    lambda port: f"EXPOSE instruction should not define an IP address or host-port mapping, found '{port}'",
)

RULES: tuple[Rule, ...] = tuple(value for value in list(globals().values()) if isinstance(value, Rule))
