"""What enters the key of a RUN."""

from __future__ import annotations

from typing import Any

import pytest

from builder.errors import StepError
from builder.graph.ops import CacheMount, Exec, Mount, SecretEnv, SecretMount, SSHMount, TmpfsMount
from builder.graph.vertex import Vertex
from builder.oci.digest import Digest
from builder.oci.platform import Platform
from builder.ops.exec_key import cache_map_of, minimal
from builder.solver.types import CacheMap, OpContext
from builder.values import replace

LINUX = Platform("linux", "amd64")
ROOT = Mount("/", 0, 0)
RUN = Exec(("/bin/sh", "-c", "make"), env=("A=1",), mounts=(ROOT,))


def key(op: Exec, inputs: int = 1, platform: Platform = LINUX) -> CacheMap:
    return cache_map_of(op, inputs, platform)


@pytest.mark.parametrize(
    "change",
    [
        {"args": ("/bin/sh", "-c", "make all")},
        {"env": ("A=2",)},
        {"cwd": "/src"},
        {"user": "app"},
        {"network": "none"},
        {"security": "insecure"},
        {"hostname": "h"},
        {"extra_hosts": (("h", "1.1.1.1"),)},
        {"secret_env": (SecretEnv("s", "S"),)},
        {"shm_size": 1},
        {"mounts": (ROOT, Mount("/t", special=TmpfsMount()))},
    ],
    ids=lambda c: next(iter(c)),
)
def test_counts(change: dict[str, Any]) -> None:
    assert key(replace(RUN, **change)).digest != key(RUN).digest


def test_platform_counts() -> None:
    assert key(RUN, platform=Platform("linux", "arm64")).digest != key(RUN).digest


def test_arguments_are_not_joined() -> None:
    """["a b"] is not ["a", "b"]."""
    assert key(replace(RUN, args=("a b",))).digest != key(replace(RUN, args=("a", "b"))).digest


def test_proxies_do_not_count() -> None:
    assert key(replace(RUN, proxy_env=("HTTP_PROXY=http://p",))).digest == key(RUN).digest


def test_addresses_of_extra_hosts_do_not_count() -> None:
    """The name does: a step may find out that it resolves."""
    one, two = (replace(RUN, extra_hosts=(("h", ip),)) for ip in ("1.1.1.1", "2.2.2.2"))
    assert key(one).digest == key(two).digest


def cached(id: str, sharing: Any = "shared") -> Exec:
    return replace(RUN, mounts=(ROOT, Mount("/c", special=CacheMount(id, sharing))))


def test_names_of_cache_folders_do_not_count() -> None:
    assert key(cached("x")).digest == key(cached("y", "locked")).digest


def test_the_name_a_cache_folder_has_by_default_counts() -> None:
    """BuildKit keeps it, so that keys of older versions still match; in a namespace too."""
    assert key(cached("/c")).digest != key(cached("x")).digest
    assert key(cached("ns//c")).digest != key(cached("x")).digest


def test_the_part_of_an_input_is_a_selector() -> None:
    """It is not in the digest: content decides."""
    ops = [replace(RUN, mounts=(ROOT, Mount("/m", 1, selector=s, readonly=True))) for s in ("a", "b")]
    maps = [key(op, 2) for op in ops]
    assert maps[0].digest == maps[1].digest
    assert maps[0].deps[1].selector != maps[1].deps[1].selector


def content_counts(mount: Mount) -> bool:
    return key(replace(RUN, mounts=(ROOT, mount)), 2).deps[1].content is not None


def test_content_counts_where_it_is_safe() -> None:
    """A mount that becomes an output holds files that were not selected: only its whole content may stand for it."""
    assert content_counts(Mount("/m", 1, selector="a"))
    assert content_counts(Mount("/m", 1, selector="a", readonly=True, output=1))
    assert content_counts(Mount("/m", 1, output=1))
    assert not content_counts(Mount("/m", 1, selector="a", output=1))


def test_content_of_the_root_never_counts() -> None:
    assert key(RUN).deps[0].content is None
    assert key(replace(RUN, mounts=(ROOT, Mount("/self", 0, readonly=True)))).deps[0].content is None


def test_one_unsafe_mount_of_an_input_is_enough() -> None:
    op = replace(RUN, mounts=(ROOT, Mount("/a", 1, selector="x", output=1), Mount("/b", 1, readonly=True)))
    assert key(op, 2).deps[1].content is None


def test_secrets_agents_and_tmpfs_have_no_input() -> None:
    specials = (SecretMount("s"), SSHMount("default"), TmpfsMount())
    op = replace(RUN, mounts=(ROOT, *(Mount(f"/{i}", special=s) for i, s in enumerate(specials))))
    assert len(key(op).deps) == 1


def test_an_input_that_is_not_there() -> None:
    with pytest.raises(StepError, match="invalid mount input 3 of /m"):
        key(replace(RUN, mounts=(ROOT, Mount("/m", 3))))


def test_parts_name_what_counts_and_no_secrets() -> None:
    op = replace(RUN, secret_env=(SecretEnv("token", "TOKEN"),))
    parts = dict(key(op).parts)
    assert parts["command"] == "/bin/sh -c make"
    assert parts["env A"] == "1"
    assert parts["secret env TOKEN"] == "token"


@pytest.mark.parametrize(
    ("mount", "text"),
    [
        (Mount("/m", 1, selector="src", readonly=True), "bind from /src read-only"),
        (Mount("/m"), "bind"),
        (Mount("/m", special=CacheMount("//m")), "cache"),
        (Mount("/m", special=CacheMount("mine", "locked")), "cache"),
        (Mount("/m", special=CacheMount("ns//m")), "cache ns//m shared"),
        (Mount("/m", special=TmpfsMount(4096)), "tmpfs 4096"),
        (Mount("/m", special=SecretMount("token")), "secret token"),
        (Mount("/m", special=SSHMount("default")), "ssh default"),
    ],
)
def test_a_mount_is_told_by_what_counts_of_it(mount: Mount, text: str) -> None:
    assert dict(key(replace(RUN, mounts=(ROOT, mount)), 2).parts)["mount /m"] == text


class Ref:
    id = "ref"

    def __init__(self) -> None:
        self.asked: list[tuple[str, bool]] = []

    def checksum(self, path: str, options: Any) -> Digest:
        if path == "/missing":
            raise FileNotFoundError(path)
        self.asked.append((path, options.follow_links))
        return Digest.of(path.encode())


def ask(*selectors: str) -> list[tuple[str, bool]]:
    ref = Ref()
    op = replace(RUN, mounts=(ROOT, *(Mount(f"/m{i}", 1, selector=s, readonly=True) for i, s in enumerate(selectors))))
    content = key(op, 2).deps[1].content
    assert content is not None
    content(ref, OpContext(Vertex(op)))  # type: ignore[arg-type]
    return ref.asked


def test_content_is_that_of_the_selected_paths() -> None:
    """Links are followed; paths below others add nothing; the whole is the whole."""
    assert ask("b", "a/x", "a", "ab") == [("/a", True), ("/ab", True), ("/b", True)]
    assert ask("a", "") == [("/", False)]


def test_a_selected_path_that_is_missing() -> None:
    with pytest.raises(StepError, match='failed to calculate checksum of ref ref: "/missing": not found'):
        ask("missing")


def test_minimal_keeps_names_that_only_begin_alike() -> None:
    assert minimal(["/foo", "/foobar", "/foo/x"]) == ("/foo", "/foobar")
