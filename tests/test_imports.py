"""Imports run one way (ARCHITECTURE.md): every import statement of the three packages, also those inside functions."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# What each part may import besides itself. "linux" is runtime.linux, the door to the kernel; contracts are modules of types only.
CONTRACTS = {
    "builder.errors",
    "builder.graph",
    "builder.oci",
    "builder.text",
    "builder.values",
    "builder.progress.events",
    "builder.cache.types",
    "builder.solver.types",
}
BASE = CONTRACTS | {"builder.state", "runtime.linux", "runtime.errors"}
STORAGE = BASE | {"builder.files", "builder.content", "builder.snapshots"}
ALLOWED = {
    "frontend": {"builder.graph", "builder.oci", "builder.text", "builder.values"},
    "runtime": set(),
    "builder.values": set(),
    "builder.text": {"builder.values", "builder.errors"},
    "builder.oci": {"builder.text", "builder.values", "builder.errors", "builder.graph", "builder.cache.types"},
    "builder.graph": {"builder.errors", "builder.oci", "builder.text", "builder.values"},
    "builder.errors": set(),
    "builder.session": {"builder.graph", "builder.oci", "builder.text", "builder.values"},
    "builder.config": {"builder.errors", "builder.graph", "builder.oci", "builder.text", "builder.values", "builder.cache.types"},
    "builder.state": {"builder.errors", "builder.graph", "builder.oci", "builder.text", "builder.values"},
    "builder.progress": {"builder.graph", "builder.oci", "builder.text", "builder.values", "builder.errors"},
    "builder.files": BASE | {"builder.content", "builder.snapshots.types", "builder.snapshots.catalog"},
    "builder.content": BASE,
    "builder.snapshots": BASE | {"builder.files", "builder.content"},
    "builder.cache": STORAGE | {"builder.config"},
    "builder.registry": BASE | {"builder.config", "builder.content"},
    "builder.images.store": STORAGE | {"builder.cache", "builder.registry"},
    "builder.worker": STORAGE | {"builder.images.store", "builder.cache", "builder.config", "runtime"},
    "builder.sources": STORAGE
    | {"builder.cache", "builder.registry", "builder.images.store", "builder.config", "builder.session", "builder.worker"},
    "builder.ops": STORAGE | {"builder.cache", "builder.sources", "builder.session", "builder.worker", "runtime"},
    "builder.solver": {
        "builder.graph",
        "builder.oci",
        "builder.text",
        "builder.values",
        "builder.errors",
        "builder.state",
        "builder.progress.events",
    },
    "builder.exporters": STORAGE
    | {"builder.sources", "builder.cache", "builder.registry", "builder.images.store", "builder.worker", "builder.config"},
    "builder.remotecache": STORAGE
    | {"builder.cache", "builder.registry", "builder.sources", "builder.exporters", "builder.worker", "builder.solver"},
    "builder.compare": {
        "builder.files",
        "builder.errors",
        "builder.graph",
        "builder.oci",
        "builder.text",
        "builder.values",
        "builder.content",
    },
    "builder.__main__": {"builder.cli"},
    "builder.cli": {"builder", "frontend", "runtime"},
}


def modules() -> Iterator[tuple[str, str]]:
    for package in ("builder", "frontend", "runtime"):
        for folder, _, names in os.walk(os.path.join(ROOT, package)):
            for name in names:
                if name.endswith(".py"):
                    path = os.path.join(folder, name)
                    dotted = os.path.relpath(path, ROOT)[:-3].replace(os.sep, ".").removesuffix(".__init__")
                    yield dotted, path


def imported(path: str) -> Iterator[tuple[int, str]]:
    with open(path, encoding="utf-8") as f:
        tree = ast.parse(f.read())
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: imports are absolute"
            yield node.lineno, node.module or ""


def part_of(module: str) -> str | None:
    """The longest key of ALLOWED that ``module`` is in."""
    found = [key for key in ALLOWED if module == key or module.startswith(key + ".")]
    return max(found, key=len) if found else None


@pytest.mark.parametrize(("module", "path"), sorted(modules()), ids=lambda v: v if "/" not in v else "")
def test_a_part_imports_only_what_lies_below_it(module: str, path: str) -> None:
    part = part_of(module)
    if part is None:
        assert module == "builder", f"{module} belongs to no part: give it a place in ALLOWED"
        return
    allowed = {part, *ALLOWED[part]}
    for line, name in imported(path):
        if name.split(".")[0] not in ("builder", "frontend", "runtime"):
            continue
        assert any(name == a or name.startswith(a + ".") for a in allowed), f"{path}:{line}: {part} must not import {name}"


def test_the_network_is_one_seam() -> None:
    users = {module for module, path in modules() for _, name in imported(path) if name.split(".")[0] in ("httpx", "httpcore")}
    assert users == {"builder.net.transport"}


def test_a_cached_build_loads_nothing_of_the_network_or_the_sandbox() -> None:
    """What is imported at the top of the modules that every build goes through."""
    import subprocess
    import sys

    code = (
        "import sys, builder.build.pipeline, frontend.convert; print(*[m for m in sys.modules if m in ('httpx', 'asyncio', 'tarfile')])"
    )
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.split() == []
