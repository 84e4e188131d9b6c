"""Every table of the metadata database, as ``VERSION`` has them (docs/schema.md says what the columns mean).

What a row says must stay true whatever other rows are lost: see ``tables``. A change of anything here is a new VERSION and a step
in ``migrations``, together with rows of the old version in testdata/schema/.
"""

from __future__ import annotations

from zlib import crc32

from builder.state.tables import Table

VERSION = 3
"""1 is what pybuild 0.1.0 had, which knew no versions: its files say 0. 2 had times as floats of seconds."""

RECORDS = Table(
    "records",
    "id TEXT",
    "kind TEXT, state TEXT, snapshot TEXT, retained INTEGER, parents TEXT, diff_id TEXT?, chain_id TEXT?, blob_chain_id TEXT?, "
    "created_at_ns INTEGER, last_used_ns INTEGER?, usage_count INTEGER, description TEXT, record_type TEXT, mount_key TEXT?, "
    "blobs TEXT",
    indexes=("snapshot", "chain_id", "blob_chain_id", "mount_key"),
)
RECORD_CHILDREN = Table("record_children", "parent TEXT, child TEXT", lasting=False)
BLOB_RECORDS = Table("blob_records", "digest TEXT, record TEXT", lasting=False)
MEASURED = Table("measured", "name TEXT", "stamp_ns INTEGER, size INTEGER")
LEASES = Table("leases", "id TEXT", "started_ns INTEGER", lasting=False)
LEASE_RECORDS = Table("lease_records", "record TEXT, lease TEXT", indexes=("lease",), lasting=False)
LEASE_BLOBS = Table("lease_blobs", "digest TEXT, lease TEXT", indexes=("lease",), lasting=False)

SNAPSHOTS = Table(
    "snapshots",
    "key TEXT",
    "driver TEXT, kind TEXT, parent TEXT?, layers TEXT?, explicit INTEGER, size INTEGER?, inodes INTEGER?",
)

FILE_DIGESTS = Table("file_digests", "folder BLOB", "files BLOB", free="used INTEGER", wide=True)
REF_CHECKSUMS = Table("ref_checksums", "ref TEXT, what BLOB", "digest TEXT")

SOLVER_RESULTS = Table("solver_results", "key TEXT, result TEXT", "created_ns INTEGER", indexes=("result",))
SOLVER_LINKS = Table(
    "solver_links", "key TEXT, digest TEXT, input INTEGER, output INTEGER, selector TEXT, target TEXT", indexes=("target",)
)
SOLVER_STEPS = Table(
    "solver_steps",
    "id INTEGER",
    "build TEXT, scope TEXT, kind TEXT, stage TEXT, title TEXT, created_ns INTEGER, ignored INTEGER, failed INTEGER, record BLOB",
    indexes=("title", "scope"),
    wide=True,
)

IMAGES = Table(
    "images", "name TEXT", "media_type TEXT, digest TEXT, manifest_size INTEGER, created TEXT, size INTEGER, stored_at_ns INTEGER"
)
COUNTS = Table("counts", "name TEXT", "number INTEGER")
RESOLUTIONS = Table("resolutions", "name TEXT", "media_type TEXT, digest TEXT, size INTEGER, resolved_at_ns INTEGER")
BLOB_SOURCES = Table("blob_sources", "digest TEXT, repository TEXT")
HTTP_FILES = Table("http_files", "url_key TEXT, etag TEXT", "digest TEXT, last_modified TEXT, ref TEXT")
GIT_SNAPSHOTS = Table("git_snapshots", "key TEXT", "ref TEXT")

TABLES = (
    RECORDS, RECORD_CHILDREN, BLOB_RECORDS, MEASURED, LEASES, LEASE_RECORDS, LEASE_BLOBS, SNAPSHOTS, FILE_DIGESTS, REF_CHECKSUMS,
    SOLVER_RESULTS, SOLVER_LINKS, SOLVER_STEPS, IMAGES, COUNTS, RESOLUTIONS, BLOB_SOURCES, HTTP_FILES, GIT_SNAPSHOTS,
)  # fmt: skip

_GATE_TEXT = (
    "this state folder was taken over by a newer pybuild, which keeps its metadata in another form:"
    " use that one, or name another folder with --root or PYBUILD_ROOT"
)
GATE = (
    "CREATE VIEW made AS SELECT '' AS script WHERE 0",
    f"CREATE TRIGGER made_by_others INSTEAD OF INSERT ON made BEGIN SELECT RAISE(ABORT, '{_GATE_TEXT}'); END",
)
"""Version 1 knew no versions. The first thing that it does to a database is to write into its table ``made``: it gets an error in
plain words, its transaction is rolled back, and it ends."""


def statements() -> list[str]:
    """The SQL that makes an empty database of this version."""
    return [*(sql for table in TABLES for sql in table.statements), *GATE]


def application_id(version: int) -> int:
    """What a file of ``version`` has as its application_id. Every version has to keep to this rule: the two numbers vouch for one
    another, so that a damaged header is not taken for a file from the future."""
    return crc32(b"pybuild metadata %d" % version) & 0x7FFFFFFF
