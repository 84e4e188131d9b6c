"""Compares what two builders make of one Dockerfile: configuration, history, layers, and every file of the root filesystem.

``run.compare`` builds and compares; ``image`` reads archives, ``diff`` is pure, ``rightful.toml`` lists what may differ and why.
"""

from builder.compare.diff import Difference, diff
from builder.compare.image import Image, read_image
from builder.compare.rules import Facts, Rule, Sorted, load_rules, sort_out
from builder.compare.run import Comparison, compare
from builder.compare.types import BuildSpec, CompareError

__all__ = [
    "BuildSpec",
    "CompareError",
    "Comparison",
    "Difference",
    "Facts",
    "Image",
    "Rule",
    "Sorted",
    "compare",
    "diff",
    "load_rules",
    "read_image",
    "sort_out",
]
