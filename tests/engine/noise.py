"""Noise in the metadata database, and what two builds make of it. By hand, for the full numbers::

    python -m tests.engine.noise --pages 300 --bytes 100 --jobs 2

``--pages N``: N databases with one to four whole pages of noise anywhere. ``--bytes N``: for every table and index N databases with
1 to 40 bytes of noise in one of its leaf pages. Needs root, docker-registry and git, as the integration tests do.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from builder.values import dataclass, field
from tests.support import bases
from tests.support.cli import Done, Pybuild
from tests.support.oci import Image, read_image
from tests.support.pages import Pages, overwrite, read_pages
from tests.support.processes import Registry, Server

DOCKERFILE = """FROM {base} AS tool
RUN echo made > /made
FROM {base} AS app
WORKDIR /srv
COPY files/ ./
COPY --link --from=tool /made linked/
ADD {http}/note.txt ./
ADD {git}/repo ./repo/
RUN --mount=type=cache,target=/c cat 1 2 3 > /all; echo more >> /c/log
FROM app
COPY --from=tool /made /srv/made
"""
"""Something in every table: lazy layers, steps, merges and diffs, a cache mount, http and git sources."""
PAGES = "pages"
"""The kind of damage that is whole pages anywhere; other kinds are names of tables and indexes."""
DATABASE = "metadata.db"
_QUIET, _MOST = 1, 4
"""How many builds in a row have to be cached and silent in the end, and how many builds there are at most."""


@dataclass(frozen=True, slots=True)
class Subject:
    """A context that was built once: ``root`` is the state folder from then, ``listing`` and ``manifest`` what the image was."""

    root: str
    context: str
    pages: Pages
    listing: Mapping[str, tuple[Any, ...]]
    manifest: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one damaged database. ``faults``: what should not be, a line each. ``rerun``: steps that were run again."""

    kind: str
    seed: int
    faults: tuple[str, ...]
    warned: bool = False
    rerun: int = 0
    output: str = field(default="", repr=False)


# ---------------------------------------------------------------------------------------------------------------- the subject
@contextmanager
def prepared(folder: str) -> Iterator[Subject]:
    """A registry, a web server and a git daemon, and a first build; the servers end with the block."""
    with ExitStack() as stack:
        registry = Registry(f"{folder}/registry")
        stack.callback(registry.stop)
        base = bases.push(bases.busybox_layout(f"{folder}/layout"), f"{registry.host}/library/busybox:1")
        http, git = _serve(f"{folder}/served", stack)
        context = Path(folder, "context")
        for n in range(1, 6):
            path = context / "files" / str(n)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(f"{n}\n")
        (context / "Dockerfile").write_text(DOCKERFILE.format(base=base, http=http, git=git))
        root = f"{folder}/root"
        done, image, manifest = build(Pybuild(root), str(context), folder)
        assert image is not None, done.err
        yield Subject(root, str(context), read_pages(f"{root}/{DATABASE}"), listing(image), manifest)


