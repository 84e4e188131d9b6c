"""See ``world``."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.builder.solver.world import World


@pytest.fixture
def world() -> Iterator[World]:
    """Afterwards everything must have been released."""
    world = World()
    yield world
    assert not +world.alive, "results were left unreleased"
