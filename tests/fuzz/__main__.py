"""The fuzzer by hand: ``python -m tests.fuzz --seed 7``. Without --count it goes on until it is stopped."""

from __future__ import annotations

import argparse
import itertools
import os
import random
import sys
import tempfile
import time

from tests.fuzz.builds import VARIANTS, Variant, Workshop
from tests.fuzz.changes import changed
from tests.fuzz.generate import generate
from tests.fuzz.invariants import check
from tests.fuzz.mend import scenario
from tests.fuzz.report import describe
from tests.fuzz.shrink import shrink
from tests.support import bases


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="of the first case; the next ones count up (default: any)")
    parser.add_argument("--count", type=int, default=0, help="how many cases (default: without end)")
    parser.add_argument("--changes", type=int, default=4, help="how many rebuilds a case has")
    parser.add_argument("--show", action="store_true", help="print the cases and build nothing")
    parser.add_argument("--no-shrink", action="store_true", help="print failures as they were found")
    given = parser.parse_args()
    seed = random.SystemRandom().randrange(10**9) if given.seed is None else given.seed
    seeds = range(seed, seed + given.count) if given.count else itertools.count(seed)
    if given.show:
        for number in seeds:
            print(describe(changed(generate(number), given.changes)))
        return 0
    with tempfile.TemporaryDirectory(prefix="pybuild-fuzz-") as folder:
        os.chmod(folder, 0o755)
        shop = Workshop(f"{folder}/work", bases.busybox_layout(f"{folder}/layout"))
        return run(shop, seeds, given.changes, shrinking=not given.no_shrink)


def run(shop: Workshop, seeds: range | itertools.count[int], changes: int, *, shrinking: bool) -> int:
    """Exit code 1 if there was a failure."""
    usable: list[Variant] = []
    for variant in VARIANTS:
        if why := shop.usable(variant):
            print(f"not usable here: {variant.name}: {why}", flush=True)
        else:
            usable.append(variant)
    failed = number = 0
    began = time.monotonic()
    try:
        for number, seed in enumerate(seeds, 1):
            tried = scenario(seed, changes, shop)
            for failure in check(tried, shop, usable):
                failed += 1
                small = shrink(tried, failure, lambda s, only: check(s, shop, usable, only)) if shrinking else (tried, failure)
                print(describe(*small, changes=changes), flush=True)
            builds = f"{shop.tally['succeeded']} builds succeeded, {shop.tally['failed']} failed"
            spent = time.monotonic() - began
            print(f"seed {seed}: {number} cases, {failed} broken rules; {builds}; {spent:.0f} s", flush=True)
    except KeyboardInterrupt:
        print(f"stopped after {number} cases with {failed} failures", file=sys.stderr)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
