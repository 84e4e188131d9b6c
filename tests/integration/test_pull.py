"""A tag that was resolved once is remembered, and --pull says when the registry is asked again."""

from __future__ import annotations

import time
from collections.abc import Callable

import pytest

from builder.content.store import ContentStore
from builder.images.store import ImageStore
from builder.oci.reference import Reference
from builder.state.database import Database
from builder.state.layout import Layout
from tests.support import bases
from tests.support.cli import Pybuild, assert_refused
from tests.support.processes import Registry
from tests.support.registries import LayoutRegistry

pytestmark = pytest.mark.integration

Context = Callable[[dict[str, str | bytes]], str]


@pytest.fixture
def tag(registry: Registry, busybox_layout: str) -> str:
    return bases.push(busybox_layout, f"{registry.host}/library/moving:1")


def grow_old(pybuild: Pybuild, tag: str, days: int) -> None:
    """What the registry said of the tag was said so long ago."""
    layout = Layout(pybuild.root)
    database = Database(layout.database)
    store = ImageStore(database, ContentStore(layout), clock=lambda: time.time_ns() - int(days * 86400 * 10**9))
    ref = Reference.parse(tag)
    target = store.recall(ref)
    assert target is not None
    store.remember(ref, target)
    database.close()


def test_a_build_says_how_old_the_digest_is_that_it_took(pybuild: Pybuild, context: Context, tag: str) -> None:
    folder = context({"Dockerfile": f"FROM {tag} AS a\nFROM {tag}\nRUN true\n"})
    said = f"[Warning] {tag} resolved 41 days ago, --pull asks again\n"
    for _ in range(2):
        assert "resolved" not in pybuild.ok(folder).err
    grow_old(pybuild, tag, 41)
    assert pybuild.ok(folder).err.count(said) == 1
    assert said in pybuild.ok("--pull=60d", folder).err
    assert "resolved" not in pybuild.ok("--pull=7d", folder).err
    assert "resolved" not in pybuild.ok(folder).err


class _Leaving(LayoutRegistry):
    gone = False

    def deny(self, path: str) -> tuple[int, dict[str, str]] | None:
        return (404, {}) if self.gone else None


def test_newer_builds_on_what_is_here_where_the_registry_is_gone(pybuild: Pybuild, context: Context, busybox_layout: str) -> None:
    with _Leaving(busybox_layout) as registry:
        tag = f"{registry.host}/app:1"
        folder = context({"Dockerfile": f"FROM {tag}\nRUN true\n"})
        pybuild.ok("--pull=newer", folder)
        registry.gone = True
        assert_refused(pybuild("--pull", folder), "not found")
        done = pybuild.ok("--pull=newer", folder)
        assert f"[Warning] {tag} what was known of it is used, the registry can't be asked: " in done.err
        assert not done.not_cached()


def test_another_value_is_refused(pybuild: Pybuild, context: Context) -> None:
    assert_refused(pybuild("--pull=never", context({"Dockerfile": "FROM scratch\n"})), "'never' is none of missing, always, newer")
