"""Imports run one way (ARCHITECTURE.md): every import statement of the three packages, also those inside functions."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# Floors, the lowest first. What each part may import besides itself; "linux" is runtime.linux, the door to the kernel.
WORDS = {"builder.errors", "builder.values", "builder.text", "builder.oci", "builder.graph"}
BASE = WORDS | {"builder.progress.events", "builder.state", "runtime.linux", "runtime.errors"}
FILES = BASE | {"builder.files"}
STORAGE = FILES | {"builder.content", "builder.snapshots", "builder.cache.types", "builder.solver.types"}
ALLOWED = {
    "runtime.values": set(),
    "runtime": set(),
    # The vocabulary: pure data and text.
    "builder.errors": set(),
    "builder.values": {"runtime.values"},
    "builder.text": {"builder.errors", "builder.values"},
    "builder.oci": {"builder.errors", "builder.values", "builder.text"},
    "builder.graph": {"builder.errors", "builder.values", "builder.text", "builder.oci"},
    "frontend": {"builder.values", "builder.text", "builder.oci", "builder.graph"},
    "builder.session": WORDS,
    "builder.progress": WORDS,
    # The store.
    # Removing trees of any depth is what the scratch folder needs too; that module stands on nothing but the kernel.
    "builder.state": WORDS | {"builder.files.trees"},
    "builder.files.trees": {"builder.values", "runtime.linux"},
    "builder.files": BASE,
    "builder.content": BASE,
    "builder.snapshots": FILES | {"builder.content"},
    "builder.config": WORDS | {"builder.cache.types", "runtime.linux", "runtime.errors"},
    "builder.cache": STORAGE | {"builder.config"},
    # The engine and what its ops need.
    "builder.solver": WORDS | {"builder.state", "builder.progress.events"},
    "builder.net": BASE | {"builder.config", "builder.content"},
    "builder.images": STORAGE | {"builder.cache", "builder.net"},
    "builder.worker": STORAGE | {"builder.cache", "builder.images", "builder.net", "builder.config", "runtime"},
    "builder.sources": STORAGE
    | {"builder.cache", "builder.net", "builder.images", "builder.config", "builder.session", "builder.worker"},
    "builder.ops": STORAGE
    | {"builder.cache", "builder.sources", "builder.session", "builder.worker", "builder.progress.clip", "runtime"},
    "builder.exporters": STORAGE
    | {"builder.cache", "builder.net", "builder.images", "builder.sources", "builder.worker", "builder.config"},
    "builder.remotecache": STORAGE
    | {"builder.cache", "builder.net", "builder.sources", "builder.exporters", "builder.worker", "builder.solver"},
    "builder.doctor": STORAGE | {"builder.worker", "runtime"},
    # The library, and the two that stand on it.
    "builder.build": STORAGE
    | {"builder.cache", "builder.config", "builder.doctor", "builder.exporters", "builder.images", "builder.ops", "frontend"}
    | {"builder.remotecache", "builder.session", "builder.solver", "builder.sources", "builder.worker"},
    # Of the library its public names alone ("from builder import Root"); besides them displays, and what any text needs.
    "builder.cli": {"builder.progress", "builder.text", "builder.values"},
    "builder.compare": {"builder"},
    "builder.__main__": {"builder.cli"},
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
        if name == "builder" and part == "builder.cli":
            continue
        assert any(name == a or name.startswith(a + ".") for a in allowed), f"{path}:{line}: {part} must not import {name}"


def circle(imports: dict[str, set[str]]) -> list[str]:
    """The modules that take part in some circle of ``imports`` or lead to one; none if there is none."""
    left = {module: set(others) for module, others in imports.items()}
    while free := [module for module, others in left.items() if not others & left.keys()]:
        for module in free:
            del left[module]
    return sorted(left)


def test_two_modules_that_import_one_another_are_a_circle() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circle({"a": {"b"}, "b": {"a"}, "c": set()}) == ["a", "b"]


def test_the_cache_has_no_circle_of_imports() -> None:
    """Neither at run time nor of types: each class is built of those below it."""
    room = {module: path for module, path in modules() if module.startswith("builder.cache.")}
    imports = {module: {name for _, name in imported(path)} for module, path in room.items()}
    # A module imported by its name out of the package (``from builder.cache import copied``) would not be seen.
    assert "builder.cache" not in set().union(*imports.values())
    assert circle(imports) == []


def test_the_network_is_one_seam() -> None:
    users = {module for module, path in modules() for _, name in imported(path) if name.split(".")[0] in ("httpx", "httpcore")}
    assert users == {"builder.net.transport", "builder.net.sockets"}


def test_a_cached_build_loads_nothing_of_the_network_or_the_sandbox() -> None:
    """What is imported at the top of the modules that every build goes through."""
    import subprocess
    import sys

    code = """
