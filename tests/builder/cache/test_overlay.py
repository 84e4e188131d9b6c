"""The cache manager on the overlay snapshotter: real mounts, layers side by side, whiteouts."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable

import pytest

from builder.cache.manager import CacheManager
from builder.cache.types import PrunePolicy
from tests.builder.cache.conftest import Registry, tree

pytestmark = [pytest.mark.integration, pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")]


def overlay_manager(root: str) -> CacheManager:
    from builder.content.store import ContentStore
    from builder.snapshots.overlay import OverlaySnapshotter
    from builder.state.database import Database
    from builder.state.layout import Layout

    layout = Layout(root)
    layout.create()
    database = Database(layout.database)
    manager = CacheManager(layout, database, ContentStore(layout), OverlaySnapshotter(layout, database))
    manager.use_snapshots()
    return manager


def in_children(scenario: Callable[[str], object], root: str, count: int = 1) -> list[object]:
    """What ``scenario(root)`` gives in ``count`` processes at once, each with mounts of its own; fails with their traceback."""
    context = multiprocessing.get_context("fork")

    def child(answers: object) -> None:
        from runtime.linux.namespaces import enter_private_mount_namespace

        try:
            enter_private_mount_namespace()
            answers.put((True, scenario(root)))  # type: ignore[attr-defined]
        except BaseException:
            answers.put((False, traceback.format_exc()))  # type: ignore[attr-defined]

    queue = context.Queue()
    children = [context.Process(target=child, args=(queue,)) for _ in range(count)]
    for process in children:
        process.start()
    answers = [queue.get(timeout=120) for _ in children]
    for process in children:
        process.join()
    for good, answer in answers:
        if not good:
            pytest.fail(answer, pytrace=False)
    return [answer for _, answer in answers]


def pull(manager: CacheManager, registry: Registry) -> object:
    ref = None
    for files in ({"a": "1", "d/": "", "d/x": "1"}, {"b": "2", "d/": "", "d/.wh.x": ""}, {"c": "3" * 500_000}):
        ref = manager.get_by_blob(registry.layer(files), ref)
    return ref


def whole_life(root: str) -> None:
    manager = overlay_manager(root)
    registry = Registry()
    base = pull(manager, registry)
    assert sorted(tree(base)) == ["a", "b", "c"]
    work = manager.new(base)
    with work.mount() as folder:
        os.unlink(f"{folder}/a")
        with open(f"{folder}/new", "w", encoding="utf-8") as file:
            file.write("n" * 300_000)
    top = work.commit()
    assert sorted(tree(top)) == ["b", "c", "new"]
    assert len(top.remote()) == 4
    link = manager.new(None)
    with link.mount() as folder, open(f"{folder}/linked", "w", encoding="utf-8") as file:
        file.write("l")
    linked = link.commit()
    merged = manager.merge([top, linked])
    assert sorted(tree(merged)) == ["b", "c", "linked", "new"]
    assert [x.id for x in merged.layers()] == [x.id for x in (*top.layers(), linked)]
    rest = manager.diff(base, merged)
    assert sorted(tree(rest)) == ["linked", "new"]
    assert sorted(tree(manager.diff(base, top))) == ["new"]
    told = sum(x.size for x in manager.collector.disk_usage())
    real = 0
    for folder, _, files in os.walk(root):
        real += sum(os.lstat(os.path.join(folder, name)).st_blocks * 512 for name in [*files, "."])
    assert abs(told - real) < 0.05 * real
    assert manager.check.damage(verify=True) == []
    manager.close()
    last = overlay_manager(root)
    last.collector.prune([PrunePolicy(all=True)])
    assert last.check.damage() == []
    assert list(last.snapshotter.keys()) == []
    assert list(last.content.walk()) == []


def test_the_whole_life_of_an_image_and_a_step(tmp_path):
    in_children(whole_life, f"{tmp_path}/root")


def pull_and_count(root: str) -> int:
    manager = overlay_manager(root)
    registry = Registry()
    ref = pull(manager, registry)
    assert sorted(tree(ref)) == ["a", "b", "c"]
    return len(registry.opened)


def test_four_processes_pull_one_image_once(tmp_path):
    assert sum(in_children(pull_and_count, f"{tmp_path}/root", count=4)) == 3


def write_to_shared(root: str) -> str:
    manager = overlay_manager(root)
    ref = manager.mounts.acquire("k", "shared")
    with ref.mount() as folder, open(f"{folder}/{os.getpid()}", "w", encoding="utf-8"):
        pass
    ref.release()
    manager.close()
    return ref.id


def test_processes_share_one_cache_mount(tmp_path):
    answers = in_children(write_to_shared, f"{tmp_path}/root", count=3)
    fs = f"{tmp_path}/root/snapshots/{answers[0]}/fs"
    assert len(set(answers)) == 1
    assert len(os.listdir(fs)) == 3
