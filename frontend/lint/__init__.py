"""BuildKit's build checks: the rules, the linter that runs those which are on, and the rules that need the file alone."""

from __future__ import annotations

from frontend.lint.linter import LintConfig, Linter, Warning, linter_for, parse_lint_options

__all__ = ["LintConfig", "Linter", "Warning", "linter_for", "parse_lint_options"]
