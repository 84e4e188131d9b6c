"""What is done to the files of a checkout: a subfolder made the root, times set, paths and credentials taken out."""

from __future__ import annotations

import os

from builder.errors import NotFoundError, SourceError
from builder.files.trees import remove_tree, walk
from builder.text.redact import redact_text


def move_up(work: str, subdir: str, folder: str) -> None:
    """The content of ``work/subdir`` to ``folder``. Only true folders lead there: a link of the repository could lead anywhere
    (CVE-2026-33748)."""
    import stat

    path = work
    for part in subdir.split("/"):
        path = os.path.join(path, part)
        try:
            mode = os.lstat(path).st_mode
        except OSError as e:
            shown = os.path.relpath(path, work)
            raise NotFoundError(f'invalid subdir {subdir}: failed to lstat "{shown}": {(e.strerror or "").lower()}') from e
        if not stat.S_ISDIR(mode):
            shown = os.path.relpath(path, work)
            raise SourceError(f'invalid subdir {subdir}: git subpath "{subdir}" contains non-directory "{shown}"')
    temp = f"{folder}/{os.path.basename(work)}.moved"
    os.rename(path, temp)
    remove_tree(work)
    for name in sorted(os.listdir(temp)):
        os.rename(os.path.join(temp, name), os.path.join(folder, name))
    os.rmdir(temp)


def set_times(folder: str, seconds: int) -> None:
    """mtime and atime of everything in the folder and of itself; links are not followed."""
    for here in walk(folder):
        for name in here.files:
            os.utime(name, (seconds, seconds), dir_fd=here.fd, follow_symlinks=False)
        os.utime(here.fd, (seconds, seconds))


def anchor_git_files(work: str, git_dir: str) -> None:
    """The ``.git`` files of submodules lead to a folder of the state root: let them lead to where a clone would have it, below
    ``work/.git``. They stay, as in BuildKit, where they name a folder of its state."""
    modules = os.path.realpath(git_dir)
    for here in walk(work):
        if not here.path:
            here.folders[:] = [f for f in here.folders if f != ".git"]
        elif ".git" in here.files:
            path = os.path.join(work, here.path)
            name = os.path.join(path, ".git")
            with open(name, encoding="utf-8", errors="surrogateescape") as file:
                target = file.read().removeprefix("gitdir:").strip()
            inside = os.path.relpath(os.path.realpath(os.path.join(path, target)), modules)
            os.unlink(name)
            if not inside.startswith("../"):
                with open(name, "x", encoding="utf-8", errors="surrogateescape") as file:
                    file.write(f"gitdir: {os.path.relpath(os.path.join(work, '.git', inside), path)}\n")


def redact_configs(dot_git: str) -> None:
    """Relative submodule URLs were made absolute with the remote's credentials in them."""
    for here in walk(dot_git):
        if "config" in here.files and "HEAD" in here.files:
            name = os.path.join(dot_git, here.path, "config")
            with open(name, encoding="utf-8", errors="surrogateescape") as file:
                text = file.read()
            if redact_text(text) != text:
                with open(name, "w", encoding="utf-8", errors="surrogateescape") as file:
                    file.write(redact_text(text))


def unlink(path: str) -> None:
    """Free if there is no such file."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass
