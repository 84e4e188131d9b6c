"""What ``du`` prints of a record: the fields that scripts know, with times in seconds."""

from __future__ import annotations

from builder.cache.types import UsageRecord
from builder.cli.cache_commands import _shown

FIELDS = [
    "id", "parents", "size", "mutable", "in_use", "created_at", "last_used_at", "usage_count",
    "description", "record_type", "shared",
]  # fmt: skip


def record(last_used_at_ns: int | None) -> UsageRecord:
    return UsageRecord("x", ("y",), 7, False, True, 1_700_000_000_250_000_000, last_used_at_ns, 3, "RUN make", "regular", False)


def test_times_are_seconds_under_the_names_that_they_always_had() -> None:
    shown = _shown(record(1_700_000_001_500_000_000))
    assert list(shown) == FIELDS
    assert (shown["created_at"], shown["last_used_at"]) == (1_700_000_000.25, 1_700_000_001.5)


def test_what_was_never_used_has_no_time() -> None:
    assert _shown(record(None))["last_used_at"] is None
