"""Noise in the metadata database: whatever it hits, the next builds give the same image, one warning is all that is told, nothing
of it stays. A few databases here; ``python -m tests.engine.noise`` tries any number."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from builder.state import schema
from tests.engine import noise
from tests.engine.noise import PAGES, Subject
from tests.support.pages import SCHEMA

pytestmark = pytest.mark.integration

MORE = int(os.environ.get("PYBUILD_DAMAGES", "0"))
"""PYBUILD_DAMAGES says how many databases of each kind are damaged."""
TABLES = [table.name for table in schema.TABLES]
FEW = [(PAGES, seed) for seed in range(4)] + [
    (kind, seed) for seed, kind in enumerate(["records", "snapshots", "solver_results", "solver_links", "images", SCHEMA])
]
"""Tables whose damage did most harm before rows had seals."""
MANY = [(kind, seed) for kind in [PAGES, SCHEMA, *TABLES] for seed in range(MORE)]


@pytest.fixture(scope="module")
def subject(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Subject]:
    if os.geteuid() != 0:
        pytest.skip("builds with an overlay in the host's name: needs root")
    with noise.prepared(str(tmp_path_factory.mktemp("noise"))) as made:
        yield made


@pytest.mark.parametrize(("kind", "seed"), MANY or FEW)
def test_noise_is_a_miss(subject: Subject, tmp_path: Path, kind: str, seed: int) -> None:
    verdict = noise.trial(subject, kind, seed, str(tmp_path))
    assert verdict.faults == (), verdict.output


def test_every_table_has_rows_to_be_damaged(subject: Subject) -> None:
    """But leases: nobody lives. So the subject is one that the driver's figures mean something for."""
    from builder.state.database import Database

    database = Database(f"{subject.root}/{noise.DATABASE}")
    empty = {table.name for table in schema.TABLES if not database.select(table)}
    database.close()
    assert empty == {"leases", "lease_records", "lease_blobs"}
    assert set(TABLES) < set(subject.pages.tables)
