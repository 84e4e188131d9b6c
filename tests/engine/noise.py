"""Noise in the metadata database, and what two builds make of it. By hand, for the full numbers::

    python -m tests.engine.noise --pages 300 --bytes 100 --indexes 20 --jobs 2

``--pages N``: N databases with one to four whole pages of noise anywhere. ``--bytes N``: for every table N databases with 1 to 40
bytes of noise in one of its leaf pages; ``--indexes N``: the same for every index. Needs root, docker-registry and git, as the
integration tests do.
"""

from __future__ import annotations

import argparse
import hashlib
import importlib
import json
import multiprocessing
import os
import random
import shutil
import signal
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
from typing import Any, NoReturn

from builder.values import dataclass, field
from tests.support import bases
from tests.support.cli import DEADLINE, Done, Pybuild
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
    """A context that was built once: ``root`` is the state folder from then; ``listing``, ``manifest`` and the digests of its
    ``archives`` say what the image was."""

    root: str
    context: str
    pages: Pages
    listing: Mapping[str, tuple[Any, ...]]
    manifest: str
    archives: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of one damaged database. ``faults``: what should not be, a line each. ``rerun``: steps that were run again."""

    kind: str
    seed: int
    faults: tuple[str, ...]
    warned: bool = False
    rerun: int = 0
    output: str = field(default="", repr=False)


class Warm(Pybuild):
    """Commands as children of this process, which has all modules loaded: a tenth of the time. A command that starts itself again
    does so as a real one. For a process without threads."""

    def __call__(
        self,
        *args: str,
        cwd: str | os.PathLike[str] | None = None,
        env: Mapping[str, str | None] | None = None,
        input: str | bytes = b"",
    ) -> Done:
        assert not input, "standard input is empty here"
        assert cwd is None, "there is one working folder"
        with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
            child = os.fork()
            if child == 0:
                _become(self.command(*args), self.environment(env), out.fileno(), err.fileno())
            code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
            texts = []
            for file in (out, err):
                file.seek(0)
                texts.append(file.read().decode(errors="replace"))
        return Done(tuple(args), code, *texts)


def _become(command: Sequence[str], environment: dict[str, str], out: int, err: int) -> NoReturn:
    """In a forked child: be the command."""
    code = 99
    try:
        signal.alarm(int(DEADLINE))
        os.environ.clear()
        os.environ.update(environment)
        os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
        os.dup2(out, 1)
        os.dup2(err, 2)
        sys.argv[:] = ["pybuild", *command[3:]]
        sys.orig_argv[:] = command
        from builder.cli.main import main as pybuild

        code = pybuild()
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def warm_up(pybuild: Pybuild, context: str) -> None:
    """Load what a cached build, and one that finds damage, loads."""
    code = "import sys; from builder.cli.main import main; main(); print(*sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code, "-o", "type=image", context],
        env=pybuild.environment(), capture_output=True, text=True, check=True,
    )  # fmt: skip
    for name in [*done.stdout.split(), "builder.state.salvage", "builder.cache.repair", "builder.cache.fsck"]:
        if name.split(".")[0] in ("builder", "frontend", "runtime", "json", "sqlite3", "hashlib", "zlib", "isal", "click"):
            importlib.import_module(name)


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
        done = build(Pybuild(root), str(context), folder)
        assert done.code == 0, done.err
        image, manifest = read(folder)
        pages = read_pages(f"{root}/{DATABASE}")
        yield Subject(root, str(context), pages, listing(image), manifest, archives(folder))


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


def build(pybuild: Pybuild, context: str, out: str) -> Done:
    """Build into the image store, and into two archives: as it is, and with all times set to one."""
    for path in _archives(out):
        if os.path.exists(path):
            os.unlink(path)
    plain, timeless = _archives(out)
    outputs = ("type=image", f"type=oci,dest={plain}", f"type=oci,dest={timeless},rewrite-timestamp=true")
    args = [word for output in outputs for word in ("-o", output)]
    return pybuild("-t", "app", *args, context, env={"SOURCE_DATE_EPOCH": "1"})


def _archives(out: str) -> tuple[str, str]:
    return f"{out}/plain.tar", f"{out}/timeless.tar"


def archives(out: str) -> tuple[str, ...]:
    """Digests of both."""
    return tuple(hashlib.sha256(Path(path).read_bytes()).hexdigest() for path in _archives(out))


def read(out: str) -> tuple[Image, str]:
    """(the image, its manifest with all times set to one). AssertionError where layers are not those of the config."""
    plain, timeless = _archives(out)
    return read_image(plain), json.dumps(read_image(timeless).manifest, sort_keys=True)


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


def trial(subject: Subject, kind: str, seed: int, folder: str, command: type[Pybuild] = Pybuild) -> Verdict:
    """Damage a copy of the root, then build until a build is cached and silent: each has to give the image, no more than one may
    warn, and what follows the one that noticed has to be past it."""
    root = f"{folder}/root"
    pybuild = command(root)
    subprocess.run(["cp", "-a", subject.root, root], check=True)
    (damage if seed % 2 or kind == PAGES else damage_rows)(f"{root}/{DATABASE}", subject.pages, kind, seed)
    faults: list[str] = []
    outputs: list[str] = []
    warnings: list[str] = []
    rerun = quiet = 0
    while quiet < _QUIET and len(outputs) < _MOST:
        turn = f"build {len(outputs) + 1}"
        done = build(pybuild, subject.context, folder)
        outputs.append(done.err)
        told = [line for line in done.err.splitlines() if line.startswith("warning:")]
        warnings += told
        quiet = 0 if told or done.not_cached() or done.code else quiet + 1
        rerun += len(done.not_cached())
        if "Traceback" in done.err:
            faults.append(f"{turn}: a traceback")
        if done.code:
            faults.append(f"{turn}: failed: {done.err.strip().splitlines()[-1:]}")
        elif why := _wrong(subject, folder):
            faults.append(f"{turn}: wrong: {why}")
    if quiet < _QUIET:
        faults.append(f"it stays: build {len(outputs)} is not cached, or warns")
    # What no build has read fsck may still find; then the next command is past it.
    warnings += [line for line in pybuild("fsck").err.splitlines() if line.startswith("warning:")]
    checked = pybuild("fsck", "--verify")
    if checked.code:
        faults.append(f"fsck: {checked.out.splitlines()[:2]} {checked.err.splitlines()[-1:]}")
    if len(warnings) > 1:
        faults.append(f"warned {len(warnings)} times: {warnings}")
    subprocess.run(["rm", "-rf", root], check=True)
    return Verdict(kind, seed, tuple(faults), bool(warnings), rerun, "\n----\n".join(outputs))


def _wrong(subject: Subject, folder: str) -> str:
    """What is wrong with the image that was just built, or ""."""
    if archives(folder) == subject.archives:
        return ""
    try:
        image, manifest = read(folder)
    except AssertionError as e:
        return f"its parts do not fit one another: {str(e)[:200]}"
    if listing(image) != subject.listing:
        lost = sorted(subject.listing.keys() - image.files().keys())
        return f"{len(lost)} files are missing, such as {lost[:3]}"
    return "" if manifest == subject.manifest else "another manifest"


# ------------------------------------------------------------------------------------------------------------------- by hand
def _one(work: tuple[Subject, str, int, str]) -> Verdict:
    subject, kind, seed, folder = work
    at = tempfile.mkdtemp(dir=folder)
    try:
        return trial(subject, kind, seed, at, Warm)
    finally:
        shutil.rmtree(at, ignore_errors=True)


def main(argv: Sequence[str] | None = None) -> int:
    """Print faults as they come, and a table in the end; 1 if there is any."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pages", type=int, default=0, metavar="N")
    parser.add_argument("--bytes", type=int, default=0, metavar="N")
    parser.add_argument("--indexes", type=int, default=0, metavar="N")
    parser.add_argument("--only", default="", metavar="TABLE", help="bytes in this table or index alone")
    parser.add_argument("--first", type=int, default=0, metavar="SEED")
    parser.add_argument("--jobs", type=int, default=1, metavar="N")
    parser.add_argument("--verbose", action="store_true", help="the output of builds with faults")
    flags = parser.parse_args(argv)
    began = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="noise-") as folder, prepared(folder) as subject:
        many = {PAGES: flags.pages}
        for kind in subject.pages.leaves:
            if flags.only in ("", kind):
                many[kind] = flags.bytes if kind in subject.pages.tables else flags.indexes
        work = [
            (subject, kind, seed, folder) for kind, count in many.items() for seed in range(flags.first, flags.first + count)
        ]
        warm_up(Pybuild(subject.root), subject.context)
        with ProcessPoolExecutor(flags.jobs, mp_context=multiprocessing.get_context("fork")) as pool:
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
