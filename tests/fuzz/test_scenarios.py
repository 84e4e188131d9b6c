"""Scenarios at random keep the rules of tests/fuzz/invariants.py. PYBUILD_FUZZ is how many, PYBUILD_SEED the first one's seed."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from functools import partial

import pytest

from tests.fuzz.builds import VARIANTS, Variant, Workshop
from tests.fuzz.invariants import check
from tests.fuzz.mend import scenario
from tests.fuzz.report import describe
from tests.fuzz.shrink import shrink
from tests.support import bases

pytestmark = [pytest.mark.integration, pytest.mark.fuzz]

COUNT = int(os.environ.get("PYBUILD_FUZZ", "5"))
SEED = int(os.environ.get("PYBUILD_SEED", "1"))
CHANGES = 3


@pytest.fixture(scope="module")
def shop() -> Iterator[Workshop]:
    """Not in pytest's own folder, which is root's only: the ordinary account has to get to its files."""
    if os.geteuid() != 0:
        pytest.skip("builds with an overlay in the host's name, and as another account: needs root")
    folder = tempfile.mkdtemp(prefix="pybuild-fuzz-")
    os.chmod(folder, 0o755)
    yield Workshop(folder, bases.busybox_layout(f"{folder}/base"))
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def usable(shop: Workshop) -> dict[str, str]:
    """Variant -> why it can't be had here, or nothing."""
    return {variant.name: shop.usable(variant) for variant in VARIANTS}


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
def test_the_variant_can_be_compared_here(variant: Variant, usable: dict[str, str]) -> None:
    """A variant that this machine does not have is named, and not passed over."""
    if usable[variant.name]:
        pytest.skip(f"{variant.name}: {usable[variant.name]}")


@pytest.mark.parametrize("seed", range(SEED, SEED + COUNT))
def test_a_scenario_keeps_the_rules(seed: int, shop: Workshop, usable: dict[str, str]) -> None:
    variants = [v for v in VARIANTS if not usable[v.name]]
    tried = scenario(seed, CHANGES, shop)
    failures = check(shop, variants, tried)
    if failures:
        smaller = shrink(tried, failures[0], partial(check, shop, variants), most=40)
        others = "".join(f"\nalso: {f.invariant}" for f in failures[1:])
        pytest.fail(describe(*smaller, flags=f"--changes {CHANGES} --compare no") + others, pytrace=False)
