"""Graphs made by hand."""

from __future__ import annotations

import pytest

from builder import llb


def test_of_states_merged_only_those_with_files_count() -> None:
    """Whichever place they have; the environment is that of the last."""
    image = llb.image("docker.io/library/base:1")
    assert llb.merge([image, llb.scratch().at("/w")]) == llb.State(image.edge, cwd="/w")
    assert llb.merge([llb.scratch(), image]) == image
    merged = llb.merge([image, llb.scratch(), llb.local("context")])
    assert merged.edge is not None
    assert len(merged.edge.vertex.inputs) == 2
    with pytest.raises(ValueError, match="nothing to merge"):
        llb.merge([llb.scratch()])
