"""The fuzzer by hand: ``python -m tests.fuzz --seed 7``. Without --count it goes on until it is stopped."""

from __future__ import annotations

import argparse
import itertools
import os
import random
import sys
import tempfile
import time
from collections.abc import Iterable
from contextlib import nullcontext
from functools import partial

from tests.fuzz import others
from tests.fuzz.builds import VARIANTS, Variant, Workshop
from tests.fuzz.cases import Scenario
from tests.fuzz.changes import changed
from tests.fuzz.generate import generate
from tests.fuzz.invariants import Failure, check
from tests.fuzz.mend import scenario
from tests.fuzz.report import describe
from tests.fuzz.shrink import Check, shrink
from tests.support import bases


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    parser.add_argument("--seed", type=int, default=None, help="of the first case; the next ones count up (default: any)")
    parser.add_argument("--count", type=int, default=0, help="how many cases (default: without end)")
    parser.add_argument("--changes", type=int, default=4, help="how many rebuilds a case has")
    parser.add_argument("--show", action="store_true", help="print the cases and build nothing")
    parser.add_argument("--no-shrink", action="store_true", help="print failures as they were found")
    parser.add_argument("--compare", choices=("auto", "no", "only", "yes"), default="auto", help="with a buildkitd or dockerd, too")
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
        with others.found() if given.compare != "no" else nullcontext() as other:
            if other is None and given.compare == "yes":
                print("no buildkitd, and no dockerd, with a docker-registry on PATH", file=sys.stderr)
                return 2
            return run(shop, seeds, given.changes, other, shrinking=not given.no_shrink, alone=given.compare != "only")


def run(
    shop: Workshop, seeds: Iterable[int], changes: int, other: others.Other | None, *, shrinking: bool, alone: bool = True
) -> int:
    """Exit code 1 if there was a failure."""
    usable: list[Variant] = []
    for variant in VARIANTS if alone else ():
        if why := shop.usable(variant):
            print(f"not usable here: {variant.name}: {why}", flush=True)
        else:
            usable.append(variant)
    failed = number = 0
    began = time.monotonic()
    try:
        for number, seed in enumerate(seeds, 1):
            checks: list[tuple[str, Scenario, Check]] = []
            if alone:
                checks.append(("no", scenario(seed, changes, shop), partial(check, shop, usable)))
            if other is not None:
                checks.append(("only", scenario(seed, changes, shop, other.features), partial(others.check, shop, other)))
            for comparing, tried, test in checks:
                for failure in _first_of_each(test(tried, "")):
                    if failure.invariant == others.SAME_WORDS:
                        print(f"note: seed {seed}: {failure.invariant}:\n{failure.text}", flush=True)
                        continue
                    failed += 1
                    small = shrink(tried, failure, test) if shrinking else (tried, failure)
                    print(describe(*small, flags=f"--changes {changes} --compare {comparing}"), flush=True)
            builds = f"{shop.tally['succeeded']} builds succeeded, {shop.tally['failed']} failed"
            spent = time.monotonic() - began
            print(f"seed {seed}: {number} cases, {failed} broken rules; {builds}; {spent:.0f} s", flush=True)
    except KeyboardInterrupt:
        print(f"stopped after {number} cases with {failed} failures", file=sys.stderr)
    return 1 if failed else 0


def _first_of_each(failures: list[Failure]) -> list[Failure]:
    """One for each rule."""
    return list({f.invariant: f for f in reversed(failures)}.values())


if __name__ == "__main__":
    sys.exit(main())
