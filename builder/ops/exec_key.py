"""The key of an ExecOp: what of the definition counts, and when content of an input does (BuildKit:
solver/llbsolver/ops/exec.go)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from builder.errors import StepError
from builder.files.types import ChecksumOptions
from builder.graph.ops import NO_INPUT, NO_LIMITS, CacheMount, Exec, Mount, SecretMount, SSHMount, TmpfsMount
from builder.graph.vertex import canonical_json, encode
from builder.oci.digest import Digest, digest_parts
from builder.oci.platform import Platform
from builder.ops.llb_json import exec_digest, list_digest, selector_of
from builder.solver.types import CacheMap, CacheMapDep, FileListing, OpContext
from builder.text.paths import rooted
from builder.text.quoting import quote
from builder.values import replace

if TYPE_CHECKING:
    from builder.ops.refs import Ref


def cache_map_of(op: Exec, inputs: int, platform: Platform) -> CacheMap[Ref]:
    """Not in the key: proxy variables, secret values, addresses of extra hosts, names of cache folders; parts of inputs are in the
    selectors. StepError for a mount of an input that isn't there."""
    counted = replace(
        op,
        proxy_env=(),
        resources=NO_LIMITS,
        extra_hosts=tuple((name, "") for name, _ in op.extra_hosts),
        mounts=tuple(_counted(m) for m in op.mounts),
    )
    digest = exec_digest(counted, platform)
    if digest is None:
        digest = digest_parts("exec", canonical_json(encode(counted)), canonical_json(encode(platform)))
    return CacheMap(digest, _deps(op, inputs), _parts(op, platform))


def _counted(mount: Mount) -> Mount:
    mount = replace(mount, selector="")
    special = mount.special
    if isinstance(special, CacheMount) and not _default_cache_mount(special, mount.dest):
        mount = replace(mount, special=CacheMount(""))
    return mount


def _default_cache_mount(special: CacheMount, dest: str) -> bool:
    """The id that a Dockerfile's cache mount has without ``id=``: its target, maybe in a namespace."""
    return special.sharing == "shared" and (special.id == dest or special.id.partition("/")[2] == dest)


def _parts(op: Exec, platform: Platform) -> tuple[tuple[str, str], ...]:
    parts = [("command", " ".join(op.args)), ("workdir", op.cwd), ("user", op.user), ("platform", str(platform))]
    parts += [(f"env {name}", value) for name, _, value in (e.partition("=") for e in op.env)]
    parts += [("network", op.network), ("security", op.security), ("hostname", op.hostname)]
    parts += [(f"mount {m.dest}", _mount_text(m)) for m in op.mounts if m.dest != "/"]
    parts += [(f"secret env {s.name}", s.id) for s in op.secret_env]
    parts += [("hosts", " ".join(name for name, _ in op.extra_hosts))]
    parts += [("ulimits", " ".join(f"{u.name}={u.soft}:{u.hard}" for u in op.ulimits))]
    parts += [("shm size", str(op.shm_size or "")), ("cgroup parent", op.cgroup_parent)]
    return tuple((name, value) for name, value in parts if value)


def _mount_text(mount: Mount) -> str:
    """A mount for people, by what counts of it. A secret by its name alone."""
    match mount.special:
        case None:
            words = ["bind", f"from {rooted(mount.selector)}" if mount.input != NO_INPUT else ""]
        case CacheMount(id=id, sharing=sharing):
            counts = _default_cache_mount(mount.special, mount.dest) and id.strip("/") != mount.dest.strip("/")
            words = ["cache", id if counts else "", sharing if counts else ""]
        case TmpfsMount(size=size):
            words = ["tmpfs", str(size or "")]
        case SecretMount(id=id):
            words = ["secret", id]
        case SSHMount(id=id):
            words = ["ssh", id]
    return " ".join(word for word in (*words, "read-only" if mount.readonly else "") if word)


def _deps(op: Exec, inputs: int) -> tuple[CacheMapDep[Ref], ...]:
    selectors: list[list[str]] = [[] for _ in range(inputs)]
    by_content = [True] * inputs
    for mount in op.mounts:
        if mount.input == NO_INPUT or (mount.special is not None and not isinstance(mount.special, CacheMount)):
            continue
        if not 0 <= mount.input < inputs:
            raise StepError(f"invalid mount input {mount.input} of {mount.dest}")
        selector = rooted(mount.selector)
        selectors[mount.input].append(selector)
        by_content[mount.input] = by_content[mount.input] and _content_counts(mount, selector)
    return tuple(_dep(paths, content) if paths else CacheMapDep() for paths, content in zip(selectors, by_content, strict=True))


def _dep(paths: Sequence[str], content: bool) -> CacheMapDep[Ref]:
    selector = selector_of(paths)
    if not content:
        return CacheMapDep(selector)
    selections = [(path, _options(path)) for path in minimal(paths)]

    def listing(result: Ref, context: OpContext) -> FileListing:
        from builder.ops.listing import Listing

        return Listing(selections)(result, context)

    return CacheMapDep(selector, _Content(selections), listing)


def _options(path: str) -> ChecksumOptions:
    return ChecksumOptions(follow_links=path != "/")


def _content_counts(mount: Mount, selector: str) -> bool:
    """Can a result be reused when only the selected content is the same? Not when the mount becomes an output and unselected
    files are in it: they would be those of another input. Never for the root: hashing it costs more than it gains."""
    return mount.dest != "/" and (mount.output == NO_INPUT or mount.readonly or selector == "/")


def minimal(paths: Sequence[str]) -> tuple[str, ...]:
    """Sorted, without those below others; ("/",) when the whole counts."""
    unique = set(paths)
    if "/" in unique:
        return ("/",)
    return tuple(sorted(p for p in unique if not any(p != o and p.startswith(o + "/") for o in unique)))


class _Content:
    """Checksum of the selected paths of a result."""

    def __init__(self, selections: Sequence[tuple[str, ChecksumOptions]]) -> None:
        self._selections = selections

    def __call__(self, result: Ref, context: OpContext) -> Digest:
        from builder.ops.refs import checksum

        ref = result
        digests: list[Digest] = []
        for path, options in self._selections:
            try:
                digests.append(checksum(ref, path, options, context))
            except FileNotFoundError as e:
                raise StepError(f"failed to calculate checksum of ref {ref.id}: {quote(path)}: not found") from e
        return list_digest(digests)
