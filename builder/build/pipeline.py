"""The way of a build: inputs -> frontend -> solver -> exporters. Everything else hangs off these few calls."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from typing import TYPE_CHECKING, cast

from builder.build.inputs import Inputs, read_inputs
from builder.build.resolver import WorldResolver, context_folders, step
from builder.build.secrets import secret_provider
from builder.cli.common import forget_pruned, open_root
from builder.cli.displays import open_display
from builder.cli.failures import BuildFailed
from builder.errors import UsageError
from builder.session import Session
from builder.text import gojson

if TYPE_CHECKING:
    from builder.build.request import BuildRequest
    from builder.cache.refs import ImmutableRef
    from builder.cache.types import Readable
    from builder.cli.displays import Display
    from builder.exporters.image import WrittenImage
    from builder.exporters.types import BuildOutput
    from builder.graph.vertex import Edge
    from builder.remotecache.session import RemoteCaches
    from builder.solver.plan import Plan
    from builder.solver.result import CachedResult, SharedResult
    from builder.solver.solver import Solver
    from builder.solver.steplog import StepLog
    from builder.worker import Worker
    from frontend.convert import Converted, ConvertOptions

GC_SECONDS = 2.0
"""A build does not wait longer than this for the cache to shrink; what is left is the next build's."""


def run_build(request: BuildRequest, *, root: str, config: str, runtime: str | None) -> int:
    """``pybuild build``; the exit code."""
    from builder.exporters.export import check_output

    method, _, form = request.call.partition(",")
    if method not in ("build", "check", "lint", "outline", "targets"):
        raise UsageError(f"--call={method} is not supported", hint="methods are build, check, outline, targets")
    for spec in request.outputs:
        check_output(spec, multi=len(request.platforms) > 1)
    if method != "build":
        from builder.cli.call import run_call

        return run_call(request, method, form, root=root, config=config)
    with opened(request, root, config, runtime) as build:
        build.run()
    return 0


def run_graph(request: BuildRequest, form: str, *, root: str, config: str) -> int:
    """``pybuild graph``: convert and print."""
    from builder.graph.vertex import Graph

    with opened(request, root, config, None) as build:
        converted = build.convert()
        graph = Graph(tuple(t.edge for t in converted.targets if t.edge is not None))
    print(graph.to_json() if form == "json" else graph.to_dot())
    return 0


@contextmanager
def opened(request: BuildRequest, root: str, config: str, runtime: str | None) -> Iterator[Build]:
    """A worker, a display and a scratch folder around one build; a display always shows its last state."""
    import shutil
    import tempfile

    worker = open_root(root, config, runtime)
    display = open_display(request.progress, quiet=request.quiet)
    scratch = tempfile.mkdtemp(prefix="build-", dir=worker.layout.tmp)
    build = Build(worker, request, display, scratch)
    try:
        yield build
    except (Exception, KeyboardInterrupt) as e:
        build.stop()
        display.close()
        build.explain(failed=True)
        if isinstance(e, KeyboardInterrupt) or build.inputs is None:
            raise
        raise BuildFailed(e, build.inputs.name, build.inputs.dockerfile) from e
    else:
        display.close()
        build.explain()
    finally:
        build.close()
        shutil.rmtree(scratch, ignore_errors=True)
        worker.close()
    build.warn()


