"""Image configs: the OCI image-spec's config.md with docker's additions (healthcheck, onbuild, shell), as BuildKit writes them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from builder.oci.platform import Platform
from builder.text import gojson
from builder.values import dataclass, field


@dataclass(frozen=True, slots=True)
class Healthcheck:
    """Durations in nanoseconds; ``test`` is ``("NONE",)``, ``("CMD", ...)`` or ``("CMD-SHELL", text)``; empty means inherit."""

    test: tuple[str, ...] = ()
    interval: int = 0
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


@dataclass(frozen=True, slots=True)
class History:
    """One line of an image's history; ``created`` is RFC 3339 or empty."""

    created: str = ""
    created_by: str = ""
    author: str = ""
    comment: str = ""
    empty_layer: bool = False


@dataclass(frozen=True, slots=True)
class ContainerConfig:
    """How containers of the image run. None of ``cmd``, ``entrypoint``: not set; an empty tuple: set to nothing."""

    user: str = ""
    exposed_ports: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None
    cmd: tuple[str, ...] | None = None
    args_escaped: bool = False
    volumes: tuple[str, ...] = ()
    working_dir: str = ""
    labels: tuple[tuple[str, str], ...] = ()
    stop_signal: str = ""
    healthcheck: Healthcheck | None = None
    onbuild: tuple[str, ...] = ()
    shell: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """The whole config document. ``diff_ids`` belong to the layers of the image and are set by the exporter."""

    platform: Platform
    config: ContainerConfig = field(default=ContainerConfig())
    created: str = ""
    author: str = ""
    diff_ids: tuple[str, ...] = ()
    history: tuple[History, ...] = ()

    @classmethod
    def from_json(cls, data: bytes) -> ImageConfig:
        """Read a config document; unknown fields are dropped, as BuildKit drops them. ValueError for anything malformed."""
        try:
            doc = json.loads(data)
            return _read(doc)
        except (TypeError, AttributeError, KeyError, RecursionError, UnicodeDecodeError) as e:
            raise ValueError(f"malformed image config: {e}") from e

    def to_json(self, more: Mapping[str, str] | None = None) -> bytes:
        """Go's JSON form with the top level sorted: what BuildKit's exporter writes (exporter/containerimage/writer.go).
        ``more``: fields that the image-spec does not know."""
        c, p = self.config, self.platform
        inner = _drop_empty(
            User=c.user,
            ExposedPorts={k: {} for k in sorted(c.exposed_ports)},
            Env=list(c.env),
            Entrypoint=None if c.entrypoint is None else list(c.entrypoint),
            Cmd=None if c.cmd is None else list(c.cmd),
            Volumes={k: {} for k in sorted(c.volumes)},
            WorkingDir=c.working_dir,
            Labels=dict(sorted(c.labels)),
            StopSignal=c.stop_signal,
            ArgsEscaped=c.args_escaped,
            Healthcheck=_healthcheck(c.healthcheck),
            OnBuild=list(c.onbuild),
            Shell=list(c.shell),
        )
        doc: dict[str, Any] = {
            **_drop_empty(author=self.author, created=self.created, variant=p.variant),
            **_drop_empty(**{"os.version": p.os_version, "os.features": list(p.os_features)}),
            "architecture": p.architecture,
            "os": p.os,
            "config": inner,
            "rootfs": {"type": "layers", "diff_ids": list(self.diff_ids)},
        }
        if self.history:
            doc["history"] = [_history(h) for h in self.history]
        doc.update(more or {})
        return gojson.encode(dict(sorted(doc.items())))


def _drop_empty(**fields: Any) -> dict[str, Any]:
    """Go's ``omitempty``; an empty list set on purpose (``CMD []``) counts as empty there too."""
    return {k: v for k, v in fields.items() if v}


def _healthcheck(h: Healthcheck | None) -> dict[str, Any] | None:
    if h is None:
        return None
    return _drop_empty(
        Test=list(h.test),
        Interval=h.interval,
        Timeout=h.timeout,
        StartPeriod=h.start_period,
        StartInterval=h.start_interval,
        Retries=h.retries,
    )


def _history(h: History) -> dict[str, Any]:
    return _drop_empty(
        created=h.created, created_by=h.created_by, author=h.author, comment=h.comment, empty_layer=h.empty_layer
    )


def _read(doc: dict[str, Any]) -> ImageConfig:
    if not isinstance(doc, dict):
        raise TypeError("not an object")
    c = _object(doc, "config")
    h = c.get("Healthcheck")
    return ImageConfig(
        platform=Platform(
            _str(doc, "os"),
            _str(doc, "architecture"),
            _str(doc, "variant"),
            _str(doc, "os.version"),
            _strings(doc, "os.features") or (),
        ),
        config=ContainerConfig(
            user=_str(c, "User"),
            exposed_ports=tuple(sorted(c.get("ExposedPorts") or {})),
            env=_strings(c, "Env") or (),
            entrypoint=_strings(c, "Entrypoint"),
            cmd=_strings(c, "Cmd"),
            args_escaped=bool(c.get("ArgsEscaped")),
            volumes=tuple(sorted(c.get("Volumes") or {})),
            working_dir=_str(c, "WorkingDir"),
            labels=tuple((str(k), str(v)) for k, v in sorted((c.get("Labels") or {}).items())),
            stop_signal=_str(c, "StopSignal"),
            healthcheck=None
            if h is None
            else Healthcheck(
                _strings(h, "Test") or (),
                int(h.get("Interval") or 0),
                int(h.get("Timeout") or 0),
                int(h.get("StartPeriod") or 0),
                int(h.get("StartInterval") or 0),
                int(h.get("Retries") or 0),
            ),
            onbuild=_strings(c, "OnBuild") or (),
            shell=_strings(c, "Shell") or (),
        ),
        created=_str(doc, "created"),
        author=_str(doc, "author"),
        diff_ids=_strings(_object(doc, "rootfs"), "diff_ids") or (),
        history=tuple(
            History(
                _str(e, "created"), _str(e, "created_by"), _str(e, "author"), _str(e, "comment"), bool(e.get("empty_layer"))
            )
            for e in doc.get("history") or ()
        ),
    )


def _object(doc: dict[str, Any], key: str) -> dict[str, Any]:
    value = doc.get(key)
    if value is None:
        return {}
    if not isinstance(value, dict):
        raise TypeError(f"{key} is not an object")
    return value


def _str(doc: dict[str, Any], key: str) -> str:
    value = doc.get(key)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise TypeError(f"{key} is not a string")
    return value


def _strings(doc: dict[str, Any], key: str) -> tuple[str, ...] | None:
    value = doc.get(key)
    if value is None:
        return None
    if not isinstance(value, list) or not all(isinstance(v, str) for v in value):
        raise TypeError(f"{key} is not a list of strings")
    return tuple(value)
