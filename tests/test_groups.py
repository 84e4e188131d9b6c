"""What a group of tests shares is made once: the marker must reach whoever gives tests to workers."""

from __future__ import annotations

import os

import pytest


@pytest.mark.xdist_group("together")
@pytest.mark.skipif("PYTEST_XDIST_WORKER" not in os.environ, reason="there is one worker")
def test_tests_of_a_group_go_to_one_worker(request: pytest.FixtureRequest) -> None:
    """The name of the group is a part of the test's, by which xdist gives it away. (pytest 9.2 did not take it.)"""
    assert not request.config.getoption("loadgroup") or request.node.nodeid.endswith("@together")
