"""The configuration file: what is read, and that nothing in it is passed over in silence."""

from __future__ import annotations

import os

import pytest

from builder.config import Config, DiskSpace
from builder.errors import UsageError

BUILDKITD = b"""
[registry."docker.io"]
  mirrors = ["mirror.example:5000", "core.example/proxy.docker.io"]
  http = true
  insecure = true
  ca = ["/etc/ca.pem"]
  [[registry."docker.io".keypair]]
    key = "/etc/key.pem"
    cert = "/etc/cert.pem"
[registry."mirror.example:5000"]
  http = false
[worker.oci]
  gc = true
  max-parallelism = 4
  snapshotter = "native"
  [[worker.oci.gcpolicy]]
    reservedSpace = "512MB"
    maxUsedSpace = "10%"
    keepDuration = "48h"
    filters = ["type==source.local"]
  [[worker.oci.gcpolicy]]
    all = true
    keepDuration = 172800
    minFreeSpace = 1024000000
"""


def test_no_file_gives_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("PYBUILD_CONFIG", raising=False)
    config = Config.load()
    assert config.gc
    assert config.snapshotter is None
    assert config.registry("docker.io").mirrors == ()


def test_the_environment_names_the_file(tmp_path: os.PathLike[str], monkeypatch: pytest.MonkeyPatch) -> None:
    path = os.path.join(tmp_path, "pybuild.toml")
    with open(path, "w") as file:
        file.write("[worker.oci]\nmax-parallelism = 3\n")
    monkeypatch.setenv("PYBUILD_CONFIG", path)
    assert Config.load().max_parallelism == 3


def test_buildkitds_form_is_read() -> None:
    config = Config.parse(BUILDKITD)
    hub = config.registry("docker.io")
    assert hub.mirrors == ("mirror.example:5000", "core.example/proxy.docker.io")
    assert (hub.http, hub.insecure, hub.ca, hub.keypairs) == (True, True, ("/etc/ca.pem",), (("/etc/key.pem", "/etc/cert.pem"),))
    assert config.registry("mirror.example:5000").http is False
    assert config.registry("elsewhere").http is None
    assert (config.max_parallelism, config.snapshotter) == (4, "native")
    first, second = config.gc_policy
    assert first.reserved_space == DiskSpace(512 << 20)
    assert first.max_used_space == DiskSpace(percent=10)
    assert first.keep_duration_ns == second.keep_duration_ns == 48 * 3600 * 10**9
    assert second.all
    assert second.min_free_space == DiskSpace(1024000000)


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[worker.oci]\nmax-paralelism = 1", "worker.oci.max-paralelism"),
        ("[worker.containerdd]\nenabled = true", "worker.containerdd"),
        ("[grcp]\naddress = []", "grcp"),
        ('[registry."docker.io"]\nmirror = []', 'registry."docker.io".mirror'),
        ("[[worker.oci.gcpolicy]]\nkeepByte = 1", "worker.oci.gcpolicy.keepByte"),
        ('[registry."a"]\nhttp = "yes"', 'registry."a".http: is not true or false'),
        ('[worker.oci]\nreservedSpace = "much"', "worker.oci.reservedSpace: invalid disk space much"),
        ('[[worker.oci.gcpolicy]]\nkeepDuration = "1 year"', "worker.oci.gcpolicy.keepDuration: invalid duration 1 year"),
        ('[worker.oci]\nsnapshotter = "zfs"', "worker.oci.snapshotter: 'zfs' is none of"),
        ("[worker.oci]\nmax-parallelism = -1", "worker.oci.max-parallelism: is not a count"),
        ('worker = "oci"', "worker: is not a table"),
        ("not toml", "pybuild.toml: "),
    ],
)
def test_what_is_not_understood_is_named(text: str, named: str) -> None:
    with pytest.raises(UsageError) as e:
        Config.parse(text.encode(), "pybuild.toml")
    assert named in str(e.value)
    assert "\n" not in str(e.value)


DAEMON = """
debug = true
root = "/var/lib/buildkit"
insecure-entitlements = ["network.host"]
[grpc]
  address = ["tcp://0.0.0.0:1234"]
  [grpc.tls]
    cert = "/etc/buildkit/tls.crt"
[history]
  maxAge = 172800
[worker.containerd]
  enabled = false
[worker.oci]
  enabled = true
  rootless = true
  max-parallelism = 3
  gckeepstorage = 9000
  [[worker.oci.gcpolicy]]
    keepBytes = 512000000
[frontend."gateway.v0"]
  enabled = false
"""


def test_the_file_of_a_daemon_can_be_used_and_what_means_nothing_is_named() -> None:
    config = Config.parse(DAEMON.encode())
    assert (config.max_parallelism, config.reserved_space.bytes) == (3, 9000)
    assert config.gc_policy[0].reserved_space.bytes == 512000000
    assert sorted(config.ignored) == [
        *["debug", "frontend", "grpc", "history", "insecure-entitlements", "root"],
        *["worker.containerd", "worker.oci.enabled", "worker.oci.rootless"],
    ]


def test_a_missing_file_is_a_usage_error() -> None:
    with pytest.raises(UsageError, match=r"can't read config file /nowhere/x\.toml: No such file"):
        Config.load("/nowhere/x.toml")


@pytest.mark.parametrize(
    ("text", "space"),
    [
        (5, DiskSpace(5)),
        ("10%", DiskSpace(percent=10)),
        ("1k", DiskSpace(1024)),
        ("1.5GiB", DiskSpace(3 << 29)),
        ("7 MB", DiskSpace(7 << 20)),
    ],
)
def test_disk_space_forms(text: object, space: DiskSpace) -> None:
    assert DiskSpace.parse(text) == space


def test_without_policies_buildkitds_four_rules_hold(tmp_path: os.PathLike[str]) -> None:
    policies = Config().gc_policies(str(tmp_path))
    assert [p.all for p in policies] == [False, False, False, True]
    assert policies[0].max_used_space == 512_000_000
    assert policies[3].reserved_space <= 10_000_000_000
    assert Config.parse(b"[worker.oci]\ngc = false").gc_policies(str(tmp_path)) == ()