def _serve(folder: str, stack: ExitStack) -> tuple[str, str]:
    """(address of a web server, of a git daemon), both of ``folder``."""
    os.makedirs(f"{folder}/repo")
    Path(folder, "note.txt").write_text("noted\n")
    os.utime(f"{folder}/note.txt", (1_000_000_000, 1_000_000_000))
    Path(folder, "repo", "code").write_text("coded\n")
    env = {"PATH": os.environ["PATH"], "HOME": "/dev/null", "GIT_CONFIG_NOSYSTEM": "1"}
    for command in (["init", "-q"], ["add", "code"], ["-c", "user.name=t", "-c", "user.email=t@t", "commit", "-q", "-m", "one"]):
        subprocess.run(["git", *command], cwd=f"{folder}/repo", env=env, check=True)
    port = _free_port()
    command = ["git", "daemon", "--verbose", "--log-destination=stderr", "--export-all", "--listen=127.0.0.1", f"--port={port}"]
    daemon = Server([*command, f"--base-path={folder}", folder], "Ready to rumble", cwd=folder)
    stack.callback(daemon.stop)
    code = (
        "import functools, http.server as h, sys\n"
        "s = h.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(h.SimpleHTTPRequestHandler, directory=sys.argv[1]))\n"
        "print('at', s.server_port, file=sys.stderr, flush=True)\n"
        "s.serve_forever()"
    )
    web = Server([sys.executable, "-c", code, folder], r"at (\d+)", cwd=folder)
    stack.callback(web.stop)
    return f"http://127.0.0.1:{web.match.group(1)}", f"git://127.0.0.1:{port}"


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def build(pybuild: Pybuild, context: str, out: str) -> tuple[Done, Image | None, str]:
    """(how it ended, the image, its manifest with all times set to one). The image is None if there is none, or none
    whose layers are those of its config."""
    plain, timeless = f"{out}/plain.tar", f"{out}/timeless.tar"
    for path in (plain, timeless):
        if os.path.exists(path):
            os.unlink(path)
    outputs = ("type=image", f"type=oci,dest={plain}", f"type=oci,dest={timeless},rewrite-timestamp=true")
    done = pybuild("-t", "app", *(word for output in outputs for word in ("-o", output)), context, env={"SOURCE_DATE_EPOCH": "1"})
    if done.code:
        return done, None, ""
    return done, read_image(plain), json.dumps(read_image(timeless).manifest, sort_keys=True)


def listing(image: Image) -> dict[str, tuple[Any, ...]]:
    """Everything of every file but its time."""
    return {
        path: (file.info.type, file.mode, file.owner, file.info.linkname, file.data) for path, file in sorted(image.files().items())
    }


# ----------------------------------------------------------------------------------------------------------------- the damage
def damage(path: str, pages: Pages, kind: str, seed: int) -> None:
    """Write noise into the database. The same kind and seed do the same to the same file."""
    choose = random.Random(f"{kind} {seed}")
    if kind == PAGES:
        for page in choose.sample(range(pages.count), 1 + seed % 4):
            overwrite(path, page * pages.size, choose.randbytes(pages.size))
        return
    page = choose.choice(pages.leaves[kind])
    size = choose.randint(1, 40)
    overwrite(path, (page - 1) * pages.size + choose.randrange(pages.size - size), choose.randbytes(size))


def damage_rows(path: str, pages: Pages, kind: str, seed: int) -> None:
    """As ``damage`` by bytes, but where there are any: most of a small table's page is empty."""
    choose = random.Random(f"{kind} {seed}")
    page = choose.choice(pages.leaves[kind])
    start = (page - 1) * pages.size
    with open(path, "rb") as file:
        file.seek(start)
        used = [n for n, byte in enumerate(file.read(pages.size)) if byte]
    size = choose.randint(1, 40)
    at = min(choose.choice(used), pages.size - size)
    overwrite(path, start + at, choose.randbytes(size))


def trial(subject: Subject, kind: str, seed: int, folder: str) -> Verdict:
    """Damage a copy of the root, then build until a build is cached and silent: each has to give the image, no more than one may
    warn, and what follows the one that noticed has to be past it."""
    root = f"{folder}/root"
    # Hard links: nothing in a store is written to in place but the database, and files that a step is writing.
    subprocess.run(["cp", "-al", subject.root, root], check=True)
    os.unlink(f"{root}/{DATABASE}")
    shutil.copy(f"{subject.root}/{DATABASE}", f"{root}/{DATABASE}")
    (damage if seed % 2 or kind == PAGES else damage_rows)(f"{root}/{DATABASE}", subject.pages, kind, seed)
    faults: list[str] = []
    outputs: list[str] = []
    warnings: list[str] = []
    rerun = quiet = 0
    while quiet < _QUIET and len(outputs) < _MOST:
        turn = f"build {len(outputs) + 1}"
        try:
            done, image, manifest = build(Pybuild(root), subject.context, folder)
        except (AssertionError, subprocess.TimeoutExpired) as e:
            return Verdict(kind, seed, (*faults, f"{turn}: wrong: {str(e)[:200]}"), bool(warnings), rerun, "\n----\n".join(outputs))
        outputs.append(done.err)
        told = [line for line in done.err.splitlines() if line.startswith("warning:")]
        warnings += told
        quiet = 0 if told or done.not_cached() or image is None else quiet + 1
        rerun += len(done.not_cached())
        if "Traceback" in done.err:
            faults.append(f"{turn}: a traceback")
        if image is None:
            faults.append(f"{turn}: failed: {done.err.strip().splitlines()[-1:]}")
        elif listing(image) != subject.listing:
            lost = sorted(subject.listing.keys() - image.files().keys())
            faults.append(f"{turn}: wrong: {len(lost)} files are missing, such as {lost[:3]}")
        elif manifest != subject.manifest:
            faults.append(f"{turn}: wrong: another manifest")
    if quiet < _QUIET:
        faults.append(f"it stays: build {len(outputs)} is not cached, or warns")
    # What no build has read fsck may still find; then the next command is past it.
    warnings += [line for line in Pybuild(root)("fsck").err.splitlines() if line.startswith("warning:")]
    checked = Pybuild(root)("fsck", "--verify")
    if checked.code:
        faults.append(f"fsck: {checked.out.splitlines()[:2]} {checked.err.splitlines()[-1:]}")
    if len(warnings) > 1:
        faults.append(f"warned {len(warnings)} times: {warnings}")
    subprocess.run(["rm", "-rf", root], check=True)
    return Verdict(kind, seed, tuple(faults), bool(warnings), rerun, "\n----\n".join(outputs))


