"""The files of the result without an image around them: type=local (a folder) and type=tar."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterator
from contextlib import suppress
from typing import TYPE_CHECKING

from builder.errors import StoreError, UsageError
from builder.exporters.types import EPOCH_KEY, BuildOutput
from builder.files.copying import Manner, copy_entry, copy_metadata, set_times
from builder.files.members import add_member, member_of
from builder.files.owners import current
from builder.files.tar.entry import DIR, LINK, REG, Entry
from builder.files.tar.writer import TarWriter
from builder.files.trees import held, remove_tree, shown
from builder.files.xattrs import read_xattrs
from builder.state.cancel import checkpoint
from builder.text.strconv import truth_of
from builder.text.times import NS

if TYPE_CHECKING:
    from builder.exporters.types import SolvedTarget

FILES_KEYS = frozenset({"platform-split", EPOCH_KEY})


def write_tar(output: BuildOutput, write: Callable[[bytes], object]) -> None:
    """One tar with the files; of a multi-platform build, in a folder for each platform, whatever ``platform-split`` says."""
    folders = [_folder(t) for t in output.targets]
    for folder in folders:
        if folders.count(folder) > 1:
            raise UsageError(f"duplicate path {folder}: file exists", hint="a platform was given twice")
    tar = TarWriter(write)
    for target in output.targets:
        prefix = _folder(target) + "/" if output.multi else ""
        if prefix:
            tar.add(Entry(prefix, DIR, 0o755, mtime_ns=(output.epoch or 0) * NS))
        if target.ref is not None:
            with target.ref.mount() as folder, held(folder) as root:
                _tar_tree(tar, root, prefix, output.epoch)
    tar.close()


def write_local(output: BuildOutput, split: bool, dest: str) -> None:
    """The files into a folder, over what is there. Owners are those of the caller, as with docker buildx."""
    try:
        os.makedirs(dest, exist_ok=True)
        seen: dict[str, str] = {}
        for target in output.targets:
            folder = os.path.join(dest, _folder(target)) if split else dest
            os.makedirs(folder, exist_ok=True)
            if target.ref is not None:
                with target.ref.mount() as mounted, held(mounted) as root, held(folder) as into:
                    if not split:
                        _refuse_overlap(root, seen, str(target.platform))
                    _copy_tree(root, into, output.epoch)
            if split:
                os.utime(folder, ((output.epoch or 0),) * 2)
    except OSError as e:
        raise StoreError(f"can't write to {dest}: {e.strerror}: {shown(e.filename)}") from e


def split_by_platform(output: BuildOutput, value: str) -> bool:
    """BuildKit's rule: a folder for each platform if there is more than one, unless ``platform-split`` says otherwise."""
    split = truth_of(value) if value else output.multi
    if split is None:
        raise UsageError(f"non-bool value for platform-split: {value}")
    return split


def _folder(target: SolvedTarget) -> str:
    return str(target.platform).replace("/", "_")


def _walk(root: str) -> Iterator[tuple[str, os.stat_result]]:
    """Relative paths with lstat, in sorted order, folders before what is in them."""
    owners = current()
    stack = [""]
    while stack:
        checkpoint()
        rel = stack.pop()
        if rel:
            st = owners.lstat(os.path.join(root, rel))
            yield rel, st
            if not stat.S_ISDIR(st.st_mode):
                continue
        names = sorted(os.listdir(os.path.join(root, rel)), reverse=True)
        stack.extend(os.path.join(rel, n) for n in names)


def _refuse_overlap(root: str, seen: dict[str, str], platform: str) -> None:
    for rel, st in _walk(root):
        if stat.S_ISDIR(st.st_mode):
            continue
        if rel in seen:
            raise UsageError(f"cannot overwrite {rel} from {seen[rel]} with {platform} when split option is disabled")
        seen[rel] = platform


def _tar_tree(tar: TarWriter, root: str, prefix: str, epoch: int | None) -> None:
    links: dict[tuple[int, int], str] = {}
    for rel, st in _walk(root):
        path, name = os.path.join(root, rel), prefix + rel
        entry = member_of(name, path, st)
        if entry is None:
            continue
        if epoch is not None:
            entry.mtime_ns = epoch * NS
        entry.xattrs = read_xattrs(path)
        if entry.type == REG and st.st_nlink > 1 and (first := links.setdefault((st.st_dev, st.st_ino), name)) != name:
            entry.type, entry.linkname, entry.size = LINK, first, 0
        add_member(tar, entry, path)


def _copy_tree(root: str, dest: str, epoch: int | None) -> None:
    """fsutil's disk writer: a file takes the place of what is there, folders are merged, times and modes are kept."""
    manner = Manner(owners=False, time_ns=None if epoch is None else epoch * NS)
    links: dict[tuple[int, int], str] = {}
    folders: list[tuple[str, os.stat_result]] = []
    for rel, st in _walk(root):
        source, target = os.path.join(root, rel), os.path.join(dest, rel)
        mode = st.st_mode
        if stat.S_ISDIR(mode):
            if os.path.islink(target) or (os.path.lexists(target) and not os.path.isdir(target)):
                os.unlink(target)
            try:
                os.mkdir(target)
            except FileExistsError:
                pass
            folders.append((rel, st))
            continue
        if stat.S_ISSOCK(mode):
            continue
        temp = os.path.join(os.path.dirname(target), f".pybuild-{os.urandom(6).hex()}.tmp")
        first = links.setdefault((st.st_dev, st.st_ino), target) if st.st_nlink > 1 else target
        try:
            if first != target:
                os.link(first, temp)
            else:
                copy_entry(source, temp, st, manner)
            if os.path.isdir(target) and not os.path.islink(target):
                remove_tree(target)
            os.rename(temp, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(temp)  # the folder is the user's: nothing of ours stays in it
            raise
    for rel, st in reversed(folders):
        target = os.path.join(dest, rel)
        copy_metadata(os.path.join(root, rel), target, st, manner)
        set_times(target, st, manner)