import sys, builder.build.pipeline, frontend.convert
print(*[m for m in sys.modules if m in ("httpx", "asyncio", "tarfile")])
"""
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.split() == []


def test_a_cached_build_compiles_no_regular_expression_of_ours() -> None:
    """Each takes about a millisecond; what is matched on the way of every build is cut by hand, or by ``builder.text``."""
    import subprocess
    import sys

    code = (
        "import re, sys\n"
        "compile, found = re.compile, []\n"
        "def noted(*args, **options):\n"
        "    frame = sys._getframe(1)\n"
        "    if frame.f_code.co_filename.startswith(tuple(sys.argv[1:])):\n"
        "        found.append(frame.f_code.co_filename)\n"
        "    return compile(*args, **options)\n"
        "re.compile = noted\n"
        "import builder.build.pipeline, builder.cli.build_command, builder.sources.local, builder.ops.file.op, builder.ops.exec\n"
        "import builder.text.wild, frontend.convert, frontend.parser, frontend.dockerignore, frontend.shellpattern\n"
        "print(*found)\n"
    )
    ours = [os.path.join(ROOT, package, "") for package in ("builder", "frontend", "runtime")]
    out = subprocess.run([sys.executable, "-c", code, *ours], cwd=ROOT, capture_output=True, text=True, check=True)
    assert out.stdout.split() == []


# Where the environment is looked at. A caller of the library says what he wants in a request; what stands here is said to be read
# (docs/library.md), or is handed on to a program that we start.
ENVIRONMENT = {
    "builder.build.remote",  # the process that builds has the caller's
    "builder.build.secrets",  # a secret that a request names by its variable
    "builder.build.sshkeys",  # of ssh-add
    "builder.config",  # PYBUILD_CONFIG
    "builder.net.auth",  # DOCKER_CONFIG
    "builder.net.transport",  # proxies, and certificates as OpenSSL has them
    "builder.ops.exec",  # BUILDKIT_STEP_LOG_MAX_*
    "builder.sources.gitauth",  # of git
    "builder.sources.gitcli",
    "builder.state.layout",  # PYBUILD_ROOT, XDG_DATA_HOME
    "builder.state.recovery",  # a word to the same command started again
    "runtime.executor",  # PATH
    "runtime.linux.idmaps",  # PATH
    "runtime.zygote",
}


def test_the_library_knows_no_terminal_and_little_of_the_environment() -> None:
    environment: set[str] = set()
    for module, path in modules():
        if module.startswith(("builder.cli", "builder.compare", "builder.progress")):  # displays are for those who have a screen
            continue
        with open(path, encoding="utf-8") as f:
            for node in ast.walk(ast.parse(f.read())):
                name = node.attr if isinstance(node, ast.Attribute) else node.id if isinstance(node, ast.Name) else ""
                assert name not in ("isatty", "get_terminal_size"), f"{path}:{getattr(node, 'lineno', 0)}: {name}"
                if isinstance(node, ast.Attribute) and ast.unparse(node) in ("os.environ", "os.environb", "os.getenv"):
                    environment.add(module)
                assert ast.unparse(node) != "sys.argv" or module == "builder.state.recovery", path  # the command, started again
    assert environment == ENVIRONMENT
