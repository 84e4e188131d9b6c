"""The order of things: each builder runs, exports, is read; then one diff."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from builder.compare import BuildSpec, CompareError, Rule, compare, report
from builder.compare.run import mount_points
from tests.support.oci import Entry, layer_tar, write_layout


class Fake:
    """A builder that has one image ready."""

    def __init__(self, name: str, layout: Path, content: bytes) -> None:
        self.name = name
        self.calls: list[object] = []
        self._layout = write_layout(str(layout), [layer_tar([Entry("a", content)])], {"Cmd": ["x"]})

    def describe(self) -> str:
        return f"{self.name} 1.0"

    def build(self, spec: BuildSpec, *, cold: bool) -> None:
        self.calls.append(cold)

    def export(self, folder: str) -> str:
        self.calls.append("export")
        return self._layout

    def close(self) -> None:
        self.calls.append("close")


@pytest.fixture
def pair(tmp_path: Path) -> tuple[Fake, Fake]:
    return Fake("pybuild", tmp_path / "left", b"one"), Fake("docker", tmp_path / "right", b"two")


SPEC = BuildSpec(context="nowhere")
CONTENT = Rule("file", "contents are random", subject="/a", field="digest")


def test_each_builder_runs_cold_then_cached_and_exports_once(pair: tuple[Fake, Fake]) -> None:
    compare(SPEC, *pair, [])
    assert [b.calls for b in pair] == [[True, False, "export"]] * 2


def test_a_single_run_has_a_single_time(pair: tuple[Fake, Fake]) -> None:
    found = compare(SPEC, *pair, [], runs=(False,))
    assert found.other.cold is None
    assert found.other.cached is not None


def test_unmatched_differences_make_images_different(pair: tuple[Fake, Fake]) -> None:
    found = compare(SPEC, *pair, [])
    assert not found.equal
    assert [(d.subject, d.field) for d in found.result.wrong] == [("/a", "digest")]


def test_differences_that_all_have_a_rule_leave_them_equal(pair: tuple[Fake, Fake]) -> None:
    assert compare(SPEC, *pair, [CONTENT]).equal


def test_the_report_names_both_sides_and_the_times(pair: tuple[Fake, Fake]) -> None:
    text = report.as_text(compare(SPEC, *pair, []))
    assert "cold     cached" in text
    assert "/a: digest\n    pybuild  sha256:7692c3ad" in text
    assert "    docker   sha256:3fc4ccfe" in text
    assert text.endswith("different: 1 difference\n")


def test_the_report_gives_reasons_when_asked(pair: tuple[Fake, Fake]) -> None:
    found = compare(SPEC, *pair, [CONTENT])
    assert report.as_text(found).endswith("\nequal (1 rightful, --verbose lists them)\n")
    assert "because: contents are random" in report.as_text(found, verbose=True)


def test_the_report_shows_no_control_characters_and_cuts_long_values(tmp_path: Path) -> None:
    left, right = Fake("pybuild", tmp_path / "1", b""), Fake("docker", tmp_path / "2", b"")
    found = compare(SPEC, left, right, [])
    assert found.equal
    assert report._short("a\x1b[31m\n" + "b" * 999) == "a\\x1b[31m\\n" + "b" * 146 + "..."


def test_json_has_the_same(pair: tuple[Fake, Fake]) -> None:
    doc = json.loads(report.as_json(compare(SPEC, *pair, [CONTENT])))
    assert doc["equal"] is True
    assert [b["name"] for b in doc["builders"]] == ["pybuild", "docker"]
    assert doc["differences"] == []
    assert doc["rightful"][0]["reason"] == "contents are random"
    assert set(doc["rightful"][0]) == {"area", "subject", "field", "pybuild", "other", "reason"}


@pytest.mark.parametrize(
    "spec", [BuildSpec(context="-"), BuildSpec(context=".", file="-"), BuildSpec(context=".", platform="linux/amd64,linux/arm64")]
)
def test_what_cannot_be_built_twice_is_refused_before_anything_runs(spec: BuildSpec, pair: tuple[Fake, Fake]) -> None:
    with pytest.raises(CompareError):
        compare(spec, *pair, [])
    assert pair[0].calls == []


def test_mount_points_of_a_dockerfile() -> None:
    text = "RUN --mount=type=cache,target=/a/b --mount=type=bind,source=x,dst=/c,ro cmd\nRUN --mount=destination=/d/ x --target=/no"
    assert mount_points(text) == {"/a", "/a/b", "/c", "/d"}
