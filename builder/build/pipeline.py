"""The way of a build: inputs -> frontend -> solver -> exporters. Everything else hangs off these few calls."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING

from builder.build.inputs import Inputs, read_inputs
from builder.build.resolver import WorldResolver, context_folders, step
from builder.build.result import BuildResult, BuiltTarget
from builder.build.secrets import Secrets
from builder.errors import UsageError
from builder.session import Session
from builder.values import replace

if TYPE_CHECKING:
    from builder.build.request import BuildRequest
    from builder.build.sshkeys import KeyAgents
    from builder.cache.types import Readable
    from builder.exporters.image import WrittenImage
    from builder.exporters.types import BuildOutput
    from builder.graph.vertex import Edge
    from builder.oci.digest import Digest
    from builder.ops.refs import Ref
    from builder.progress.events import Event, Sink
    from builder.remotecache.session import RemoteCaches
    from builder.solver.explain import Miss
    from builder.solver.plan import Plan
    from builder.solver.result import CachedResult, SharedResult
    from builder.solver.solver import Solver
    from builder.solver.steplog import StepLog
    from builder.worker import Worker
    from frontend.convert import Converted, ConvertOptions
    from frontend.lint import Warning as Finding

GC_SECONDS = 2.0
"""A build does not wait longer than this for the cache to shrink; what is left is the next build's."""


