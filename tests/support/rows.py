"""Rows of the metadata database as tests want them: changed with their seals, as if they had been written so; or damaged."""

from __future__ import annotations

from typing import Any

from builder.state.database import Database
from builder.state.tables import Table


def change(database: Database, table: Table, match: dict[str, Any], **changes: Any) -> int:
    """Write other values into the rows that ``match``; how many there were."""
    with database.transaction() as c:
        rows = database.find(table, **match)
        for row in rows:
            values = dict(zip(table.columns, row, strict=True)) | changes
            database.put(c, table, [tuple(values.values())])
    return len(rows)


def garble(database: Database, table: Table, match: dict[str, Any], **changes: Any) -> None:
    """The same without a new seal: what noise on the disk would do."""
    with database.transaction() as c:
        setting = ", ".join(f"{name} = ?" for name in changes)
        where = " AND ".join(f"{name} = ?" for name in match) or "1"
        c.execute(f"UPDATE {table.name} SET {setting} WHERE {where}", (*changes.values(), *match.values()))
