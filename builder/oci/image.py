"""Image configs: the OCI image-spec's config.md with docker's additions (healthcheck, onbuild, shell), as BuildKit writes them."""

from __future__ import annotations

from collections.abc import Mapping

from builder.oci.fields import Fields, read
from builder.oci.manifest import platform_of
from builder.oci.platform import Platform
from builder.text import gojson
from builder.text.gojson import JSON, JSONObject
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
        """Read a config document; unknown fields are dropped, as BuildKit drops them. MalformedError for anything malformed."""
        return _read(read(data))

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
        doc: JSONObject = {
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


def _drop_empty(**fields: JSON) -> JSONObject:
    """Go's ``omitempty``; an empty list set on purpose (``CMD []``) counts as empty there too."""
    return {k: v for k, v in fields.items() if v}


def _healthcheck(h: Healthcheck | None) -> JSONObject | None:
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


def _history(h: History) -> JSONObject:
    return _drop_empty(
        created=h.created, created_by=h.created_by, author=h.author, comment=h.comment, empty_layer=h.empty_layer
    )


def _read(doc: Fields) -> ImageConfig:
    return ImageConfig(
        platform=platform_of(doc),
        config=_read_container(doc.object("config")),
        created=doc.time("created"),
        author=doc.text("author"),
        diff_ids=doc.object("rootfs").texts("diff_ids") or (),
        history=tuple(
            History(e.time("created"), e.text("created_by"), e.text("author"), e.text("comment"), e.flag("empty_layer"))
            for e in doc.objects("history")
        ),
    )


def _read_container(c: Fields) -> ContainerConfig:
    return ContainerConfig(
        user=c.text("User"),
        exposed_ports=c.names("ExposedPorts"),
        env=c.texts("Env") or (),
        entrypoint=c.texts("Entrypoint"),
        cmd=c.texts("Cmd"),
        args_escaped=c.flag("ArgsEscaped"),
        volumes=c.names("Volumes"),
        working_dir=c.text("WorkingDir"),
        labels=c.pairs("Labels"),
        stop_signal=c.text("StopSignal"),
        healthcheck=_read_health(c.object("Healthcheck")) if "Healthcheck" in c else None,
        onbuild=c.texts("OnBuild") or (),
        shell=c.texts("Shell") or (),
    )


def _read_health(h: Fields) -> Healthcheck:
    durations = ("Interval", "Timeout", "StartPeriod", "StartInterval", "Retries")
    return Healthcheck(h.texts("Test") or (), *map(h.integer, durations))
