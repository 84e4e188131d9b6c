"""``--call=check|outline|targets``: questions about a Dockerfile that build nothing. Results are data, text and JSON."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.text.gojson import JSONObject
from builder.values import dataclass
from frontend.convert.convert import convert_file, decode, make_linter, parse_file
from frontend.convert.imageconfigs import ImageConfigs
from frontend.convert.syntax import external_frontend
from frontend.errors import FrontendError
from frontend.excerpt import excerpt
from frontend.instructions.parse import parse_stages
from frontend.outline import Outline, outline
from frontend.parser import parse
from frontend.tables import base64_text, location_json, table

if TYPE_CHECKING:
    from frontend.convert.options import ConvertOptions, MetaResolver
    from frontend.errors import Range
    from frontend.lint import Warning

__all__ = ["CheckResult", "Outline", "Target", "TargetList", "check", "list_targets", "outline"]


@dataclass(frozen=True, slots=True)
class CheckResult:
    """Findings in the order they are printed, and the error that stopped the conversion, if one did."""

    warnings: tuple[Warning, ...]
    error: FrontendError | None
    name: str
    source: bytes

    @property
    def status(self) -> int:
        """Exit code: 1 if anything was found."""
        return 1 if self.warnings or self.error is not None else 0

    def text(self) -> str:
        """Head line, findings with excerpts. The error is not in it: see ``error_text``."""
        if not self.warnings:
            return "" if self.error is not None else "Check complete, no warnings found.\n"
        count = len(self.warnings)
        head = "1 warning has been found!" if count == 1 else f"{count} warnings have been found!"
        text = f"Check complete, {head}\n" + "".join(map(self._finding, self.warnings))
        return text + "\n" if self.error is not None else text

    def error_text(self) -> str:
        """The error with its excerpt (goes to stderr), or empty."""
        if self.error is None:
            return ""
        return f"{self.error}\n{excerpt(self.name, self.source, self.error.ranges)}"

    def json(self) -> JSONObject:
        """The result.json of BuildKit's frontend.lint; of the source there is no LLB definition in it."""
        findings = [_finding_json(warning) for warning in self.warnings]
        source = {"filename": self.name, "data": base64_text(self.source), "language": "Dockerfile"}
        result: JSONObject = {"warnings": findings or None, "sources": [source]}
        if self.error is not None:
            result["buildError"] = {"message": str(self.error), "location": location_json(self.error.ranges)}
        return result

    def _finding(self, warning: Warning) -> str:
        url = f" - {warning.url}" if warning.url else ""
        place = excerpt(self.name, self.source, warning.ranges)
        return f"\nWARNING: {warning.rule}{url}\n{warning.message}\n{place}"


@dataclass(frozen=True, slots=True)
class Target:
    """A stage that can be built. ``name`` may be empty."""

    name: str
    description: str
    base: str
    platform: str
    default: bool
    location: tuple[Range, ...]


@dataclass(frozen=True, slots=True)
class TargetList:
    targets: tuple[Target, ...]
    source: bytes

    def text(self) -> str:
        rows = [(_shown_name(target), target.description) for target in self.targets]
        return table([("TARGET", "DESCRIPTION"), *rows], 1)

    def json(self) -> JSONObject:
        """The result.json of BuildKit's frontend.targets."""
        targets = [_target_json(target) for target in self.targets]
        return {"targets": targets, "sources": [base64_text(self.source)]}


def check(text: bytes, options: ConvertOptions, resolver: MetaResolver) -> CheckResult:
    """Run the linter. Without a target all stages are looked at; images are resolved as for a build.

    An error of the Dockerfile is part of the result; ``FrontendError`` is raised only for check options that can't be read.
    """
    lint = make_linter(text, options)
    images = ImageConfigs(resolver, options.image_resolve_mode)
    platform = options.target_platforms[0] if options.target_platforms else None
    error: FrontendError | None = None
    try:
        external_frontend(decode(text), options.build_args, images, options.build_platform)
        file = parse_file(text, lint)
        convert_file(file, platform, options, resolver, images, lint, all_stages=not options.target)
    except FrontendError as e:
        error = e
    return CheckResult(tuple(sorted(lint.warnings, key=_line)), error, options.dockerfile_name, text)


def list_targets(text: bytes) -> TargetList:
    """The stages of the file. Raises ``FrontendError``."""
    stages, _ = parse_stages(parse(decode(text)).nodes)
    last = len(stages) - 1
    targets = (
        Target(stage.name, stage.doc_comment, stage.base_name, stage.platform, number == last, stage.location)
        for number, stage in enumerate(stages)
    )
    return TargetList(tuple(targets), text)


def _line(warning: Warning) -> int:
    return warning.line


def _finding_json(warning: Warning) -> JSONObject:
    fields: JSONObject = {
        "ruleName": warning.rule,
        "description": warning.description,
        "url": warning.url,
        "detail": warning.message,
        "location": location_json(warning.ranges),
    }
    return {name: value for name, value in fields.items() if value or name in ("ruleName", "location")}


def _shown_name(target: Target) -> str:
    if not target.default:
        return target.name
    return f"{target.name} (default)" if target.name else "(default)"


def _target_json(target: Target) -> JSONObject:
    fields: JSONObject = {
        "name": target.name,
        "default": target.default,
        "description": target.description,
        "base": target.base,
        "platform": target.platform,
        "location": location_json(target.location),
    }
    return {name: value for name, value in fields.items() if value}
