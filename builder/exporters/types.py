"""What exporters are given: solved targets with their configs, and the ``--output`` that asks for them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from builder.errors import UsageError
from builder.text.strconv import truth_of
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
        import csv

        try:
            fields = next(csv.reader([text], strict=True), [])
        except csv.Error as e:
            raise UsageError(f"invalid --output {text!r}: {e}") from e
        if not fields or not text:
            raise UsageError("invalid --output: it is empty")
        if len(fields) == 1 and fields[0] == text and not text.startswith("type="):
            return cls("tar", "-") if text == "-" else cls("local", text)
        values: dict[str, str] = {}
        for part in fields:
            key, equals, value = part.partition("=")
            if not equals:
                raise UsageError(f"invalid value {part} in --output {text}")
            values[key.strip().lower()] = value
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

    def get(self, key: str, default: str = "") -> str:
        return dict(self.attrs).get(key, default)

    def flag(self, key: str, default: bool) -> bool:
        """Go's strconv.ParseBool, with ``key=`` meaning true."""
        value = dict(self.attrs).get(key)
        if value is None:
            return default
        flag = truth_of(value) if value else True
        if flag is None:
            raise UsageError(f"non-bool value {value!r} specified for {key}")
        return flag

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

    def refuse_unknown(self, known: frozenset[str]) -> None:
        """UsageError for the first key that the output type does not have: nothing is silently ignored."""
        for key, _ in self.attrs:
            if key not in known:
                hint = "options are " + ", ".join(sorted(known))
                raise UsageError(f"--output type={self.type}: unknown option {key!r}", hint=hint)
