"""The pages of a SQLite file, read by its format (https://sqlite.org/fileformat2.html) and without SQLite: what is to be damaged,
and which table it is of."""

from __future__ import annotations

import sqlite3

from builder.values import dataclass

SCHEMA = "sqlite_schema"
_INTERIOR = {0x02, 0x05}
_HEADER = 100
"""Bytes of the first page that are the file's own header."""


@dataclass(frozen=True, slots=True)
class Pages:
    """``leaves``: page numbers (from 1) that hold the rows of a table or index, by its name. ``size`` of one page, in bytes.
    ``tables``: which of the names are tables; the schema itself is one."""

    size: int
    count: int
    leaves: dict[str, tuple[int, ...]]
    tables: tuple[str, ...]


def read_pages(path: str) -> Pages:
    """Of a database that nobody has open: what was in the log is written to the file first."""
    connection = sqlite3.connect(path)
    connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    rows = connection.execute("SELECT name, rootpage, type = 'table' FROM sqlite_master WHERE rootpage > 0").fetchall()
    connection.close()
    rows.append((SCHEMA, 1, True))
    with open(path, "rb") as file:
        data = file.read()
    size = int.from_bytes(data[16:18], "big")
    leaves = {name: tuple(_leaves(data, size, root)) for name, root, _ in sorted(rows)}
    return Pages(size, len(data) // size, leaves, tuple(name for name, _, is_table in sorted(rows) if is_table))


def _leaves(data: bytes, size: int, root: int) -> list[int]:
    found: list[int] = []
    todo = [root]
    while todo:
        number = todo.pop()
        page = data[(number - 1) * size : number * size]
        at = _HEADER if number == 1 else 0
        if page[at] not in _INTERIOR:
            found.append(number)
            continue
        cells = int.from_bytes(page[at + 3 : at + 5], "big")
        pointers = [int.from_bytes(page[at + 12 + 2 * n : at + 14 + 2 * n], "big") for n in range(cells)]
        todo += [int.from_bytes(page[p : p + 4], "big") for p in pointers]
        todo.append(int.from_bytes(page[at + 8 : at + 12], "big"))
    return sorted(found)


def overwrite(path: str, offset: int, data: bytes) -> None:
    with open(path, "r+b") as file:
        file.seek(offset)
        file.write(data)