class Pipeline:
    """The stations of one build on a worker. ``inputs`` is None until the Dockerfile was read."""

    def __init__(self, worker: Worker, request: BuildRequest, sink: Sink, scratch: str) -> None:
        """``scratch``: a private folder, the caller's to delete."""
        self.worker, self.request = worker, request
        self._sink, self._scratch = sink, scratch
        secrets = Secrets(request.secrets)
        self.session = Session(secret=secrets.get, ssh=request.ssh, allow=request.allow)
        self.inputs: Inputs | None = None
        self.converted: Converted | None = None
        self._warnings: list[str] = list(secrets.warnings)
        self._done = False
        self._solver: Solver[Ref] | None = None
        self._solved: list[CachedResult[Ref]] = []
        self._caches = self._remote_caches()
        self._id = os.urandom(8).hex()
        self._log: StepLog | None = None
        self._agents = self._key_agents()
        self._definition: Digest | None = None

    def run(self) -> BuildResult:
        """Everything, up to the last output."""
        from builder.exporters.export import check_outputs, check_platforms, export

        check_outputs(self.request.outputs, multi=len(self.request.platforms) > 1)
        converted = self.convert()
        platforms = [t.platform for t in converted.targets]
        self._warnings += check_platforms(self.request.outputs, platforms, multi=converted.multi_platform)
        try:
            with self._caches.exporting(self._finished) if self._caches else nullcontext():
                output = self.solve(converted)
                images = [export(self.worker, output, s, self.request.tags, self._sink) for s in self.request.outputs]
            targets = tuple(BuiltTarget(t.platform, None if t.ref is None else t.ref.id) for t in output.targets)
        finally:
            for solved in self._solved:
                solved.release()
        self._done = True
        return self._result(targets, [i for i in images if i is not None])

    def convert(self) -> Converted:
        """Read the inputs and turn the Dockerfile into a graph."""
        from frontend.convert import convert

        inputs = self.read()
        options = replace(self.options(), warn=self._tell_finding)
        self.converted = convert(inputs.dockerfile, options, self.resolver())
        return self.converted

    def _tell_finding(self, finding: Finding) -> None:
        """Below the step that read the file, as in BuildKit."""
        from builder.progress.events import Warned
        from builder.text.redact import redact_text

        assert self.inputs is not None
        file = (self.inputs.name, self.inputs.dockerfile)
        lines = tuple((r.start, r.end) for r in finding.ranges)
        self._sink(Warned(redact_text(finding.short()), finding.description, finding.url, lines, file, self._definition))

    def resolver(self) -> WorldResolver:
        """The frontend's view of images and contexts; after ``read``."""
        policy = self.request.pull if not isinstance(self.request.pull, bool) else None
        return WorldResolver(self.worker, self.session, self._sink, self._warnings.append, policy)

    def read(self) -> Inputs:
        """Dockerfile, .dockerignore and contexts."""
        name = f"[internal] load build definition from {os.path.basename(self.request.file) or 'Dockerfile'}"
        with step(self._sink, name) as self._definition:
            self.inputs = read_inputs(self.request, self._scratch, self._solve_one)
        self._warnings += self.inputs.warnings
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
            resources=request.resources,
            hostname=args.get("BUILDKIT_SANDBOX_HOSTNAME", ""),
            named_contexts=request.build_contexts,
            main_context=inputs.main_context,
            ignore=read_patterns(inputs.ignore.decode("utf-8", "surrogateescape"), inputs.ignore_name or DEFAULT_NAME),
            dockerfile_name=inputs.name,
            epoch=request.source_date_epoch,
            image_resolve_mode="pull" if request.pull is True else "default",
        )

    def plan(self) -> Plan:
        """What ``run`` would execute; ``log.planned`` says why."""
        converted = self.convert()
        return self.solver.plan([t.edge for t in converted.targets if t.edge is not None])

    def misses(self) -> tuple[Miss, ...]:
        """Why the steps that ran were not cached."""
        return tuple(self._log.misses()) if self._log is not None else ()

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
        from builder.ops.refs import recorded

        edges = [t.edge for t in converted.targets if t.edge is not None]
        if self.request.no_cache:
            from builder.ops.no_cache import forget_cache_mounts

            forget_cache_mounts(edges, self.worker.cache)
        self._solved = self.solver.build(edges)
        solved = iter(self._solved)
        targets = []
        for t in converted.targets:
            result = next(solved) if t.edge is not None else None
            ref = None if result is None else recorded(result.result)
            inline = self._caches.inline_cache(result) if self._caches and result else None
            targets.append(SolvedTarget(t.platform, ref, t.config, t.base_config, inline))
        epochs = [t.epoch for t in converted.targets]
        return BuildOutput(tuple(targets), converted.multi_platform, epochs[0] if epochs else None)

    @property
    def solver(self) -> Solver[Ref]:
        """One solver a build: the context's source and the targets share what they have in common."""
        if self._solver is None:
            from builder.ops import resolve
            from builder.solver.keystore import SqliteKeyStore
            from builder.solver.solver import Solver

            self._solver = Solver(
                lambda vertex: resolve(vertex, self.worker, self.session),
                self.worker.cache,
                SqliteKeyStore(self.worker.database),
                self._hear,
                parallelism=self.request.max_parallelism or self.worker.config.max_parallelism or None,
                locks=self.worker.layout.locks,
                imported=self._caches.key_caches() if self._caches else (),
                explanations=lambda: self.log,
            )
        return self._solver

    def _hear(self, event: Event) -> None:
        """Warnings of steps are told again when the build is over: nobody reads them between the steps."""
        from builder.progress.events import Warned

        if isinstance(event, Warned):
            self._warnings.append(event.short)
        self._sink(event)

    def cancel(self) -> None:
        """Stop what still runs: after an error, or because the caller wants it. From any thread."""
        if self._solver is not None:
            self._solver.cancel()

    def close(self) -> None:
        """Give back what the solver holds; after a finished build, collect: its own records too, now that nobody holds them."""
        if self._solver is not None:
            self._solver.close()
        if self._agents is not None:
            self._agents.close()
        if self._done:
            policies = self.worker.config.gc_policies(self.worker.layout.root)
            if self.worker.cache.collector.collect(policies, seconds=GC_SECONDS):
                from builder.build.store import forget_pruned

                forget_pruned(self.worker)
        if self._log is not None:
            self._log.trim()

    def warnings(self) -> tuple[str, ...]:
        """What the user should hear when the build is over; the linter's findings are apart."""
        texts = list(self._warnings)
        if self.converted is None:
            return tuple(texts)
        if any(s.type == "image" and not s.get("name") for s in self.request.outputs) and not self.request.tags and self._done:
            texts.append("the image has no name and stays in the build cache only: name it with -t")
        if image := self.converted.external_frontend:
            texts.append(f"the frontend {image} is not run: pybuild reads the Dockerfile itself")
        texts += self._caches.warnings if self._caches else ()
        if unused := self.converted.unused_build_args:
            texts.append(f"One or more build-args [{' '.join(unused)}] were not consumed")
        return tuple(texts)

    def findings(self) -> tuple[str, ...]:
        """The linter's, a line each."""
        from builder.text.redact import redact_text

        return () if self.converted is None else tuple(redact_text(w.short()) for w in self.converted.warnings)

    def _key_agents(self) -> KeyAgents | None:
        """The last thing that is made: nothing after it may fail and leave them."""
        if not self.request.ssh_keys:
            return None
        from builder.build.sshkeys import KeyAgents

        agents = KeyAgents(self.request.ssh_keys)
        self.session = replace(self.session, ssh={**self.session.ssh, **agents.sockets})
        return agents

    def _remote_caches(self) -> RemoteCaches | None:
        request = self.request
        if not request.cache_from and not request.cache_to:
            return None
        from builder.remotecache.session import RemoteCaches

        images = any(s.type in ("image", "oci", "docker") for s in request.outputs)
        return RemoteCaches(self.worker, request.cache_from, request.cache_to, self._sink, images=images)

    def _finished(self) -> Sequence[CachedResult[Ref] | SharedResult[Ref]]:
        """The targets; of a build that failed, what came to an end nevertheless."""
        return self._solved or self.solver.finished

    def _solve_one(self, edge: Edge, locals_: Mapping[str, str]) -> Readable:
        """For contexts that are read before the graph is there; ``locals_`` are the folders of their local sources."""
        assert self._solver is None or self.inputs is None
        self.session = self._session(dict(locals_), {})
        return self.solver.build([edge])[0].result

    def _session(self, locals_: dict[str, str], layouts: dict[str, str]) -> Session:
        return replace(self.session, locals=locals_, oci_layouts=layouts)

    def _result(self, targets: tuple[BuiltTarget, ...], images: Sequence[WrittenImage]) -> BuildResult:
        return BuildResult(targets, tuple(images), self.request.tags, self.warnings(), self.findings())
