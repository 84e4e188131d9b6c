"""The entry point: which command, and how any of them ends.

``pybuild -f Dockerfile .`` is ``pybuild build -f Dockerfile .``. Only the command that is asked for is imported.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

VERSION = "0.1.0"
_COMMANDS = {
    "build": "builder.cli.build_command",
    "images": "builder.cli.store_commands",
    "rmi": "builder.cli.store_commands",
    "save": "builder.cli.store_commands",
    "du": "builder.cli.cache_commands",
    "prune": "builder.cli.cache_commands",
    "fsck": "builder.cli.cache_commands",
    "graph": "builder.cli.build_command",
    "plan": "builder.cli.plan_command",
    "why": "builder.cli.plan_command",
    "doctor": "builder.cli.doctor_command",
    "unshare": "builder.cli.process_commands",
    "reset": "builder.cli.process_commands",
    "compare": "builder.compare.command",
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command; the exit code. Errors that are expected end in a few lines on standard error, without a traceback."""
    args = list(sys.argv[1:] if argv is None else argv)
    if args in (["--version"], ["-v"], ["version"]):
        print(f"pybuild {VERSION}")
        return 0
    from builder import cancel
    from builder.cli.signals import INTERRUPTED, Signals

    signals = Signals()
    try:
        with signals, cancel.scope(signals.token):
            return signals.exit_code(_ended(args, recover=argv is None))
    except KeyboardInterrupt:
        # It came before the command had begun, or after it had ended. Python would end itself by SIGINT, whatever the signal was.
        sys.stderr.write("ERROR: canceled\n")
        return signals.exit_code(INTERRUPTED)
    finally:
        # Where a KeyboardInterrupt passed out of an exec() of a string (every dataclass and namedtuple is made by one, so imports
        # are full of them), CPython remembers it as unhandled, though we handled it, and its end would be death by SIGINT. The
        # next exec() makes it forget (run_eval_code_obj in pythonrun.c).
        exec("")


def _ended(args: list[str], *, recover: bool) -> int:
    from builder import default_root

    # Before a user namespace is entered, in which everybody is root.
    usual_root = default_root()
    debug = "--debug" in args or "-D" in args
    try:
        if debug or "PYBUILD_TRACE" in os.environ:
            from builder import trace

            trace.start(os.environ, debug=debug)
        return _run(args)
    except KeyboardInterrupt:
        from builder.cli.signals import INTERRUPTED

        sys.stderr.write("ERROR: canceled\n")
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output is gone; nothing more can be told. Python would complain again while it closes stdout.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except Exception as e:
        from builder import describe
        from builder.cli.report import failure_text

        if recover:
            _recover(e, args, usual_root)
        if debug:
            import traceback

            from builder import trace
            from builder.text.redact import redact_text

            sys.stderr.write("".join(f"debug: {line}\n" for line in trace.stop()))
            sys.stderr.write(redact_text(traceback.format_exc()))
        failure = describe(e)
        sys.stderr.write(failure_text(failure))
        return failure.exit_code


def _recover(error: Exception, args: list[str], usual_root: str) -> None:
    """After damage to the metadata: the same command again, on a store that starts anew. ``fsck`` changes nothing; standard input
    and pipes can't be read twice (a secret from one would be empty)."""
    name, rest = _command(args)
    if name in ("help", "fsck") or any(_is_stream(arg) for arg in rest):
        return
    from builder import restart_after

    root = ""
    for at, arg in enumerate(rest):
        if arg == "--root":
            root = rest[at + 1] if at + 1 < len(rest) else ""
        elif arg.startswith("--root="):
            root = arg.removeprefix("--root=")
    restart_after(error, root or usual_root)


def _is_stream(arg: str) -> bool:
    return arg in ("-", "-f-") or arg.endswith("=-") or any(name in arg for name in ("/dev/stdin", "/dev/fd/", "/proc/self/fd/"))


def _run(args: list[str]) -> int:
    import click

    from builder import UsageError

    name, rest = _command(args)
    try:
        if name == "help":
            _overview()
            return 0
        module = __import__(_COMMANDS[name], fromlist=[name])
        command: click.Command = getattr(module, name)
        result = command.main(rest, prog_name=f"pybuild {name}", standalone_mode=False)
        return result if isinstance(result, int) else 0
    except click.exceptions.Abort:
        raise KeyboardInterrupt from None
    except click.UsageError as e:
        raise UsageError(e.format_message(), hint=f"see `pybuild {name} --help`") from None
    except click.ClickException as e:
        raise UsageError(e.format_message()) from None


def _command(args: list[str]) -> tuple[str, list[str]]:
    if not args or args == ["--help"] or args == ["-h"]:
        return "help", []
    if args[0] == "help":
        return (args[1], ["--help"]) if len(args) > 1 and args[1] in _COMMANDS else ("help", [])
    if args[0] in _COMMANDS:
        return args[0], args[1:]
    return "build", args


def _overview() -> None:
    print(
        "usage: pybuild [build] [OPTIONS] CONTEXT\n\n"
        "Builds images from Dockerfiles, without a daemon.\n\n"
        "commands:\n"
        "  build    build an image (the default): pybuild -f Dockerfile -t NAME .\n"
        "  plan     say what a build would run, without running it\n"
        "  why      say why steps were not cached, or would not be\n"
        "  graph    print the build graph as JSON or Graphviz dot\n"
        "  compare  build with another builder too, and compare the images\n"
        "  images   list the images of the own store\n"
        "  rmi      remove images from the own store\n"
        "  save     write an image of the own store to an archive\n"
        "  du       show what the cache holds\n"
        "  prune    remove cache that is not in use\n"
        "  fsck     check the state folder\n"
        "  doctor   say what works on this machine, and what is missing\n"
        "  unshare  run a command in the namespaces of builds\n"
        "  reset    remove the state folder\n\n"
        "`pybuild COMMAND --help` shows a command's options."
    )


if __name__ == "__main__":
    sys.exit(main())
