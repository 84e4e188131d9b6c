"""``pybuild du``, ``prune``, ``fsck``: what the cache holds, and getting rid of it."""

from __future__ import annotations

import json
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from builder import PrunePolicy, UsageError
from builder import flags as words
from builder.cli.common import open_root, state_options
from builder.cli.tables import ago, human_size, table
from builder.text.times import NS
from builder.values import asdict

if TYPE_CHECKING:
    from builder import UsageRecord

_FILTERS = "Like type=regular, id=abc, description~=RUN, inuse=false, unused-for=24h; all given ones must match."


@click.command("du", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--filter", "filters", multiple=True, metavar="KEY=VALUE", help=_FILTERS)
@click.option("--verbose", is_flag=True, help="All fields.")
@click.option("--format", "form", default="", metavar="json", help="One JSON object a line.")
@state_options
def du(filters: tuple[str, ...], verbose: bool, form: str, **flags: Any) -> int:
    """Show what the cache holds."""
    selectors, unused_ns = words.parse_filters(filters)
    with open_root(flags) as root:
        records = root.usage(selectors)
    records = [r for r in records if not unused_ns or (r.last_used_at_ns or 0) <= time.time_ns() - unused_ns]
    if _is_json(form):
        for record in records:
            print(json.dumps(_shown(record)))
        return 0
    if verbose:
        for record in records:
            print("".join(f"{k}:\t{v}\n" for k, v in _shown(record).items()))
    else:
        print(table(("ID", "RECLAIMABLE", "SIZE", "LAST ACCESSED"), [_row(r) for r in records]), end="")
    free = sum(r.size for r in records if not r.in_use)
    shared = sum(r.size for r in records if r.shared)
    total = sum(r.size for r in records)
    print(f"Shared:\t\t{human_size(shared)}\nPrivate:\t{human_size(total - shared)}")
    print(f"Reclaimable:\t{human_size(free)}\nTotal:\t\t{human_size(total)}")
    return 0


@click.command("prune", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-a", "--all", "everything", is_flag=True, help="Also internal records and remembered tags.")
@click.option("--filter", "filters", multiple=True, metavar="KEY=VALUE", help=_FILTERS)
@click.option("--reserved-space", "--keep-storage", default="", metavar="BYTES", help="Always keep this much.")
@click.option("--max-used-space", default="", metavar="BYTES", help="Most that the cache may use.")
@click.option("--min-free-space", default="", metavar="BYTES", help="Disk space to keep free.")
@click.option("--keep-duration", default="", metavar="TIME", help="Keep what was used since (24h).")
@click.option("-f", "--force", is_flag=True, help="Don't ask.")
@click.option("--verbose", is_flag=True, help="Print what was removed.")
@click.option("--format", "form", default="", metavar="json", help="One JSON object for each removed record.")
@state_options
def prune(filters: tuple[str, ...], force: bool, verbose: bool, form: str, everything: bool, **flags: Any) -> int:
    """Remove cache that is not in use."""
    duration_ns = words.parse_duration_ns(flags["keep_duration"], "keep-duration") if flags["keep_duration"] else 0
    sizes = {
        k: words.parse_size(flags[k], k.replace("_", "-")) if flags[k] else 0
        for k in ("reserved_space", "max_used_space", "min_free_space")
    }
    selectors, unused_ns = words.parse_filters(filters)
    policy = PrunePolicy(all=everything, keep_duration_ns=max(duration_ns, unused_ns), filters=selectors, **sizes)
    as_json = _is_json(form)
    if not force and sys.stdin.isatty() and not click.confirm("WARNING! This will remove cache that is not in use. Continue?"):
        return 1
    with open_root(flags, to_prune=True) as root:
        removed = root.prune(policy)
    if as_json:
        for record in removed:
            print(json.dumps(_shown(record)))
        return 0
    if verbose or removed:
        print(table(("ID", "RECLAIMABLE", "SIZE", "LAST ACCESSED"), [_row(r) for r in removed]), end="")
    print(f"Total:\t{human_size(sum(r.size for r in removed))}")
    return 0


@click.command("fsck", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--verify", is_flag=True, help="Read every blob, compare its digest, and its layer's files.")
@state_options
def fsck(verify: bool, **flags: Any) -> int:
    """Check the state folder: exit code 1 and a line for each problem. What the next prune takes is listed, and no problem."""
    with open_root(flags, repair=False) as root:
        problems, garbage = root.check(verify=verify)
    for line in [*problems, *(f"unused {line}" for line in garbage)]:
        print(line)
    print(f"{len(problems)} problem{'' if len(problems) == 1 else 's'} found" if problems else "No problem found")
    return 1 if problems else 0


def _is_json(form: str) -> bool:
    if form not in ("", "json"):
        raise UsageError(f"--format {form!r} is not supported", hint="the one format is json")
    return form == "json"


def _shown(r: UsageRecord) -> dict[str, object]:
    """Its fields for people and scripts, times in seconds since the epoch."""
    used = None if r.last_used_at_ns is None else r.last_used_at_ns / NS
    seconds = {"created_at_ns": ("created_at", r.created_at_ns / NS), "last_used_at_ns": ("last_used_at", used)}
    return dict(seconds.get(field, (field, value)) for field, value in asdict(r).items())


def _row(r: UsageRecord) -> tuple[str, str, str, str]:
    used = ago((time.time_ns() - r.last_used_at_ns) / NS) if r.last_used_at_ns else ""
    return r.id, "false" if r.in_use else "true", human_size(r.size) + ("*" if r.shared else ""), used
