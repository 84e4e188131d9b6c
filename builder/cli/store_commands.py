"""``pybuild images``, ``rmi``, ``save``: the own image store."""

from __future__ import annotations

import json
from typing import Any

import click

from builder import NotFoundError
from builder.cli.common import open_root, state_options
from builder.text.times import NS

_SHORT = 12


@click.command("images", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("--json", "as_json", is_flag=True, help="One JSON object a line.")
@click.option("-q", "--quiet", is_flag=True, help="Digests only.")
@state_options
def images(as_json: bool, quiet: bool, **flags: Any) -> int:
    """List the images of the own store."""
    import time

    from builder.cli.tables import ago, human_size, table

    with open_root(flags) as root:
        found = root.images()
    if as_json:
        for image in found:
            doc = {"name": str(image.ref), "digest": image.target.digest, "created": image.created, "size": image.size}
            print(json.dumps(doc))
    elif quiet:
        print("\n".join(dict.fromkeys(image.target.digest for image in found)))
    else:
        rows = [
            (
                i.ref.familiar.rpartition(":")[0],
                i.ref.tag,
                i.target.digest[7 : 7 + _SHORT],
                ago((time.time_ns() - i.stored_at_ns) / NS),
                human_size(i.size),
            )
            for i in found
        ]
        print(table(("REPOSITORY", "TAG", "DIGEST", "BUILT", "SIZE"), rows), end="")
    return 0


@click.command("rmi", context_settings={"help_option_names": ["-h", "--help"]})
@click.argument("names", nargs=-1, required=True)
@state_options
def rmi(names: tuple[str, ...], **flags: Any) -> int:
    """Remove images from the own store. Their layers stay in the cache; `pybuild prune` frees them."""
    from builder import flags as words

    with open_root(flags) as root:
        for name in names:
            if not root.remove_image(words.parse_tag(name)):
                raise NotFoundError(f"no such image: {name}", hint="`pybuild images` lists them")
            print(f"Untagged: {words.parse_tag(name).familiar}")
    return 0


@click.command("save", context_settings={"help_option_names": ["-h", "--help"]})
@click.option("-o", "--output", default="-", metavar="FILE", help="Where the archive goes (default: standard output).")
@click.option("--format", "form", type=click.Choice(["docker", "oci"]), default="docker", help="Kind of archive.")
@click.argument("name")
@state_options
def save(name: str, output: str, form: str, **flags: Any) -> int:
    """Write an image of the own store to an archive, for `docker load` or `skopeo copy`."""
    from builder import flags as words
    from builder.cli.terminals import check_archive

    check_archive(output, form)
    with open_root(flags) as root:
        root.save_image(words.parse_tag(name), output, form=form)
    return 0
