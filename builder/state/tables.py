"""Tables whose rows bear a seal: a checksum over their columns that is verified whenever a row is read.

SQLite has no checksums of its own. It notices damage to the structure of its pages, not to what the rows say: a flipped byte would
be another parent, another digest, another state. A row that was damaged does not fit its seal and counts as absent, which every
reader of every table has to be able to live with: it is a cache miss.

What the seal can't tell is that a row is gone. So no table may say anything by *not* having a row that would change an image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any
from zlib import crc32

from builder.values import dataclass

SEAL = "seal"
Value = str | int | float | bytes | None
"""What SQLite takes and gives."""
Row = tuple[Any, ...]
"""Values of a table's columns, in their order. Only the table knows which type stands where, so this is where types begin."""


@dataclass(frozen=True, slots=True)
class Table:
    """``key`` and ``rest`` are column definitions as SQL has them, ``digest TEXT, size INTEGER``. The key comes first in a row.

    ``free``: columns that the seal does not cover, because they change often and nobody's image depends on them; only SQL reads
    them. ``indexes``: columns that rows are looked for by. ``wide``: rows are long, so that they lie apart from the key.
    ``lasting``: False for what means nothing once no process lives, and for what only repeats another table and is made anew of it.
    """

    name: str
    key: str
    rest: str = ""
    free: str = ""
    indexes: tuple[str, ...] = ()
    wide: bool = False
    lasting: bool = True

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns that the seal covers, in the order of a row."""
        return _names(self.key) + _names(self.rest)

    @property
    def all_columns(self) -> tuple[str, ...]:
        """Names of all columns as they stand in the table."""
        return (*self.columns, *_names(self.free), SEAL)

    @property
    def statements(self) -> tuple[str, ...]:
        """The SQL that makes the table and its indexes."""
        parts = [f"{d} NOT NULL" for d in _definitions(self.key)]
        parts += [d[:-1] if d.endswith("?") else f"{d} NOT NULL" for d in _definitions(self.rest) + _definitions(self.free)]
        parts.append(f"{SEAL} INTEGER NOT NULL")
        parts.append(f"PRIMARY KEY ({', '.join(_names(self.key))})")
        made = f"CREATE TABLE {self.name} ({', '.join(parts)})"
        made += "" if self.wide else " WITHOUT ROWID"
        return (made, *(f"CREATE INDEX {self.name}_by_{column} ON {self.name} ({column})" for column in self.indexes))


def sealer(table: Table) -> Callable[[Row], int]:
    """The function that gives the seal of a row (its ``columns``, without what is ``free``).

    crc32 of the values' text: any 32 bits that changed in a row are noticed for certain, more of them but once in four thousand
    million. Bytes enter by a crc32 of their own: they may be megabytes.
    """
    form = "\x1f".join([table.name, *("%s" for _ in table.columns)])
    blobs = tuple(n for n, d in enumerate(_definitions(table.key) + _definitions(table.rest)) if "BLOB" in d)
    if not blobs:
        return lambda row: crc32((form % row).encode("utf-8", "surrogatepass"))

    def with_blobs(row: Row) -> int:
        values = list(row)
        for n in blobs:
            if isinstance(values[n], bytes):
                values[n] = crc32(values[n])
        return crc32((form % tuple(values)).encode("utf-8", "surrogatepass"))

    return with_blobs


def normal(values: Iterable[object]) -> Row:
    """Values as SQLite gives them back: truth is a number there, and a Digest is a str."""
    return tuple(int(v) if v is True or v is False else v for v in values)


def _definitions(text: str) -> list[str]:
    return [part.strip() for part in text.split(",") if part.strip()]


def _names(text: str) -> tuple[str, ...]:
    return tuple(part.split()[0] for part in _definitions(text))


def is_sound(table: Table, row: Row) -> bool:
    """Does a row as it stands in the table (``columns``, then the seal) fit its seal? For tools; the database has its own way."""
    return bool(row[-1] == sealer(table)(tuple(row[:-1])))
