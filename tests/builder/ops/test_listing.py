"""The files that explanations name."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from builder.files.types import ChecksumOptions
from builder.graph.ops import LocalSource
from builder.graph.vertex import Vertex
from builder.ops import listing as manifest
from builder.ops.listing import Listing
from builder.ops.refs import checksum
from builder.solver.types import OpContext, UnknownContentError

CONTEXT, PLAN = (OpContext(Vertex(LocalSource("x")), planning=planning) for planning in (False, True))


class Folder:
    """A ref whose files are those of a folder."""

    id = "ref"

    def __init__(self, path: Path) -> None:
        self.path = path
        self.known: dict[str, Any] = {}

    @contextmanager
    def mount(self) -> Any:
        yield str(self.path)

    def known_checksum(self, path: str, options: ChecksumOptions) -> Any:
        return self.known.get(path)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("a/x", "a/y", "b.py", "c.txt"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    return tmp_path


def names(folder: Path, *selections: tuple[str, ChecksumOptions]) -> list[str]:
    return [name for name, _ in Listing(selections)(Folder(folder), CONTEXT).files]  # type: ignore[arg-type]


def test_a_folder_has_a_line_for_itself_and_each_file(folder: Path) -> None:
    assert names(folder, ("/a", ChecksumOptions())) == ["/a/", "/a/x", "/a/y"]


def test_only_files_that_count_are_listed(folder: Path) -> None:
    assert names(folder, ("/*.py", ChecksumOptions(wildcard=True))) == ["/b.py"]
    assert names(folder, ("/a", ChecksumOptions(exclude=("y",)))) == ["/a/", "/a/x"]
    assert names(folder, ("/b.py", ChecksumOptions()), ("/c.txt", ChecksumOptions())) == ["/b.py", "/c.txt"]
    assert names(folder, ("/none", ChecksumOptions())) == []


def test_a_digest_is_that_of_the_content(folder: Path) -> None:
    def listed() -> dict[str, str]:
        return dict(Listing([("/", ChecksumOptions())])(Folder(folder), CONTEXT).files)  # type: ignore[arg-type]

    before = listed()
    (folder / "a/x").write_text("new")
    after = listed()
    assert [name for name in before if before[name] != after[name]] == ["/a/x"]


@pytest.mark.parametrize(("limit", "value"), [("MAX_FILES", 2), ("MAX_BYTES", 4)])
def test_a_list_that_is_too_long_is_cut_and_says_so(
    folder: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int
) -> None:
    monkeypatch.setattr(manifest, limit, value)
    found = Listing([("/a", ChecksumOptions())])(Folder(folder), CONTEXT)  # type: ignore[arg-type]
    assert [name for name, _ in found.files] == ["/a/", "/a/x"]
    assert not found.complete


def test_a_plan_mounts_nothing_to_list_or_to_hash(folder: Path) -> None:
    """What was hashed before is known."""
    ref: Any = Folder(folder)
    with pytest.raises(UnknownContentError):
        Listing([("/", ChecksumOptions())])(ref, PLAN)
    with pytest.raises(UnknownContentError):
        checksum(ref, "/a", ChecksumOptions(), PLAN)
    ref.known["/a"] = "sha256:1"
    assert checksum(ref, "/a", ChecksumOptions(), PLAN) == "sha256:1"
