"""Ops as BuildKit writes them in JSON to make keys of them (solver/llbsolver/ops, solver/pb/ops.pb.go and json.go).

The same op has the same digest here and there, so that each builder's remote cache hits in the other. JSON has a place for each
value, so two different ops have different digests; where BuildKit's form would lose that, ``digest_of`` or the caller gives None,
and a digest of our own is used.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence

from builder.graph.ops import (
    CacheMount,
    CopyAction,
    Diff,
    Exec,
    FileAction,
    MkdirAction,
    MkfileAction,
    Mount,
    Owner,
    SecretMount,
    SSHMount,
    SymlinkAction,
    TmpfsMount,
)
from builder.oci.digest import Digest
from builder.oci.platform import Platform
from builder.text import gojson
from builder.text.gojson import JSON, JSONObject

_NETWORKS = ("default", "host", "none")
_SECURITY = ("sandbox", "insecure")
_SHARING = ("shared", "private", "locked")
_ROOT = {"dest": "/"}
Value = Mapping[str, JSON]


def to_json(value: JSON) -> bytes | None:
    """As Go's encoding/json writes it. None for text that is not UTF-8: Go writes all such bytes alike."""
    try:
        return gojson.text(value).encode()
    except UnicodeEncodeError:
        return None


def digest_of(value: Value) -> Digest | None:
    data = to_json(value)
    return None if data is None else Digest.of(data)


def _plain_digest(value: Value) -> Digest:
    """Of what is ASCII."""
    digest = digest_of(value)
    assert digest is not None
    return digest


def selector_of(paths: Sequence[str]) -> Digest:
    """Names hold no NUL."""
    return Digest.of(b"\0".join(p.encode("utf-8", "surrogateescape") for p in paths))


def list_digest(digests: Sequence[Digest]) -> Digest:
    """Of the content of several paths."""
    return Digest.of("\0".join(digests).encode())


# ------------------------------------------------------------------------------------------------ sources
def source_digest(key: str) -> Digest:
    return Digest.of(f"buildkit.source.v0:{key}".encode())


def manifest_key(digest: Digest, platform: Platform) -> Digest:
    """Of an image by its manifest."""
    return _plain_digest({"Digest": digest, **_platform(platform)})


def _platform(p: Platform) -> JSONObject:
    more = _filled(Variant=p.variant, OSVersion=p.os_version, OSFeatures=list(p.os_features))
    return {"OS": p.os, "Arch": p.architecture, **more}


# ------------------------------------------------------------------------------------------------ exec
def exec_digest(op: Exec, platform: Platform) -> Digest | None:
    """``op`` without what doesn't count."""
    meta = _filled(
        args=list(op.args),
        env=list(op.env),
        cwd=op.cwd,
        user=op.user,
        extraHosts=[_filled(Host=name, IP=address) for name, address in op.extra_hosts],
        hostname=op.hostname,
        ulimit=[_filled(Name=u.name, Soft=u.soft, Hard=u.hard) for u in op.ulimits],
        cgroupParent=op.cgroup_parent,
        removeMountStubsRecursive=True,
        validExitCodes=[] if op.valid_exit_codes == (0,) else list(op.valid_exit_codes),
    )
    mounts = [_mount(m) for m in op.mounts]
    if op.shm_size:
        mounts.append({"input": -1, "dest": "/dev/shm", "output": -1, "mountType": 4, "TmpfsOpt": {"size": op.shm_size}})
    value = _filled(
        meta=meta,
        mounts=[] if mounts == [_ROOT] else mounts,
        network=_NETWORKS.index(op.network),
        security=_SECURITY.index(op.security),
        secretenv=[_filled(ID=s.id, name=s.name, optional=s.optional) for s in op.secret_env],
        cdiDevices=[_filled(name=d.name, optional=d.optional) for d in op.devices],
    )
    return digest_of({"Type": "buildkit.exec.v0", "Exec": value, **_platform(platform)})


def _mount(m: Mount) -> Value:
    kind, special = 0, {}
    match m.special:
        case SecretMount() as s:
            kind, special = 1, {"secretOpt": _filled(ID=s.id, uid=s.uid, gid=s.gid, mode=s.mode, optional=s.optional)}
        case SSHMount() as s:
            kind, special = 2, {"SSHOpt": _filled(ID=s.id, uid=s.uid, gid=s.gid, mode=s.mode, optional=s.optional)}
        case CacheMount() as c:
            kind, special = 3, {"cacheOpt": _filled(ID=c.id, sharing=_SHARING.index(c.sharing))}
        case TmpfsMount() as t:
            kind, special = 4, {"TmpfsOpt": _filled(size=t.size)}
    output = 0 if kind in (1, 2) else m.output  # not said of these
    return {**_filled(input=m.input, dest=m.dest, output=output, readonly=m.readonly, mountType=kind), **special}


