"""``RUN --mount`` and ``RUN --device``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast, get_args

from builder.text.quoting import quote
from builder.text.strconv import parse_bool
from builder.values import dataclass
from frontend import suggest
from frontend.errors import ParseError
from frontend.instructions.types import Device, Mount, MountType, ShareMode
from frontend.instructions.values import csv_fields, parse_ram_in_bytes, parse_uint32

T = TypeVar("T")
_KEYS = (
    "type", "from", "source", "target", "readonly", "id", "sharing", "required", "size", "mode", "uid", "gid", "src",
    "dst", "destination", "ro", "rw", "readwrite", "env",
)  # fmt: skip
_TYPES: tuple[str, ...] = get_args(MountType)
_SHARE_MODES: tuple[str, ...] = tuple(mode for mode in get_args(ShareMode) if mode)
_SYNONYMS = {"src": "source", "dst": "target", "destination": "target", "ro": "readonly", "rw": "readwrite"}
_OWNED = ("secret", "ssh", "cache")  # types that take mode, uid, gid


@dataclass(slots=True)
class _Draft:
    """A mount while its fields are read. ``read_only`` is None until the user says something of it."""

    fields: dict[str, Any]
    type: str = "bind"
    read_only: bool | None = None

    def only_for(self, key: str, *types: str) -> None:
        if self.type not in types:
            raise ParseError(f"unexpected key '{key}' for mount type '{self.type}'")


def mount_from(value: str) -> Mount:
    """First reading of a ``--mount`` value, before any expansion: ``from`` alone, which may hold no variable."""
    from_ = ""
    for field in _fields(value, "mounts"):
        key, equals, text = field.partition("=")
        if not equals or key.lower() != "from":
            continue
        dollar = text.find("$")
        if dollar not in (-1, len(text) - 1):
            raise ParseError("'from' doesn't support variable expansion, define alias stage instead")
        from_ = text
    return Mount(read_only=True, from_=from_)


def parse_mount(value: str, expand: Callable[[str], str]) -> Mount:
    """A ``--mount`` value with its variables expanded (each field's value by itself). Raises ``ParseError``."""
    draft = _Draft({})
    for field in _fields(value, "mounts"):
        key, equals, text = field.partition("=")
        key = key.lower()
        if equals:
            _set(draft, key, expand(text), field)
        else:
            _set_word(draft, key, field)
    return _finish(draft)


def _fields(value: str, what: str) -> list[str]:
    try:
        return csv_fields(value)
    except ParseError as e:
        raise ParseError(f"failed to parse csv {what}: {e}") from None


def _set_word(draft: _Draft, key: str, field: str) -> None:
    match _SYNONYMS.get(key, key):
        case "readonly":
            draft.read_only = True
        case "readwrite":
            draft.read_only = False
        case "required":
            draft.only_for(key, "secret", "ssh")
            draft.fields["required"] = True
        case _:
            raise ParseError(f"invalid field '{field}' must be a key=value pair")


def _set(draft: _Draft, key: str, value: str, field: str) -> None:
    fields = draft.fields
    match _SYNONYMS.get(key, key):
        case "type":
            draft.type = _one_of(value, _TYPES, "mount type")
        case "from":
            fields["from_"] = value
        case "source" | "target" | "env" as name:
            fields[name] = value
        case "id":
            fields["cache_id"] = value
        case "readonly":
            draft.read_only = _checked(parse_bool, key, value)
        case "readwrite":
            draft.read_only = not _checked(parse_bool, key, value)
        case "required":
            draft.only_for(key, "secret", "ssh")
            fields["required"] = _checked(parse_bool, key, value)
        case "size":
            draft.only_for(key, "tmpfs")
            fields["size_limit"] = _checked(parse_ram_in_bytes, key, value)
        case "sharing":
            fields["cache_sharing"] = _one_of(value, _SHARE_MODES, "sharing value")
        case "mode" | "uid" | "gid" as name:
            try:
                fields[name] = parse_uint32(value, 8 if name == "mode" else 10)
            except ParseError:
                raise ParseError(f"invalid value {value} for {name}") from None
        case _:
            raise suggest.parse_error(f"unexpected key '{key}' in '{field}'", key, _KEYS)


def _one_of(value: str, allowed: tuple[str, ...], what: str) -> str:
    lowered = value.lower()
    if lowered not in allowed:
        raise suggest.parse_error(f"unsupported {what} {quote(value)}", value, allowed)
    return lowered


def _checked(parse: Callable[[str], T], key: str, value: str) -> T:
    try:
        return parse(value)
    except (ParseError, ValueError):
        raise ParseError(f"invalid value for {key}: {value}") from None


def _finish(draft: _Draft) -> Mount:
    fields, kind = draft.fields, draft.type
    if kind not in _OWNED:
        for name in ("mode", "uid", "gid"):
            if name in fields:
                raise ParseError(f"{name} not allowed for {quote(kind)} type mounts")
    read_only = kind not in ("cache", "tmpfs") if draft.read_only is None else draft.read_only
    mount = Mount(type=cast(MountType, kind), read_only=read_only, **fields)
    if kind == "secret":
        _check_secret(mount)
    if mount.cache_sharing and kind != "cache":
        raise ParseError(f"invalid cache sharing set for {kind} mount")
    return mount


def _check_secret(mount: Mount) -> None:
    if mount.from_:
        raise ParseError("secret mount should not have a from")
    if mount.cache_sharing:
        raise ParseError("secret mount should not define sharing")
    if not (mount.source or mount.target or mount.cache_id):
        raise ParseError("invalid secret mount. one of source, target required")
    if mount.source and mount.cache_id:
        raise ParseError("both source and id can't be set")


def parse_device(value: str) -> Device:
    """A ``--device`` value: ``name=vendor.com/class=device`` or the name alone, and ``required``."""
    name, required = "", False
    for field in _fields(value, "devices"):
        key, equals, text = field.partition("=")
        key = key.lower()
        if key == "required":
            required = _checked(parse_bool, key, text) if equals else True
        elif key == "name" and equals:
            if name:
                raise ParseError(f"device name already set to {name}")
            name = text
        elif not name:
            name = field  # a CDI name has an equals sign of its own
        elif not equals:
            raise ParseError(f"invalid field '{field}' must be a key=value pair")
        else:
            raise suggest.parse_error(f"unexpected key '{key}' in '{field}'", key, ("name", "required"))
    return Device(name, required)
