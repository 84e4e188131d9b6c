"""What happens to a case between two builds: every kind of change to files and to the Dockerfile, from a seed.

A change keeps the times of files unless it is about them: size and time must not be what tells a build that a file is another.
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable

from builder.values import replace
from tests.fuzz.cases import Case, Change, Scenario, Stage
from tests.fuzz.trees import Node, mtime_of, tidy


def changed(first: Case, count: int) -> Scenario:
    """``first`` and ``count`` changes to it, by its seed; now and then one goes back to an earlier state."""
    rng = random.Random(first.seed ^ 0x5EED)
    changes: list[Change] = []
    now = first
    while len(changes) < count:
        if len(changes) >= 2 and rng.random() < 0.2:
            back = rng.choice([first, *(c.case for c in changes[:-1])])
            changes.append(Change("back to what was built before", back, rng.random() < 0.5, cached=True))
            now = back
            continue
        name = rng.choices(list(KINDS), [weight for weight, _ in KINDS.values()])[0]
        found = KINDS[name][1](rng, now)
        if found is None or found == now:
            continue
        changes.append(Change(name, found, rng.random() < 0.5, cached=name in NO_EFFECT))
        now = found
    return Scenario(first, tuple(changes))


_Kind = Callable[[random.Random, Case], Case | None]


# ---------------------------------------------------------------------------------------------- the context
def _file(rng: random.Random, case: Case, *kinds: str) -> str | None:
    paths = [p for p, n in case.context.items() if n.kind in (kinds or ("file",))]
    return rng.choice(paths) if paths else None


def _put(case: Case, path: str, node: Node | None) -> Case:
    tree = dict(case.context)
    if node is None:
        tree.pop(path, None)
    else:
        tree[path] = node
    return replace(case, context=tidy(tree))


def _same_size(rng: random.Random, case: Case) -> Case | None:
    path = _file(rng, case)
    if path is None or not case.context[path].data:
        return None
    node = case.context[path]
    at = rng.randrange(len(node.data))
    data = bytearray(node.data)
    data[at] ^= rng.randint(1, 255)
    return _put(case, path, replace(node, data=bytes(data)))


def _grown(rng: random.Random, case: Case) -> Case | None:
    path = _file(rng, case)
    return path and _put(case, path, replace(case.context[path], data=case.context[path].data + b"grown %d" % rng.randrange(10**6)))  # type: ignore[return-value]


def _mode(rng: random.Random, case: Case) -> Case | None:
    path = _file(rng, case, "file", "dir")
    return path and _put(
        case, path, replace(case.context[path], mode=case.context[path].mode ^ rng.choice([0o100, 0o22, 0o4000, 0o1, 0o40]))
    )  # type: ignore[return-value]


def _owner(rng: random.Random, case: Case) -> Case | None:
    path = _file(rng, case, "file", "dir")
    return path and _put(case, path, replace(case.context[path], owner=(rng.randint(1, 9), rng.randint(1, 9))))  # type: ignore[return-value]


def _xattr(rng: random.Random, case: Case) -> Case | None:
    path = _file(rng, case, "file", "dir")
    if path is None:
        return None
    node = case.context[path]
    value = b"%d" % rng.randrange(10**6)
    return _put(case, path, replace(node, xattrs=() if node.xattrs and rng.random() < 0.4 else (("user.mark", value),)))


def _type(rng: random.Random, case: Case) -> Case | None:
    """A file becomes a folder or a link, a link a file or a folder, a folder a file or a link."""
    path = _file(rng, case, "file", "dir", "symlink", "hardlink")
    if path is None:
        return None
    node = case.context[path]
    tree = {p: n for p, n in case.context.items() if not p.startswith(path + "/")}
    targets = [p for p in tree if p != path] or ["nowhere"]
    to = rng.choice([k for k in ("file", "dir", "symlink") if k != node.kind])
    if to == "file":
        tree[path] = mtime_of(Node("file", data=b"now a file\n"))
    elif to == "symlink":
        tree[path] = mtime_of(Node("symlink", link="/" + rng.choice(targets)))
    else:
        tree[path] = Node("dir", mode=0o755)
        if rng.random() < 0.7:
            tree[path + "/inner"] = mtime_of(Node("file", data=node.data or b"inner\n"))
    return replace(case, context=tidy(tree))


def _rename(rng: random.Random, case: Case) -> Case | None:
    path = _file(rng, case, "file", "dir", "symlink")
    if path is None:
        return None
    to = path + rng.choice([".renamed", "2", "~"])
    tree: dict[str, Node] = {}
    for p, n in case.context.items():
        moved = to + p[len(path) :] if p == path or p.startswith(path + "/") else p
        if n.kind == "hardlink" and (n.link == path or n.link.startswith(path + "/")):
            n = replace(n, link=to + n.link[len(path) :])
        tree[moved] = n
    return replace(case, context=tidy(tree))


def _swap(rng: random.Random, case: Case) -> Case | None:
    """Two files trade places."""
    a, b = _file(rng, case), _file(rng, case)
    if a is None or b is None or a == b:
        return None
    tree = dict(case.context)
    tree[a], tree[b] = tree[b], tree[a]
    return replace(case, context=tidy(tree))


def _add(rng: random.Random, case: Case) -> Case:
    folders = ["", *(f"{p}/" for p, n in case.context.items() if n.kind == "dir")]
    path = rng.choice(folders) + rng.choice(["added.txt", "b.txt", ".new", "a*b"])
    return _put(case, path, mtime_of(Node("file", data=b"added %d\n" % rng.randrange(10**6))))


def _remove(rng: random.Random, case: Case) -> Case | None:
    path = _file(rng, case, "file", "dir", "symlink", "hardlink", "fifo")
    return path and _put(case, path, None)  # type: ignore[return-value]


def _retarget(rng: random.Random, case: Case) -> Case | None:
    path = _file(rng, case, "symlink")
    return path and _put(case, path, mtime_of(Node("symlink", link=rng.choice([*case.context, "/else", "."]))))  # type: ignore[return-value]


def _hardlink(rng: random.Random, case: Case) -> Case | None:
    """A second name for a file, or an end of one: the bytes and the names are the same after it."""
    path = _file(rng, case, "hardlink")
    if path is not None:
        first = case.context[case.context[path].link]
        return _put(case, path, first)
    same: dict[tuple[bytes, int], list[str]] = {}
    for p, n in case.context.items():
        if n.kind == "file":
            same.setdefault((n.data, n.mode), []).append(p)
    pairs = [ps for ps in same.values() if len(ps) > 1]
    if not pairs:
        return None
    first_name, second = sorted(rng.choice(pairs))[:2]
    return _put(case, second, Node("hardlink", link=first_name))


def _ignore(rng: random.Random, case: Case) -> Case:
    lines = list(case.ignore or ())
    paths = [p for p in case.context if "\\" not in p and "[" not in p] or ["a"]
    if lines and rng.random() < 0.4:
        lines.pop(rng.randrange(len(lines)))
    else:
        lines.insert(rng.randint(0, len(lines)), rng.choice(["", "!"]) + rng.choice([rng.choice(paths), "*.txt", "**/a"]))
    return replace(case, ignore=tuple(lines) if lines or rng.random() < 0.5 else None)


def _time(rng: random.Random, case: Case) -> Case | None:
    """Only the times of files: no key has those."""
    if case.inside or case.ignore is not None:
        pass
    path = _file(rng, case, "file")
    return path and _put(case, path, replace(case.context[path], mtime=case.context[path].mtime + rng.randint(1, 10**6)))  # type: ignore[return-value]


def _named(rng: random.Random, case: Case) -> Case | None:
    if not case.named:
        return None
    changed = rng.choice([_same_size, _mode, _add, _remove, _type, _rename])(rng, replace(case, context=case.named))
    return changed and replace(case, named=changed.context)  # type: ignore[return-value]


# ---------------------------------------------------------------------------------------------- the Dockerfile
def _argument(rng: random.Random, case: Case) -> Case:
    args = dict(case.args)
    name = rng.choice(["LA", "LB", "GA", "GB"])
    if name in args and rng.random() < 0.3:
        del args[name]
    else:
        args[name] = f"changed{rng.randrange(1000)}"
    return replace(case, args=tuple(args.items()))


def _at(rng: random.Random, case: Case) -> tuple[int, int]:
    stage = rng.randrange(len(case.stages))
    return stage, rng.randrange(len(case.stages[stage].instructions))


def _with_lines(case: Case, stage: int, lines: list[str]) -> Case:
    stages = list(case.stages)
    stages[stage] = replace(stages[stage], instructions=tuple(lines) or ("ENV left=nothing",))
    return replace(case, stages=tuple(stages))


def _edit(rng: random.Random, case: Case) -> Case | None:
    """A word of an instruction is another."""
    stage, number = _at(rng, case)
    lines = list(case.stages[stage].instructions)
    words = list(re.finditer(r"(?:one|two|three|four|five|six)\d+", lines[number]))
    if not words:
        return None
    at = rng.choice(words)
    lines[number] = lines[number][: at.start()] + f"edited{rng.randrange(10**4)}" + lines[number][at.end() :]
    return _with_lines(case, stage, lines)


def _drop(rng: random.Random, case: Case) -> Case:
    stage, number = _at(rng, case)
    lines = list(case.stages[stage].instructions)
    del lines[number]
    return _with_lines(case, stage, lines)


def _trade(rng: random.Random, case: Case) -> Case | None:
    stage, number = _at(rng, case)
    lines = list(case.stages[stage].instructions)
    if number + 1 == len(lines):
        return None
    lines[number], lines[number + 1] = lines[number + 1], lines[number]
    return _with_lines(case, stage, lines)


def _insert(rng: random.Random, case: Case) -> Case:
    stage, number = _at(rng, case)
    lines = list(case.stages[stage].instructions)
    lines.insert(
        number,
        rng.choice(
            [f"ENV LA=env{rng.randrange(100)}", f"LABEL l={rng.randrange(100)}", "USER root", f"WORKDIR /in{rng.randrange(9)}"]
        ),
    )
    return _with_lines(case, stage, lines)


def _comment(rng: random.Random, case: Case) -> Case | None:
    if case.inside:
        return None
    stage, number = _at(rng, case)
    lines = list(case.stages[stage].instructions)
    lines.insert(number, f"# comment {rng.randrange(10**4)}")
    return _with_lines(case, stage, lines)


def _order(rng: random.Random, case: Case) -> Case | None:
    """The stages before the last in another order in which each comes after those it names."""
    if case.inside or len(case.stages) < 3 or any(re.search(r"--from=\d|from=\d", s.text()) for s in case.stages):
        return None
    left = list(case.stages[:-1])
    out: list[Stage] = []
    while left:
        ready = [s for s in left if not any(needs(s, o.name) for o in left if o is not s)]
        out.append(rng.choice(ready))
        left.remove(out[-1])
    return replace(case, stages=(*out, case.stages[-1]))


def needs(stage: Stage, name: str) -> bool:
    """Whether ``stage`` is built on the stage of that name, or copies or mounts from it."""
    return stage.base == name or re.search(rf"from={name}\b", stage.text()) is not None


def _renamed_stage(rng: random.Random, case: Case) -> Case | None:
    """A stage under another name: names are in no key."""
    if case.inside or not case.stages:
        return None
    old = rng.choice(case.stages).name
    new = f"r{rng.randrange(1000)}x"
    stages = []
    for s in case.stages:
        lines = tuple(re.sub(rf"from={old}\b", f"from={new}", line) for line in s.instructions)
        stages.append(Stage(new if s.name == old else s.name, new if s.base == old else s.base, lines))
    return replace(case, stages=tuple(stages))


KINDS: dict[str, tuple[float, _Kind]] = {
    "content at equal size and time": (5, _same_size),
    "content that grew": (1, _grown),
    "mode": (2, _mode),
    "owner": (1, _owner),
    "xattr": (2, _xattr),
    "type": (3, _type),
    "rename": (2, _rename),
    "two files traded": (1, _swap),
    "file added": (2, _add),
    "file removed": (2, _remove),
    "link's target": (1, _retarget),
    "hard link": (1, _hardlink),
    ".dockerignore": (3, _ignore),
    "time": (1, _time),
    "named context": (2, _named),
    "build argument": (3, _argument),
    "instruction edited": (3, _edit),
    "instruction dropped": (2, _drop),
    "instructions traded": (2, _trade),
    "instruction inserted": (2, _insert),
    "comment": (1, _comment),
    "order of stages": (1, _order),
    "name of a stage": (1, _renamed_stage),
}
NO_EFFECT = {"owner", "time", "comment", "order of stages", "name of a stage"}
"""Changes because of which no step runs."""