class Build:
    """One build on a worker. ``inputs`` is None until the Dockerfile was read."""

    def __init__(self, worker: Worker, request: BuildRequest, display: Display, scratch: str) -> None:
        self.worker, self.request, self.display = worker, request, display
        self._scratch = scratch
        self._secret = secret_provider(request.secrets)
        self.session = self._session({}, {})
        self.inputs: Inputs | None = None
        self.converted: Converted | None = None
        self._done = False
        self._solver: Solver | None = None
        self._solved: list[CachedResult] = []
        self._caches = self._remote_caches()
        self._id = os.urandom(8).hex()
        self._log: StepLog | None = None

    def run(self) -> None:
        """Everything, up to the last output."""
        from builder.exporters.export import export

        converted = self.convert()
        try:
            with self._caches.exporting(self._finished) if self._caches else nullcontext():
                output = self.solve(converted)
                images = [export(self.worker, output, s, self.request.tags, self.display) for s in self.request.outputs]
        finally:
            for solved in self._solved:
                solved.release()
        self._report(next((i for i in images if i is not None), None))
        self._done = True

    def convert(self) -> Converted:
        """Read the inputs and turn the Dockerfile into a graph."""
        from frontend.convert import convert

        inputs = self.read()
        self.converted = convert(inputs.dockerfile, self.options(), self.resolver())
        return self.converted

    def resolver(self) -> WorldResolver:
        """The frontend's view of images and contexts; after ``read``."""
        return WorldResolver(self.worker, self.session, self.display)

    def read(self) -> Inputs:
        """Dockerfile, .dockerignore and contexts."""
        with step(self.display, f"[internal] load build definition from {os.path.basename(self.request.file) or 'Dockerfile'}"):
            self.inputs = read_inputs(self.request, self._scratch, self._solve_one)
        locals_, layouts = context_folders(self.request.build_contexts)
        for name, folder in (locals_ | layouts).items():
            if not os.path.isdir(folder):
                raise UsageError(f"failed to get build context {name}: {folder} is not a directory")
        self.session = self._session({**self.inputs.locals, **locals_}, {**self.inputs.oci_layouts, **layouts})
        return self.inputs

    def options(self) -> ConvertOptions:
        """The request in the frontend's terms."""
        from frontend.convert import ConvertOptions
        from frontend.dockerignore import DEFAULT_NAME, read_patterns

        request, inputs = self.request, self.inputs
        assert inputs is not None
        args = dict(request.build_args)
        return ConvertOptions(
            target=request.target,
            build_args=args,
            labels=request.labels,
            target_platforms=request.platforms,
            no_cache=request.no_cache,
            network=request.network,
            extra_hosts=request.add_hosts,
            ulimits=request.ulimits,
            shm_size=request.shm_size,
            cgroup_parent=request.cgroup_parent,
            hostname=args.get("BUILDKIT_SANDBOX_HOSTNAME", ""),
            named_contexts=request.build_contexts,
            main_context=inputs.main_context,
            ignore=read_patterns(inputs.ignore.decode("utf-8", "surrogateescape"), inputs.ignore_name or DEFAULT_NAME),
            dockerfile_name=inputs.name,
            epoch=os.environ.get("SOURCE_DATE_EPOCH", ""),
            image_resolve_mode="pull" if request.pull else "default",
        )

    def plan(self) -> Plan:
        """What ``run`` would execute; ``log.planned`` says why."""
        converted = self.convert()
        return self.solver.plan([t.edge for t in converted.targets if t.edge is not None])

    def explain(self, *, failed: bool = False) -> None:
        """Why steps ran, on standard error, if that was asked for."""
        if not self.request.explain:
            return
        from builder.cli.why import misses_text, past_misses

        found = past_misses(self._log.misses()) if self._log is not None else []
        if found or not failed:
            sys.stderr.write("\n" + (misses_text(found) if found else "Nothing ran: everything was cached.\n"))

    @property
    def log(self) -> StepLog:
        """What keeps the records of steps that run; made for the first of them."""
        if self._log is None:
            from builder.solver.steplog import StepLog
            from builder.text.redact import redact_text

            context = self.request.context
            where = os.path.abspath(context) if os.path.isdir(context) else redact_text(context)
            file = f" (-f {self.request.file})" if self.request.file else ""
            self._log = StepLog(self.worker.database, self._id, where + file)
        return self._log

    def solve(self, converted: Converted) -> BuildOutput:
        """Build the targets; the refs are the caller's to release."""
        from builder.exporters.types import BuildOutput, SolvedTarget

        edges = [t.edge for t in converted.targets if t.edge is not None]
        if self.request.no_cache:
            from builder.ops.no_cache import forget_cache_mounts

            forget_cache_mounts(edges, self.worker.cache)
        self._solved = self.solver.build(edges)
        solved = iter(self._solved)
        targets = []
        for t in converted.targets:
            result = next(solved) if t.edge is not None else None
            ref = None if result is None else cast("ImmutableRef", result.result)
            inline = self._caches.inline_cache(result) if self._caches and result else None
            targets.append(SolvedTarget(t.platform, ref, t.config, t.base_config, inline))
        epochs = [t.epoch for t in converted.targets]
        return BuildOutput(tuple(targets), converted.multi_platform, epochs[0] if epochs else None)

    @property
    def solver(self) -> Solver:
        """One solver a build: the context's source and the targets share what they have in common."""
        if self._solver is None:
            from builder.ops import resolve
            from builder.solver.keystore import SqliteKeyStore
            from builder.solver.solver import Solver

            self._solver = Solver(
                lambda vertex: resolve(vertex, self.worker, self.session),
                self.worker.cache,
                SqliteKeyStore(self.worker.database),
                self.display,
                parallelism=self.request.max_parallelism or self.worker.config.max_parallelism or None,
                locks=self.worker.layout.locks,
                imported=self._caches.key_caches() if self._caches else (),
                explanations=lambda: self.log,
            )
        return self._solver

    def stop(self) -> None:
        """Stop what still runs, after an error or Ctrl-C."""
        if self._solver is not None:
            self._solver.cancel()

    def close(self) -> None:
        """Give back what the solver holds; after a finished build, collect: its own records too, now that nobody holds them."""
        if self._solver is not None:
            self._solver.close()
        if self._done:
            policies = self.worker.config.gc_policies(self.worker.layout.root)
            if self.worker.cache.collect(policies, seconds=GC_SECONDS):
                forget_pruned(self.worker)
        if self._log is not None:
            self._log.trim()

    def warn(self) -> None:
        """Lint findings and unused build args, after the display."""
        if self.converted is None or self.request.quiet:
            return
        if any(s.type == "image" and not s.get("name") for s in self.request.outputs) and not self.request.tags and self._done:
            sys.stderr.write("[Warning] the image has no name and stays in the build cache only: name it with -t\n")
        if image := self.converted.external_frontend:
            sys.stderr.write(f"[Warning] the frontend {image} is not run: pybuild reads the Dockerfile itself\n")
        for text in self._caches.warnings if self._caches else ():
            sys.stderr.write(f"[Warning] {text}\n")
        lines = [w.short() for w in self.converted.warnings]
        if unused := self.converted.unused_build_args:
            sys.stderr.write(f"[Warning] One or more build-args [{' '.join(unused)}] were not consumed\n")
        if lines:
            count = f"{len(lines)} warning{'s' if len(lines) > 1 else ''} found (use --debug to expand):"
            sys.stderr.write(f"\n {count}\n" + "".join(f" - {line}\n" for line in lines))

    def _remote_caches(self) -> RemoteCaches | None:
        request = self.request
        if not request.cache_from and not request.cache_to:
            return None
        from builder.remotecache.session import RemoteCaches

        images = any(s.type in ("image", "oci", "docker") for s in request.outputs)
        return RemoteCaches(self.worker, request.cache_from, request.cache_to, self.display, images=images)

    def _finished(self) -> Sequence[CachedResult | SharedResult]:
        """The targets; of a build that failed, what came to an end nevertheless."""
        return self._solved or self.solver.finished

    def _solve_one(self, edge: Edge) -> Readable:
        """For remote contexts, which are read before the graph is there."""
        assert self._solver is None or self.inputs is None
        return cast("Readable", self.solver.build([edge])[0].result)

    def _session(self, locals_: dict[str, str], layouts: dict[str, str]) -> Session:
        return Session(locals_, layouts, self._secret, self.request.ssh, self.request.allow)

    def _report(self, image: WrittenImage | None) -> None:
        if image is None:
            return
        config = image.manifests[0].config.digest
        if self.request.iidfile:
            _write(self.request.iidfile, str(image.top.digest if len(image.manifests) > 1 else config).encode())
        if self.request.metadata_file:
            _write(self.request.metadata_file, _metadata(image, self.request))
        if self.request.quiet:
            print(image.top.digest if len(image.manifests) > 1 else config)


def _write(path: str, data: bytes) -> None:
    from builder.exporters.sink import output_file

    with output_file(path, "metadata") as write:
        write(data)


def _metadata(image: WrittenImage, request: BuildRequest) -> bytes:
    """buildx' --metadata-file."""

    from builder.oci.documents import descriptor_json

    doc = {
        "containerimage.config.digest": image.manifests[0].config.digest,
        "containerimage.descriptor": descriptor_json(image.top),
        "containerimage.digest": image.top.digest,
        "image.name": ",".join(str(t) for t in request.tags),
    }
    return gojson.encode({k: v for k, v in doc.items() if v}, indent=2)
