"""What exporters are given: solved targets with their configs, and the ``--output`` that asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import UsageError
from builder.text.fields import Values, flag_fields, key_values
from builder.values import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from builder.cache.refs import ImmutableRef
    from builder.content.types import Compression, Layer
    from builder.oci.image import ImageConfig
    from builder.oci.platform import Platform
    from builder.oci.reference import Reference

    InlineCache = Callable[[Sequence[Layer], Compression], Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class SolvedTarget:
    """A target that was built. ``ref`` is None for an image without layers; ``base`` is the config of its FROM image, if any.
    ``inline_cache`` makes what is written into the config for later builds."""

    platform: Platform
    ref: ImmutableRef | None
    config: ImageConfig
    base: ImageConfig | None = None
    inline_cache: InlineCache | None = None


@dataclass(frozen=True, slots=True)
class BuildOutput:
    """All targets of one build. ``multi``: an index over platforms, even over one. ``epoch``: SOURCE_DATE_EPOCH, seconds."""

    targets: tuple[SolvedTarget, ...]
    multi: bool = False
    epoch: int | None = None


EPOCH_KEY = "source-date-epoch"
IMAGE_TYPES = ("image", "oci", "docker")
TYPES = ("image", "oci", "docker", "local", "tar", "cacheonly", "registry")


@dataclass(frozen=True, slots=True)
class OutputSpec:
    """One ``--output``: ``type``, ``dest`` (``-`` is standard output) and the other keys as they were given."""

    type: str
    dest: str = ""
    attrs: tuple[tuple[str, str], ...] = field(default=())

    @classmethod
    def parse(cls, text: str) -> OutputSpec:
        """``type=oci,dest=F``; ``DIR`` alone is type=local, ``-`` alone is type=tar to standard output (docker buildx's rules)."""
        fields = flag_fields(text, "output")
        if len(fields) == 1 and fields[0] == text and not text.startswith("type="):
            return cls("tar", "-") if text == "-" else cls("local", text)
        values = key_values(fields, "output")
        kind = values.pop("type", "")
        if not kind:
            raise UsageError(f"type is required for output: {text}", hint="for example type=oci,dest=image.tar")
        if kind not in TYPES:
            raise UsageError(f"--output type {kind!r} is not supported", hint="types are " + ", ".join(TYPES))
        if kind == "registry":
            kind, values["push"] = "image", "true"
        dest = values.pop("dest", "")
        if kind == "local" and not dest:
            raise UsageError("dest is required for local output")
        return cls(kind, dest, tuple(sorted(values.items())))

    @property
    def is_archive(self) -> bool:
        """``dest`` is a file."""
        return self.type == "tar" or (self.type in ("oci", "docker") and self.flag("tar", True))

    @property
    def is_folder(self) -> bool:
        """``dest`` is a folder."""
        return self.type == "local" or (self.type in ("oci", "docker") and not self.flag("tar", True))

    @property
    def values(self) -> Values:
        """The other keys, to be read by type."""
        return Values(f"--output type={self.type}", dict(self.attrs))

    def get(self, key: str, default: str = "") -> str:
        return self.values.get(key, default)

    def flag(self, key: str, default: bool) -> bool:
        return self.values.flag(key, default)

    def epoch(self, default: int | None) -> int | None:
        """The key ``source-date-epoch``, which wins over the build's own value; empty is no epoch. UsageError if not a number."""
        value = dict(self.attrs).get(EPOCH_KEY)
        if not value:
            return default if value is None else None
        if not value.lstrip("+-").isdecimal() or not value.isascii() or len(value) - len(value.lstrip("+-")) > 1:
            raise UsageError(f'invalid {EPOCH_KEY}: parsing "{value}": invalid syntax', hint="it is a number of seconds since 1970")
        return int(value)

    def names(self) -> list[Reference]:
        """The images of the key ``name``, a comma list."""
        from builder.oci.reference import Reference

        out = []
        for name in filter(None, self.get("name").split(",")):
            try:
                out.append(Reference.parse(name).with_default_tag())
            except ValueError as e:
                raise UsageError(f"failed to parse {name}: {e}") from e
        return out
