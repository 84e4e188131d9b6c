"""Every Dockerfile of testdata/compare gives the image that other builders give, but for the differences in rightful.toml."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from builder.compare import compare, load_rules, report
from builder.compare.builders import Pybuild
from builder.compare.types import Builder
from tests.compare.conftest import NAMES, Case

pytestmark = pytest.mark.integration
RULES = load_rules()
# Each builder's cases on one worker: a daemon and a store serve them all.
OTHERS = [
    pytest.param("docker", marks=pytest.mark.xdist_group("dockerd")),
    pytest.param("buildah", marks=pytest.mark.xdist_group("buildah")),
]


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("other", OTHERS)
def test_the_image_is_that_of_the_other_builder(
    other: str, name: str, prepared: Callable[[str], Case], base: str, ours: Pybuild, since: float, request: pytest.FixtureRequest
) -> None:
    case = prepared(name)
    if other in case.excuses:
        pytest.skip(case.excuses[other])
    builder: Builder = request.getfixturevalue(other)
    found = compare(case.spec(base), ours, builder, RULES, runs=(False,), since=since)
    assert found.equal, report.as_text(found)
