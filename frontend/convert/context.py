"""What all stages of one conversion share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from builder.values import dataclass, replace

if TYPE_CHECKING:
    from builder.graph.vertex import Edge
    from builder.oci.platform import Platform
    from builder.text.patterns import PatternMatcher
    from frontend.convert.contexts import NamedContexts
    from frontend.convert.imageconfigs import ImageConfigs
    from frontend.convert.options import ConvertOptions
    from frontend.convert.stage import Stages
    from frontend.lint import Linter
    from frontend.shell import Lex


@dataclass(frozen=True, slots=True)
class ConvertContext:
    """One Dockerfile for one platform (BuildKit's dispatchContext).

    ``build_args``   those of the options, SOURCE_DATE_EPOCH resolved
    ``global_args``  predefined arguments and the ARGs before the first FROM
    ``implicit``     no platform was asked for: the base image decides
    ``main``         what COPY without --from reads
    ``ignore``       the matcher of the main context's .dockerignore, None without one
    ``all_stages``   stages that the target does not need are converted too (for --check)
    """

    options: ConvertOptions
    build_args: Mapping[str, str]
    global_args: Mapping[str, str]
    target_platform: Platform
    implicit: bool
    multi_platform: bool
    lex: Lex
    lint: Linter
    images: ImageConfigs
    contexts: NamedContexts
    stages: Stages
    main: Edge
    ignore: PatternMatcher | None
    proxy_env: tuple[str, ...]
    cache_namespace: str
    hostname: str
    epoch: int | None
    all_stages: bool = False

    @property
    def asked_platform(self) -> Platform | None:
        """The platform that was asked for, None if none was."""
        return None if self.implicit else self.target_platform

    def with_lint(self, lint: Linter) -> ConvertContext:
        return self if lint is self.lint else replace(self, lint=lint)
