"""Removing a tree, however deep: what lies in a folder's folders is brought up before it is looked at."""

from __future__ import annotations

import itertools
import os


def remove_tree(root: str) -> None:
    """Remove ``root`` and all in it; what can't be removed stays, without an error. No call is as deep as the tree, and no path is
    longer than ``root`` and two names: a step may have made more folders in one another than a path can name."""
    numbers = itertools.count()
    waiting = [root]
    while waiting:
        folder = waiting.pop()
        try:
            os.chmod(folder, 0o700)
            with os.scandir(folder) as entries:
                found = [(entry.name, entry.is_dir(follow_symlinks=False)) for entry in entries]
        except OSError:
            continue
        for name, is_folder in found:
            path = f"{folder}/{name}"
            try:
                if not is_folder:
                    os.unlink(path)
                elif folder == root:
                    waiting.append(path)
                else:
                    up = f"{root}/{os.path.basename(root)}.{next(numbers)}"
                    os.rename(path, up)
                    waiting.append(up)
            except OSError:
                continue
        if folder != root:
            _rmdir(folder)
    _rmdir(root)


def _rmdir(path: str) -> None:
    try:
        os.rmdir(path)
    except OSError:
        pass
