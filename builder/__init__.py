"""pybuild as a library. The names below are its surface; the packages beside this file are how it is made.

    from builder import BuildRequest, OutputSpec, Root

    with Root.open() as root:
        build = root.build(BuildRequest(context=".", outputs=(OutputSpec.parse("type=oci,dest=app.tar"),)))
        for event in build.events():
            print(event)
        print(build.result().digest)

``llb`` makes graphs by hand (``llb.image("debian").run("make")``), ``Root.solve`` builds them. Errors are ``PybuildError`` and
what derives from it (builder/errors.py draws the tree). Names are imported when they are first used: start-up time is a feature.
"""

from __future__ import annotations

TYPE_CHECKING = False  # that of typing, whose import costs as much as all of --version

if TYPE_CHECKING:
    from builder.build import flags as flags
    from builder.build import llb as llb
    from builder.build.answer import Answer as Answer
    from builder.build.build import Build as Build
    from builder.build.failure import Failure as Failure
    from builder.build.failure import describe as describe
    from builder.build.process import enter_namespaces as enter_namespaces
    from builder.build.process import reset_root as reset_root
    from builder.build.request import BuildRequest as BuildRequest
    from builder.build.request import SecretSpec as SecretSpec
    from builder.build.result import BuildError as BuildError
    from builder.build.result import BuildResult as BuildResult
    from builder.build.result import BuiltTarget as BuiltTarget
    from builder.build.root import Root as Root
    from builder.build.root import default_root as default_root
    from builder.build.root import restart_after as restart_after
    from builder.build.userfile import read_user_file as read_user_file
    from builder.cache.types import PrunePolicy as PrunePolicy
    from builder.cache.types import UsageRecord as UsageRecord
    from builder.config import Config as Config
    from builder.doctor import Finding as Finding
    from builder.errors import CancelledError as CancelledError
    from builder.errors import NotFoundError as NotFoundError
    from builder.errors import PybuildError as PybuildError
    from builder.errors import UnsupportedError as UnsupportedError
    from builder.errors import UsageError as UsageError
    from builder.exporters.types import IMAGE_TYPES as IMAGE_TYPES
    from builder.exporters.types import OutputSpec as OutputSpec
    from builder.graph.vertex import Graph as Graph
    from builder.oci.digest import Digest as Digest
    from builder.oci.platform import Platform as Platform
    from builder.oci.reference import Reference as Reference
    from builder.progress.events import Event as Event
    from builder.progress.events import Log as Log
    from builder.progress.events import Status as Status
    from builder.progress.events import VertexCompleted as VertexCompleted
    from builder.progress.events import VertexKnown as VertexKnown
    from builder.progress.events import VertexStarted as VertexStarted
    from builder.progress.events import Warned as Warned
    from builder.session import Session as Session
    from builder.solver.errors import SolveError as SolveError
    from builder.solver.explain import Difference as Difference
    from builder.solver.explain import Miss as Miss
    from builder.solver.plan import PlannedVertex as PlannedVertex
    from builder.sources.pull import PullPolicy as PullPolicy
    from builder.state import cancel as cancel
    from builder.state import trace as trace
    from builder.state.cancel import Token as Token
    from builder.state.userfile import find_place as find_place
    from builder.state.userfile import user_file as user_file

_HOME = {
    "builder.build.answer": ("Answer",),
    "builder.build.build": ("Build",),
    "builder.build.failure": ("Failure", "describe"),
    "builder.build.process": ("enter_namespaces", "reset_root"),
    "builder.build.request": ("BuildRequest", "SecretSpec"),
    "builder.build.result": ("BuildError", "BuildResult", "BuiltTarget"),
    "builder.build.root": ("Root", "default_root", "restart_after"),
    "builder.build.userfile": ("read_user_file",),
    "builder.cache.types": ("PrunePolicy", "UsageRecord"),
    "builder.config": ("Config",),
    "builder.doctor": ("Finding",),
    "builder.errors": ("CancelledError", "NotFoundError", "PybuildError", "UnsupportedError", "UsageError"),
    "builder.exporters.types": ("IMAGE_TYPES", "OutputSpec"),
    "builder.graph.vertex": ("Graph",),
    "builder.oci.digest": ("Digest",),
    "builder.oci.platform": ("Platform",),
    "builder.oci.reference": ("Reference",),
    "builder.progress.events": ("Event", "Log", "Status", "VertexCompleted", "VertexKnown", "VertexStarted", "Warned"),
    "builder.session": ("Session",),
    "builder.solver.errors": ("SolveError",),
    "builder.solver.explain": ("Difference", "Miss"),
    "builder.solver.plan": ("PlannedVertex",),
    "builder.sources.pull": ("PullPolicy",),
    "builder.state.cancel": ("Token",),
    "builder.state.userfile": ("find_place", "user_file"),
}
_MODULES = {
    "cancel": "builder.state.cancel",
    "flags": "builder.build.flags",
    "llb": "builder.build.llb",
    "trace": "builder.state.trace",
}


def __getattr__(name: str) -> object:
    import importlib

    for module, names in _HOME.items():
        if name in names:
            value: object = getattr(importlib.import_module(module), name)
            globals()[name] = value
            return value
    if name in _MODULES:
        return importlib.import_module(_MODULES[name])
    raise AttributeError(f"module 'builder' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted([*globals(), *_MODULES, *(name for names in _HOME.values() for name in names)])