# ------------------------------------------------------------------------------------------------ file
def file_digest(actions: Sequence[FileAction], bases: Sequence[int]) -> Digest | None:
    """``bases``: for each action the input that names of owners are looked up in. None where two actions of different kinds could
    look alike: their JSON does not say what they are."""
    written: list[str] = []
    for action, base in zip(actions, bases, strict=True):
        data = to_json(_action(action, base)) if _tells_itself(action) else None
        if data is None:
            return None
        written.append(base64.b64encode(data).decode())
    indexes = [[a.input, a.secondary if isinstance(a, CopyAction) else -1, a.output] for a in actions]
    value: JSONObject = {"Type": "buildkit.file.v0", "Actions": written}
    if not _usual(indexes):
        value["indexes"] = indexes
    return digest_of(value)


def _tells_itself(action: FileAction) -> bool:
    match action:
        case CopyAction(src=src, dest=dest):
            return bool(src and dest)
        case MkdirAction(make_parents=parents):
            return parents
        case MkfileAction(data=data):
            return bool(data)
        case SymlinkAction(new_path=path):
            return bool(path)
    return False


def _action(action: FileAction, base: int) -> Value:
    match action:
        case CopyAction() as a:
            return _filled(
                src=a.src,
                dest=a.dest,
                owner=_owner(a.owner, base),
                mode=0 if a.mode_text else -1 if a.mode is None else a.mode,
                followSymlink=a.follow_symlink,
                dirCopyContents=a.dir_copy_contents,
                attemptUnpackDockerCompatibility=a.attempt_unpack,
                createDestPath=a.create_dest_path,
                allowWildcard=a.allow_wildcard,
                allowEmptyWildcard=a.allow_empty_wildcard,
                timestamp=_time(a.timestamp),
                include_patterns=list(a.include),
                exclude_patterns=list(a.exclude),
                alwaysReplaceExistingDestPaths=a.always_replace,
                modeStr=a.mode_text,
                required_paths=list(a.required_paths),
            )
        case MkfileAction() as a:
            data = base64.b64encode(a.data).decode()
            return _filled(path=a.path, mode=a.mode, data=data, owner=_owner(a.owner, base), timestamp=_time(a.timestamp))
        case MkdirAction() as a:
            owner = _owner(a.owner, base)
            return _filled(path=a.path, mode=a.mode, makeParents=a.make_parents, owner=owner, timestamp=_time(a.timestamp))
        case SymlinkAction() as a:
            return _filled(oldpath=a.old_path, newpath=a.new_path, owner=_owner(a.owner, base), timestamp=_time(a.timestamp))
        case a:
            return _filled(path=a.path, allowNotFound=a.allow_not_found, allowWildcard=a.allow_wildcard)


def _owner(owner: Owner | None, base: int) -> Value | None:
    if owner is None:
        return None
    return {name: _user(who, base) for name, who in (("user", owner.user), ("group", owner.group)) if who is not None}


def _user(who: str | int, base: int) -> Value:
    return {"User": _filled(byName=_filled(name=who, input=base)) if isinstance(who, str) else _filled(byId=who)}


def _time(timestamp: int | None) -> int:
    return -1 if timestamp is None else timestamp


def _usual(indexes: Sequence[Sequence[int]]) -> bool:
    """One action after another on the first input, a second one to copy from, one output: not said (isDefaultIndexes)."""
    last = len(indexes) - 1
    return all(
        at == (0 if i == 0 else len(indexes) + i - 1) and other in (-1, 1) and output == (0 if i == last else -1)
        for i, (at, other, output) in enumerate(indexes)
    )


# ------------------------------------------------------------------------------------------------ merge, diff
def merge_digest(inputs: int) -> Digest:
    return _plain_digest({"Type": "buildkit.merge.v0", "Merge": {"inputs": [_filled(input=i) for i in range(inputs)]}})


def diff_digest(op: Diff) -> Digest:
    return _plain_digest({"Type": "buildkit.diff.v0", "Diff": {"lower": _filled(input=op.lower), "upper": _filled(input=op.upper)}})


def _filled(**fields: JSON) -> JSONObject:
    """omitempty: what is zero, empty or nil is left out; an empty object isn't."""
    return {name: value for name, value in fields.items() if value not in (None, 0, "", [])}
