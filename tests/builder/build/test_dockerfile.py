"""Under which names a Dockerfile and an ignore file are found, and which of several counts."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builder.build.dockerfile import find_dockerfile, find_ignore
from builder.errors import NotFoundError, UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


def fill(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


@pytest.mark.parametrize(
    ("there", "asked", "found"),
    [
        (["Dockerfile", "dockerfile", "Containerfile"], "", "Dockerfile"),
        (["dockerfile", "Containerfile"], "", "dockerfile"),
        (["Containerfile", "other"], "", "Containerfile"),
        (["dockerfile"], "Dockerfile", "dockerfile"),
        (["sub/dockerfile"], "sub/Dockerfile", "sub/dockerfile"),
        (["sub/x.df"], "sub/x.df", "sub/x.df"),
    ],
)
def test_names_in_the_order_of_buildkit_and_then_podman(folder: Path, there: list[str], asked: str, found: str) -> None:
    fill(folder, *there)
    got = find_dockerfile(str(folder), asked)
    assert (got.data.decode(), got.name) == (found, os.path.basename(found))
    assert bool(got.warning) == (found == "Containerfile")


@pytest.mark.parametrize(
    ("there", "asked"), [([], ""), (["Containerfile"], "Dockerfile"), (["Dockerfile"], "dockerfile"), (["f"], "f/Dockerfile")]
)
def test_nothing_else_stands_in_for_a_dockerfile(folder: Path, there: list[str], asked: str) -> None:
    fill(folder, *there)
    with pytest.raises(NotFoundError, match=f"open {asked or 'Dockerfile'}: no such file or directory"):
        find_dockerfile(str(folder), asked)


def test_a_containerfile_does_not_stand_in_for_a_link_that_leads_nowhere(folder: Path) -> None:
    fill(folder, "Containerfile")
    (folder / "Dockerfile").symlink_to("nothing")
    with pytest.raises(NotFoundError):
        find_dockerfile(str(folder))


def test_what_is_there_instead_is_named(folder: Path) -> None:
    fill(folder, "app.Dockerfile", "app.Dockerfile.dockerignore", "Containerfile.x")
    with pytest.raises(NotFoundError) as error:
        find_dockerfile(str(folder))
    assert error.value.hint == "there is Containerfile.x, app.Dockerfile: name it with -f"


def test_a_folder_is_no_dockerfile(folder: Path) -> None:
    (folder / "Dockerfile").mkdir()
    with pytest.raises(UsageError, match="Dockerfile is not a regular file"):
        find_dockerfile(str(folder))


@pytest.mark.parametrize(
    ("there", "dockerfile", "found"),
    [
        ([".dockerignore", "Dockerfile.dockerignore"], "Dockerfile", "Dockerfile.dockerignore"),
        ([".dockerignore", "Dockerfile.dockerignore"], "other", ".dockerignore"),
        ([".containerignore"], "Dockerfile", ""),
        ([".containerignore"], None, ""),
        ([".containerignore", ".dockerignore"], "Containerfile", ".dockerignore"),
        ([".containerignore", "Containerfile.containerignore"], "Containerfile", "Containerfile.containerignore"),
        ([".containerignore"], "Containerfile.dev", ".containerignore"),
    ],
)
def test_the_ignore_file_that_counts(folder: Path, there: list[str], dockerfile: str | None, found: str) -> None:
    fill(folder, *there)
    ignore = find_ignore(str(folder), (str(folder), dockerfile) if dockerfile else None)
    assert (ignore.name, ignore.data.decode()) == (found, found)


def test_a_folder_of_an_ignore_files_name_is_passed_over_and_that_is_said(folder: Path) -> None:
    fill(folder, ".dockerignore", "Dockerfile.dockerignore/x")
    ignore = find_ignore(str(folder), (str(folder), "Dockerfile"))
    assert (ignore.name, ignore.warning) == (".dockerignore", "Dockerfile.dockerignore is not obeyed: it is a folder")


def test_an_ignore_file_that_can_not_be_read_is_an_error(folder: Path) -> None:
    os.mkfifo(folder / ".dockerignore")
    with pytest.raises(UsageError, match=r"failed to read dockerignore patterns: \.dockerignore is not a regular file"):
        find_ignore(str(folder))
