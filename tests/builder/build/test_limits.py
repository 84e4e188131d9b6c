"""What --ulimit asks for is asked of the kernel before the build."""

from __future__ import annotations

import resource

import pytest

from builder.build.limits import check_ulimits
from builder.errors import UsageError
from builder.graph.ops import Ulimit


def test_a_limit_below_the_hard_limit_is_fine() -> None:
    _, top = resource.getrlimit(resource.RLIMIT_NOFILE)
    check_ulimits([Ulimit("nofile", 1, min(top, 1024) if top > 0 else 1024), Ulimit("locks", 1, 1)])


def test_a_limit_that_the_kernel_refuses_is_told_and_changes_nothing() -> None:
    """fs.nr_open bounds nofile for everybody, privileged or not."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    with pytest.raises(UsageError, match=f"ulimit nofile: {1 << 40} is over the hard limit of this process, {before[1]}"):
        check_ulimits([Ulimit("core", 0, 0), Ulimit("nofile", 1, 1 << 40)])
    with pytest.raises(UsageError, match="ulimit nofile: no limit is over"):
        check_ulimits([Ulimit("nofile", 1, -1)])
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == before


def test_a_limit_that_is_raised_for_the_question_is_put_back(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {resource.RLIMIT_NOFILE: (10, 20)}
    monkeypatch.setattr(resource, "getrlimit", limits.__getitem__)
    monkeypatch.setattr(resource, "setrlimit", limits.__setitem__)
    check_ulimits([Ulimit("nofile", 30, 30)])
    assert limits == {resource.RLIMIT_NOFILE: (10, 20)}