# ------------------------------------------------------------------------------------------------------------------- by hand
def _one(work: tuple[Subject, str, int, str]) -> Verdict:
    subject, kind, seed, folder = work
    at = tempfile.mkdtemp(dir=folder)
    try:
        return trial(subject, kind, seed, at)
    finally:
        shutil.rmtree(at, ignore_errors=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Print faults as they come, and a table in the end; 1 if there is any."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=0, metavar="N")
    parser.add_argument("--bytes", type=int, default=0, metavar="N")
    parser.add_argument("--only", default="", metavar="TABLE", help="bytes in this table or index alone")
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    parser.add_argument("--jobs", type=int, default=1, metavar="N")
    parser.add_argument("--verbose", action="store_true", help="the output of builds with faults")
    flags = parser.parse_args(argv)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="noise-") as folder, prepared(folder) as subject:
        kinds = [k for k in subject.pages.leaves if flags.only in ("", k)]
        work = [(subject, PAGES, seed, folder) for seed in range(flags.first, flags.first + flags.pages)]
        work += [(subject, kind, seed, folder) for kind in kinds for seed in range(flags.first, flags.first + flags.bytes)]
        with ProcessPoolExecutor(flags.jobs) as pool:
            verdicts = list(_told(pool.map(_one, work), flags.verbose))
    _table(verdicts)
    print(f"{len(verdicts)} databases in {time.monotonic() - began:.0f} s")
    return 1 if any(v.faults for v in verdicts) else 0


def _told(verdicts: Iterator[Verdict], verbose: bool) -> Iterator[Verdict]:
    for v in verdicts:
        for fault in v.faults:
            print(f"{v.kind} {v.seed}: {fault}", flush=True)
        if v.faults and verbose:
            print(v.output, flush=True)
        yield v


def _table(verdicts: Sequence[Verdict]) -> None:
    count: Callable[[Callable[[Verdict], bool]], Counter[str]] = lambda f: Counter(v.kind for v in verdicts if f(v))  # noqa: E731
    wrong = count(lambda v: any("wrong" in f for f in v.faults))
    failed = count(lambda v: any("failed" in f for f in v.faults))
    stuck = count(lambda v: any(f.startswith("it stays") for f in v.faults))
    noted, rerun = count(lambda v: v.warned), count(lambda v: v.rerun > 0)
    print(f"{'':30}{'trials':>8}{'wrong':>8}{'failed':>8}{'stays':>8}{'warned':>8}{'re-ran':>8}")
    for kind, trials in Counter(v.kind for v in verdicts).items():
        print(f"{kind:30}{trials:8}{wrong[kind]:8}{failed[kind]:8}{stuck[kind]:8}{noted[kind]:8}{rerun[kind]:8}")


if __name__ == "__main__":
    sys.exit(main())
