"""Answers of the resolver, each asked for once a build."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Iterable
from typing import TYPE_CHECKING, TypeAlias

from builder.oci.image import ImageConfig
from builder.values import dataclass
from frontend.convert.options import ResolveError

if TYPE_CHECKING:
    from builder.oci.platform import Platform
    from frontend.convert.options import MetaResolver, ResolveMode

_Key: TypeAlias = "tuple[str, str, Platform]"


@dataclass(frozen=True, slots=True)
class BaseImage:
    """``ref`` with digest, and the config as it was read."""

    ref: str
    config: ImageConfig


class ImageConfigs:
    """Remembers image configs and ignore files. ``prefetch`` asks for several at once."""

    __slots__ = ("_found", "_ignores", "_resolver", "mode")

    def __init__(self, resolver: MetaResolver, mode: ResolveMode) -> None:
        self._resolver = resolver
        self._found: dict[_Key, BaseImage | Exception] = {}
        self._ignores: dict[str, tuple[str, ...]] = {}
        self.mode: ResolveMode = mode

    def prefetch(self, keys: Iterable[_Key]) -> None:
        """Ask for all that are not known yet, in parallel; failures are kept for those who ask."""
        missing = [key for key in dict.fromkeys(keys) if key not in self._found]
        # In the caller's context each: what calls the caller's work off, calls theirs off.
        threads = [
            threading.Thread(target=contextvars.copy_context().run, args=(self._fetch, key), name="resolve") for key in missing[1:]
        ]
        for thread in threads:
            thread.start()
        if missing:
            self._fetch(missing[0])
        for thread in threads:
            thread.join()

    def image(self, ref: str, platform: Platform) -> BaseImage:
        """Raises ``ResolveError``."""
        return self._get(image_key(ref, platform))

    def oci_layout(self, name: str, ref: str, platform: Platform) -> BaseImage:
        """Raises ``ResolveError``."""
        return self._get((name, ref, platform))

    def ignore_patterns(self, name: str) -> tuple[str, ...]:
        """Patterns of the .dockerignore in the root of a named context."""
        if name not in self._ignores:
            from frontend.dockerignore import DEFAULT_NAME, read_patterns

            data = self._resolver.read_ignore(name)
            text = (data or b"").decode("utf-8", "surrogateescape")
            self._ignores[name] = read_patterns(text, f"context {name}: {DEFAULT_NAME}")
        return self._ignores[name]

    def _get(self, key: _Key) -> BaseImage:
        if key not in self._found:
            self._fetch(key)
        found = self._found[key]
        if isinstance(found, Exception):
            raise found
        return found

    def _fetch(self, key: _Key) -> None:
        name, ref, platform = key
        try:
            if name:
                answer = self._resolver.oci_layout_config(name, ref, platform)
            else:
                answer = self._resolver.image_config(ref, platform, self.mode)
            config = answer.config if isinstance(answer.config, ImageConfig) else ImageConfig.from_json(answer.config)
            self._found[key] = BaseImage(answer.ref, config)
        except ValueError as e:
            self._found[key] = ResolveError(f"failed to parse image config: {e}")
        except Exception as e:  # of whatever kind: it belongs to the one who asks, not to the thread
            self._found[key] = e


def image_key(ref: str, platform: Platform) -> _Key:
    """Key of an image that a registry has; those of OCI layouts lead with the context's name."""
    return ("", ref, platform)
