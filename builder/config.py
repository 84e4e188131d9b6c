"""The configuration file, in the form of buildkitd.toml: registries, and the worker's limits and gc policy.

The file of a running buildkitd can be used as it is. Its keys that are about the daemon (sockets, logging, the containerd
worker) mean nothing to a process that ends with its build: they are named in one warning. Any other key that is not known is an
error: a misspelt one that changes nothing would be found out too late.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NoReturn, TypeVar

from builder.errors import UsageError
from builder.text.durations import parse_duration as parse_go_duration
from builder.text.times import NS
from builder.values import dataclass, field

if TYPE_CHECKING:
    from collections.abc import Mapping

    from builder.cache.types import PrunePolicy

_LIMIT = 16 << 20
T = TypeVar("T")
_GB = 1_000_000_000
_UNITS = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30, "t": 1 << 40, "p": 1 << 50}
# Keys of cmd/buildkitd/config/config.go that nothing here could follow; a table stands for all that is below it.
_DAEMON = frozenset(
    (
        *("debug", "trace", "root", "insecure-entitlements", "proxyNetwork", "log", "grpc", "otel", "dns", "history"),
        *("frontend", "provenanceEnvDir", "cache", "worker.containerd", "system.platformsCacheMaxAge", "worker.oci.enabled"),
        *("worker.oci.labels", "worker.oci.platforms", "worker.oci.rootless", "worker.oci.noProcessSandbox"),
        *("worker.oci.userRemapUnsupported", "worker.oci.binary", "worker.oci.proxySnapshotterPath"),
        *("worker.oci.defaultCgroupParent", "worker.oci.stargzSnapshotter", "worker.oci.apparmor-profile", "worker.oci.selinux"),
        *("worker.oci.networkMode", "worker.oci.cniConfigPath", "worker.oci.cniBinaryPath", "worker.oci.cniPoolSize"),
        *("worker.oci.bridgeName", "worker.oci.bridgeSubnet"),
    )
)


@dataclass(frozen=True, slots=True)
class RegistryConfig:
    """How to talk to one registry. ``http`` None: plain http for loopback only, as docker does. Paths are absolute or relative
    to the working folder. ``mirrors`` are ``host[:port][/path]``; each is talked to by its own entry."""

    mirrors: tuple[str, ...] = ()
    http: bool | None = None
    insecure: bool = False
    ca: tuple[str, ...] = ()
    keypairs: tuple[tuple[str, str], ...] = ()
    """(key file, certificate file)."""


@dataclass(frozen=True, slots=True)
class DiskSpace:
    """Bytes, or a percentage of the disk where ``bytes`` is 0; both 0: no bound."""

    bytes: int = 0
    percent: int = 0

    @classmethod
    def parse(cls, value: object) -> DiskSpace:
        """``512000000``, ``"512MB"`` (powers of 1024, as docker's go-units has it), ``"10%"``; ValueError otherwise."""
        if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
            return cls(value)
        if isinstance(value, str):
            text = value.strip().lower()
            if text.endswith("%") and text[:-1].isdecimal():
                return cls(percent=int(text[:-1]))
            number = text.rstrip("abcdefghijklmnopqrstuvwxyz ")
            unit = text[len(number) :].strip().removesuffix("b").removesuffix("i")
            if unit in _UNITS and number.replace(".", "", 1).isdecimal():
                return cls(int(float(number) * _UNITS[unit]))
        raise ValueError(f"invalid disk space {value}")

    def resolve(self, total: int) -> int:
        """Bytes on a disk of ``total`` bytes; a percentage is rounded up to a GB, as buildkitd does."""
        if self.bytes or not self.percent:
            return self.bytes
        return ((total * self.percent // 100) // (1 << 30) + 1) * _GB if total else 2 * _GB


@dataclass(frozen=True, slots=True)
class GCPolicy:
    """A rule of ``[[worker.oci.gcpolicy]]``; ``keep_duration_ns`` 0: no bound."""

    all: bool = False
    filters: tuple[str, ...] = ()
    keep_duration_ns: int = 0
    reserved_space: DiskSpace = field(default=DiskSpace())
    max_used_space: DiskSpace = field(default=DiskSpace())
    min_free_space: DiskSpace = field(default=DiskSpace())


@dataclass(frozen=True, slots=True)
class Config:
    """``snapshotter`` None: chosen by a probe. ``max_parallelism`` 0: any number of steps at once."""

    registries: Mapping[str, RegistryConfig] = field(default_factory=dict)
    gc: bool = True
    gc_policy: tuple[GCPolicy, ...] = ()
    reserved_space: DiskSpace = field(default=DiskSpace())
    max_used_space: DiskSpace = field(default=DiskSpace())
    min_free_space: DiskSpace = field(default=DiskSpace())
    max_parallelism: int = 0
    snapshotter: str | None = None
    registry_concurrency: int = 4
    cdi_disabled: bool = False
    cdi_folders: tuple[str, ...] = ()
    """Where CDI specifications are; none: buildkitd's default folders."""
    cdi_auto_allowed: tuple[str, ...] = ()
    """Devices, or kinds of them, that need no ``--allow device``."""
    ignored: tuple[str, ...] = ()
    """Keys of the file that are about a daemon."""

    @classmethod
    def load(cls, path: str | None = None) -> Config:
        """Read ``path``, or the file that PYBUILD_CONFIG names, or give the defaults. UsageError for anything wrong in it."""
        path = path or os.environ.get("PYBUILD_CONFIG") or None
        if path is None:
            return cls()
        from runtime.errors import UnsafePathError
        from runtime.linux.named import read_named

        try:
            data = read_named(path, _LIMIT)
        except OSError as e:
            raise UsageError(f"can't read config file {path}: {e.strerror}") from e
        except UnsafePathError as e:
            raise UsageError(f"can't read config file: {e}") from e
        return cls.parse(data, path)

    @classmethod
    def parse(cls, data: bytes, name: str = "config") -> Config:
        """As ``load``, from the file's bytes; ``name`` stands in messages."""
        import tomllib

        try:
            document = tomllib.loads(data.decode())
        except (UnicodeDecodeError, tomllib.TOMLDecodeError) as e:
            raise UsageError(f"{name}: {e}") from e
        return _Reader(name).config(document)

    def registry(self, host: str) -> RegistryConfig:
        """The entry for ``host[:port]``, or the defaults."""
        return self.registries.get(host, _DEFAULT_REGISTRY)

    def gc_policies(self, root: str) -> tuple[PrunePolicy, ...]:
        """The policies in effect for a state root, sizes in bytes: those of the file, else buildkitd's four default rules.

        Empty where gc is switched off.
        """
        if not self.gc:
            return ()
        from builder.cache.types import PrunePolicy

        status = os.statvfs(root)
        total = status.f_frsize * status.f_blocks
        return tuple(
            PrunePolicy(
                all=p.all,
                keep_duration_ns=p.keep_duration_ns,
                reserved_space=p.reserved_space.resolve(total),
                max_used_space=p.max_used_space.resolve(total),
                min_free_space=p.min_free_space.resolve(total),
                filters=p.filters,
            )
            for p in self.gc_policy or self._default_policies(total)
        )

    def _default_policies(self, total: int) -> tuple[GCPolicy, ...]:
        """cmd/buildkitd/config/gcpolicy.go."""
        spaces = (self.reserved_space, self.max_used_space, self.min_free_space)
        if not any(s.bytes or s.percent for s in spaces):
            reserved = DiskSpace(min(DiskSpace(percent=10).resolve(total), 10 * _GB))
            used = DiskSpace(min(DiskSpace(percent=80).resolve(total), 100 * _GB))
            spaces = (reserved, used, DiskSpace(percent=20))
        reserved, used, free = spaces
        reproducible = ("type==source.local", "type==exec.cachemount", "type==source.git.checkout")
        return (
            GCPolicy(filters=reproducible, keep_duration_ns=48 * 3600 * NS, max_used_space=DiskSpace(512_000_000)),
            GCPolicy(keep_duration_ns=60 * 24 * 3600 * NS, reserved_space=reserved, max_used_space=used, min_free_space=free),
            GCPolicy(reserved_space=reserved, max_used_space=used, min_free_space=free),
            GCPolicy(all=True, reserved_space=reserved, max_used_space=used, min_free_space=free),
        )


_DEFAULT_REGISTRY = RegistryConfig()


class _Reader:
    """Typed access to the document; every complaint names the file and the key's full path."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._ignored: list[str] = []

    def config(self, document: dict[str, object]) -> Config:
        self._known(document, "", {"registry", "worker", "system", "cdi"})
        worker = self._table(document, "worker", "")
        self._known(worker, "worker.", {"oci"})
        oci = self._table(worker, "oci", "worker.")
        known = {"gc", "gcpolicy", "max-parallelism", "snapshotter", "reservedSpace", "maxUsedSpace", "minFreeSpace"}
        known |= {"gckeepstorage"}
        self._known(oci, "worker.oci.", known)
        system = self._table(document, "system", "")
        self._known(system, "system.", {"maxRegistryConcurrency"})
        snapshotter = self._value(oci, "snapshotter", str, "worker.oci.", "auto")
        if snapshotter not in ("auto", "overlayfs", "overlay", "native"):
            self._fail("worker.oci.snapshotter", f"{snapshotter!r} is none of auto, overlayfs, native")
        cdi = self._table(document, "cdi", "")
        self._known(cdi, "cdi.", {"disabled", "specDirs", "autoAllowed"})
        registries = self._table(document, "registry", "")
        return Config(
            ignored=tuple(self._ignored),
            registries={host: self._registry(host, self._table(registries, host, "registry.")) for host in registries},
            gc=self._value(oci, "gc", bool, "worker.oci.", True),
            gc_policy=tuple(self._policy(p, "worker.oci.gcpolicy.") for p in self._tables(oci, "gcpolicy", "worker.oci.")),
            reserved_space=self._space(oci, "reservedSpace" if "reservedSpace" in oci else "gckeepstorage", "worker.oci."),
            max_used_space=self._space(oci, "maxUsedSpace", "worker.oci."),
            min_free_space=self._space(oci, "minFreeSpace", "worker.oci."),
            max_parallelism=self._count(oci, "max-parallelism", "worker.oci.", 0),
            snapshotter={"auto": None, "overlayfs": "overlay"}.get(snapshotter, snapshotter),
            registry_concurrency=self._count(system, "maxRegistryConcurrency", "system.", 4) or 4,
            cdi_disabled=self._value(cdi, "disabled", bool, "cdi.", False),
            cdi_folders=self._strings(cdi, "specDirs", "cdi."),
            cdi_auto_allowed=self._strings(cdi, "autoAllowed", "cdi."),
        )

    def _registry(self, host: str, table: dict[str, object]) -> RegistryConfig:
        at = f'registry."{host}".'
        self._known(table, at, {"mirrors", "http", "insecure", "ca", "keypair"})
        pairs = []
        for pair in self._tables(table, "keypair", at):
            self._known(pair, at + "keypair.", {"key", "cert"})
            pairs.append((self._value(pair, "key", str, at + "keypair."), self._value(pair, "cert", str, at + "keypair.")))
        return RegistryConfig(
            mirrors=self._strings(table, "mirrors", at),
            http=self._value(table, "http", bool, at) if "http" in table else None,
            insecure=self._value(table, "insecure", bool, at, False),
            ca=self._strings(table, "ca", at),
            keypairs=tuple(pairs),
        )

    def _policy(self, table: dict[str, object], at: str) -> GCPolicy:
        self._known(table, at, {"all", "filters", "keepDuration", "keepBytes", "reservedSpace", "maxUsedSpace", "minFreeSpace"})
        try:
            keep = parse_duration_ns(table.get("keepDuration", 0))
        except ValueError as e:
            self._fail(at + "keepDuration", str(e))
        return GCPolicy(
            all=self._value(table, "all", bool, at, False),
            filters=self._strings(table, "filters", at),
            keep_duration_ns=keep,
            # keepBytes is the old name (gcpolicy_unix.go reads it where the new one is missing).
            reserved_space=self._space(table, "reservedSpace" if "reservedSpace" in table else "keepBytes", at),
            max_used_space=self._space(table, "maxUsedSpace", at),
            min_free_space=self._space(table, "minFreeSpace", at),
        )

    def _known(self, table: dict[str, object], at: str, names: set[str]) -> None:
        unknown = sorted(set(table) - names)
        self._ignored += [at + k for k in unknown if at + k in _DAEMON]
        unknown = [k for k in unknown if at + k not in _DAEMON]
        if unknown:
            import difflib

            near = difflib.get_close_matches(unknown[0], names, 1)
            raise UsageError(
                f"{self._name}: unknown or unsupported key{'s' if len(unknown) > 1 else ''} {', '.join(at + k for k in unknown)}",
                hint=f"did you mean {at}{near[0]}?" if near else f"known here: {', '.join(sorted(names))}",
            )

    def _table(self, table: dict[str, object], key: str, at: str) -> dict[str, object]:
        return dict(self._value(table, key, dict, at, {}))

    def _tables(self, table: dict[str, object], key: str, at: str) -> list[dict[str, object]]:
        value = self._value(table, key, list, at, [])
        if not all(isinstance(v, dict) for v in value):
            self._fail(at + key, "is not an array of tables")
        return list(value)

    def _strings(self, table: dict[str, object], key: str, at: str) -> tuple[str, ...]:
        value = self._value(table, key, list, at, [])
        if not all(isinstance(v, str) for v in value):
            self._fail(at + key, "is not an array of strings")
        return tuple(value)

    def _space(self, table: dict[str, object], key: str, at: str) -> DiskSpace:
        try:
            return DiskSpace.parse(table.get(key, 0))
        except ValueError as e:
            self._fail(at + key, str(e))

    def _count(self, table: dict[str, object], key: str, at: str, default: int) -> int:
        value: int = self._value(table, key, int, at, default)
        if isinstance(value, bool) or value < 0:
            self._fail(at + key, "is not a count")
        return value

    def _value(self, table: dict[str, object], key: str, kind: type[T], at: str, default: T | None = None) -> T:
        value = table.get(key, default)
        if value is None:
            self._fail(at + key, "is missing")
        if not isinstance(value, kind):
            names: dict[type, str] = {str: "a string", bool: "true or false", int: "a number", list: "an array", dict: "a table"}
            self._fail(at + key, f"is not {names[kind]}")
        return value

    def _fail(self, key: str, why: str) -> NoReturn:
        raise UsageError(f"{self._name}: {key}: {why}")


def parse_duration_ns(value: object) -> int:
    """Nanoseconds from a number of seconds or from Go's ``48h30m``; ValueError otherwise."""
    if isinstance(value, int) and not isinstance(value, bool) and value >= 0:
        return int(value) * NS
    if isinstance(value, str):
        if value.isdecimal():
            return int(value) * NS
        try:
            nanoseconds = parse_go_duration(value)
        except ValueError:
            nanoseconds = -1
        if nanoseconds >= 0:
            return nanoseconds
    raise ValueError(f"invalid duration {value}")
