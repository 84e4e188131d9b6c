"""Forms that the results of --call share: aligned columns (Go's tabwriter) and BuildKit's JSON of places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from builder.text.gojson import JSONObject

if TYPE_CHECKING:
    from frontend.errors import Range


def table(rows: Sequence[Sequence[str]], gap: int) -> str:
    """Rows with all columns but the last padded to their widest cell and ``gap`` spaces."""
    widths = [max(map(len, column)) + gap for column in zip(*rows, strict=True)]
    return "".join(
        "".join(f"{cell:{width}}" for cell, width in zip(row[:-1], widths[:-1], strict=True)) + row[-1] + "\n" for row in rows
    )


def location_json(ranges: Sequence[Range]) -> JSONObject:
    """pb.Location; BuildKit has one range a line, without columns. Empty for no place."""
    found = [{"start": {"line": item.start}, "end": {"line": item.end}} for item in ranges]
    return {"ranges": found} if found else {}


def base64_text(data: bytes) -> str:
    import base64

    return base64.b64encode(data).decode("ascii")
