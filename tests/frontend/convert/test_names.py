"""What progress shows for a step: its stage, number, platform, and text."""

from __future__ import annotations

from typing import Any

import pytest

from builder.graph.vertex import Graph
from builder.oci.platform import Platform

from .conftest import Build


def names(build: Build, text: str, **options: Any) -> list[str]:
    edge = build(text, **options).targets[0].edge
    assert edge is not None
    return [vertex.meta.name for vertex in Graph((edge,)) if not vertex.meta.internal and vertex.op.kind != "image"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM busybox\nRUN a\n", ["[2/2] RUN a"]),
        ("FROM busybox AS x\nRUN a\n", ["[2/2] RUN a"]),
        ("FROM scratch\nCOPY a b\n", ["[1/1] COPY a b"]),
        ("FROM busybox\nrun a\n", ["[2/2] RUN a"]),
        ("FROM busybox AS x\nRUN a\nFROM x\nRUN b\n", ["[x 2/2] RUN a", "[stage-1 1/1] RUN b"]),
        ("FROM busybox\nENV A=1\nRUN echo $A '$A' $B ${C:-d}\n", ["[2/2] RUN echo 1 '$A' $B ${C:-d}"]),
        ("FROM busybox\nARG A=1\nCOPY \"$A\" $B /c\n", ["[2/2] COPY 1  /c"]),
        ("FROM busybox\nRUN ${unclosed\n", ["[2/2] RUN ${unclosed"]),
        ("FROM busybox\nWORKDIR /a\nWORKDIR /\nRUN b\n", ["[2/4] WORKDIR /a", "[3/4] RUN b"]),
        ("FROM busybox\nRUN <<E\none\ntwo\nE\n", ["[2/2] RUN <<E (one...)"]),
        ("FROM scratch\n" + "COPY a b\n" * 10, [f"[{n:2d}/10] COPY a b" for n in range(1, 11)]),
        # A mount without from= counts as a stage of its own in BuildKit, so the only stage shows its name.
        ("FROM busybox\nRUN --mount=target=/a b\n", ["[stage-0 2/2] RUN --mount=target=/a b"]),
    ],
)
def test_name_of_a_step(build: Build, text: str, expected: list[str]) -> None:
    assert names(build, text) == expected


def test_with_several_platforms_names_tell_them(build: Build) -> None:
    text = "FROM busybox\nARG TARGETARCH\nRUN a\nFROM scratch\nCOPY --from=0 / /\n"
    both = (Platform("linux", "arm64"), Platform("linux", "amd64"))
    expected = ["[linux/arm64 stage-0 2/2] RUN a", "[linux/arm64 stage-1 1/1] COPY --from=0 / /"]
    assert names(build, text, target_platforms=both) == expected


def test_names_tell_the_platform_of_from_as_it_was_written_and_that_of_run_in_normal_form(build: Build) -> None:
    """RUN's is that of the state, which llb normalises; COPY's that of the stage (prefixCommand's callers)."""
    text = "FROM --platform=linux/arm64/v8 busybox\nRUN a\nCOPY b c\n"
    expected = ["[linux/arm64 2/3] RUN a", "[linux/arm64/v8 3/3] COPY b c"]
    assert names(build, text, multi_platform=True) == expected


def test_steps_know_their_lines_and_their_instruction(build: Build) -> None:
    edge = build("FROM busybox AS s\nRUN a \\\n  b\n").targets[0].edge
    assert edge is not None
    meta = edge.vertex.meta
    assert [(place.start, place.end) for place in meta.locations] == [(2, 3)]
    assert (meta.stage, meta.instruction) == ("s", "RUN /bin/sh -c a   b")
