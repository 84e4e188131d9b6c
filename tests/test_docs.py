"""What the papers name is there: files, modules, classes, functions, tests."""

from __future__ import annotations

import ast
import os
import re
from collections.abc import Iterator
from functools import cache

import pytest

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
DOCS = sorted(f"docs/{name}" for name in os.listdir(f"{ROOT}/docs") if name.endswith(".md"))
PAPERS = ["ARCHITECTURE.md", "CONTRIBUTING.md", "README.md", *DOCS]
_FENCE = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`\n]+)`")
_PATH = re.compile(r"[\w.-]+(/[\w.{},-]+)+(\.py|\.md|\.toml|\.sh|/)?")
_MODULE = re.compile(r"(builder|frontend|runtime|tests)(\.\w+)+")
_TEST = re.compile(r"test_\w+")
_PRIVATE = re.compile(r"_\w+")
_MEMBER = re.compile(r"[A-Z][a-z]\w+\._?[a-z]\w+")
_BELOW = ("", "builder", "frontend", "runtime", "tests", "tests/builder")
_TOPS = ("builder/", "frontend/", "runtime/", "tests/", "docs/", "examples/", "benchmarks/", "testdata/", ".ci/")


def words(paper: str) -> Iterator[tuple[int, str]]:
    with open(os.path.join(ROOT, paper), encoding="utf-8") as f:
        text = f.read()
    prose = _FENCE.sub(lambda m: "\n" * m.group().count("\n"), text)
    for number, line in enumerate(prose.splitlines(), 1):
        for word in _CODE.findall(line):
            yield number, word


@cache
def names_in(path: str) -> frozenset[str]:
    with open(path, encoding="utf-8") as f:
        tree = ast.parse(f.read())
    found: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.ClassDef)):
            found.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            found.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            found.add(node.attr)
        elif isinstance(node, ast.ImportFrom):
            found.update(alias.asname or alias.name for alias in node.names)
    return frozenset(found)


def has_module(dotted: str) -> bool:
    """A module, a package, or names in one."""
    parts = dotted.split(".")
    for length in range(len(parts), 0, -1):
        base = os.path.join(ROOT, *parts[:length])
        for path in (base + ".py", os.path.join(base, "__init__.py")):
            if os.path.exists(path):
                return all(name in names_in(path) for name in parts[length:])
    return False


def has_path(path: str) -> bool:
    """From the top, or below a package or the tests of one."""
    return any(os.path.exists(os.path.join(ROOT, top, path.rstrip("/"))) for top in _BELOW)


@cache
def all_names(*tops: str) -> frozenset[str]:
    """Of modules below ``tops``, and all that they define."""
    found: set[str] = set()
    for top in tops:
        for folder, _, names in os.walk(os.path.join(ROOT, top)):
            for name in names:
                if name.endswith(".py"):
                    found |= {name[:-3], *names_in(os.path.join(folder, name))}
    return frozenset(found)


def test_a_guard_is_in_the_file_that_it_is_said_to_be_in() -> None:
    """In the tables of threats: ``FILE``: ``name``, ``name``."""
    with open(f"{ROOT}/docs/security.md", encoding="utf-8") as f:
        rows = [line.split("|")[2] for line in f if line.startswith("| ") and line.count("|") == 4]
    looked, missing = 0, []
    for cell in rows:
        for part in re.split(r";|\), ", cell):
            file, colon, names = part.partition(": ")
            found = [p for p in _CODE.findall(file) if p.endswith(".py")]
            if colon and len(found) == 1 and file.strip().endswith("`"):
                path = next(p for top in _BELOW if os.path.exists(p := os.path.join(ROOT, top, found[0])))
                guards = re.match(r"(`[\w.]+`(, | \(twice\), )?)+", names)
                for name in _CODE.findall(guards.group() if guards else ""):
                    looked += 1
                    if name.rpartition(".")[2] not in names_in(path):
                        missing.append(f"{found[0]}: {name}")
    assert looked > 60
    assert not missing


@pytest.mark.parametrize("paper", PAPERS)
def test_what_a_paper_names_exists(paper: str) -> None:
    missing = []
    for line, word in words(paper):
        if _MODULE.fullmatch(word):
            there = has_module(word)
        elif _PATH.fullmatch(word) and (word.startswith(_TOPS) or word.endswith(".py")):
            there = has_path(word) or re.search(r"[A-Z]{3,}|/[A-Z]\.", word) is not None  # NAME stands for any
        elif _TEST.fullmatch(word):
            there = word in all_names("tests")
        elif _PRIVATE.fullmatch(word) or _MEMBER.fullmatch(word):
            there = all_names("builder", "frontend", "runtime", "tests").issuperset(word.split("."))
        else:
            continue
        if not there:
            missing.append(f"{paper}:{line}: {word}")
    assert missing == []


def test_a_name_that_is_not_there_is_noticed() -> None:
    assert has_module("builder.cache.record.CacheRecord")
    assert not has_module("builder.cache.record.NoRecord")
    assert not has_module("builder.nothing")
    assert has_path("cache/record.py")
    assert not has_path("cache/nothing.py")
