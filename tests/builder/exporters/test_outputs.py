"""--output: what is understood, and what is refused by name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builder.errors import PybuildError, UsageError
from builder.exporters.export import check_output, check_outputs
from builder.exporters.image import ImageOptions
from builder.exporters.sink import output_file
from builder.exporters.types import OutputSpec


@pytest.mark.parametrize(
    ("text", "spec"),
    [
        ("out", OutputSpec("local", "out")),
        ("-", OutputSpec("tar", "-")),
        ("type=local,dest=out", OutputSpec("local", "out")),
        ("type=oci,dest=f.tar", OutputSpec("oci", "f.tar")),
        ('type=oci,"dest=a,b"', OutputSpec("oci", "a,b")),
        ("type=registry", OutputSpec("image", "", (("push", "true"),))),
        ("type=oci,compression=zstd,dest=x", OutputSpec("oci", "x", (("compression", "zstd"),))),
    ],
)
def test_outputs_are_spelled_as_in_buildx(text: str, spec: OutputSpec) -> None:
    assert OutputSpec.parse(text) == spec


@pytest.mark.parametrize("text", ["", "type=bogus", "dest=x,y=z", "type=local", "type=oci,dest"])
def test_what_can_not_be_understood_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        OutputSpec.parse(text)


@pytest.mark.parametrize(
    "text",
    [
        "type=oci,dest=x,bogus=1",
        "type=local,dest=x,compression=gzip",
        "type=oci,dest=x,compression=lzma",
        "type=docker,dest=x,compression=zstd,oci-mediatypes=false",
        "type=oci,dest=x,rewrite-timestamp=maybe",
        "type=oci,dest=x,compression-level=high",
        "type=oci,tar=false",
        "type=cacheonly,x=y",
        "type=oci,dest=x,name=Upper",
    ],
)
def test_a_wrong_key_or_value_is_refused_before_the_build(text: str) -> None:
    with pytest.raises(PybuildError):
        spec = OutputSpec.parse(text)
        check_output(spec, multi=False)
        if spec.flag("rewrite-timestamp", False):
            raise AssertionError(text)


def test_bare_keys_are_true() -> None:
    assert OutputSpec.parse("type=oci,dest=x,rewrite-timestamp=").flag("rewrite-timestamp", False)
    assert ImageOptions.of(OutputSpec.parse("type=oci,dest=x,force-compression=1"), oci_default=True).compression.force


def test_a_file_appears_whole_or_not_at_all(tmp_path: Path) -> None:
    dest = tmp_path / "image.tar"
    with pytest.raises(RuntimeError), output_file(str(dest)) as write:
        write(b"half")
        raise RuntimeError
    assert os.listdir(tmp_path) == []
    with output_file(str(dest)) as write:
        write(b"whole")
    assert dest.read_bytes() == b"whole"
    assert os.listdir(tmp_path) == ["image.tar"]


def test_a_folder_is_no_place_for_an_archive(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="is a directory"), output_file(str(tmp_path)):
        pass


def test_only_one_output_goes_to_standard_output() -> None:
    both = [OutputSpec.parse(t) for t in ("type=tar", "type=oci,dest=-")]
    with pytest.raises(UsageError, match="multiple outputs configured to write to stdout"):
        check_outputs(both, multi=False)


@pytest.mark.parametrize("kind", ["local", "oci,tar=false"])
@pytest.mark.parametrize(
    ("dest", "cause"),
    [("-", "cannot be stdout"), ("file", "file is a file"), ("lost", "No such file or directory"), ("fifo", "fifo is a file")],
)
def test_files_go_to_a_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str, dest: str, cause: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "lost").symlink_to("nowhere")
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(UsageError, match=cause):
        check_output(OutputSpec.parse(f"type={kind},dest={dest}"), multi=False)


@pytest.mark.parametrize("dest", ["folder", "link", "new", "new/below"])
def test_a_folder_that_is_there_or_can_be_made_is_accepted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dest: str) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "folder").mkdir()
    (tmp_path / "link").symlink_to("folder")
    check_output(OutputSpec.parse(f"type=local,dest={dest}"), multi=False)


@pytest.mark.parametrize(("given", "epoch"), [("", 7), (",source-date-epoch=", None), (",source-date-epoch=-3", -3)])
def test_the_epoch_of_an_output_wins_over_that_of_the_build(given: str, epoch: int | None) -> None:
    spec = OutputSpec.parse(f"type=tar,dest=x{given}")
    check_output(spec, multi=False)
    assert spec.epoch(7) == epoch


def test_an_epoch_is_a_number() -> None:
    with pytest.raises(UsageError, match='invalid source-date-epoch: parsing "x": invalid syntax'):
        check_output(OutputSpec.parse("type=local,dest=x,source-date-epoch=x"), multi=False)
