"""What can be asked of a state folder beside building: its images, what its cache holds, its health."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from builder.errors import StoreError

if TYPE_CHECKING:
    from builder.cache.types import PrunePolicy, UsageRecord
    from builder.images.store import StoredImage
    from builder.oci.reference import Reference
    from builder.worker import Worker


def list_images(worker: Worker) -> Sequence[StoredImage]:
    """The named images, by name."""
    from builder.images.store import ImageStore

    return ImageStore(worker.database, worker.content).list()


def remove_image(worker: Worker, name: Reference) -> bool:
    """Take a name away; False if there is none. Layers stay in the cache until a prune."""
    from builder.images.store import ImageStore

    removed = ImageStore(worker.database, worker.content).remove(name)
    if removed:
        worker.cache.collector.prune(())
    return removed


def save_image(worker: Worker, write: Callable[[bytes], object], name: Reference, form: str) -> None:
    """A stored image as an archive, ``form`` docker or oci. NotFoundError if there is none of that name."""
    from builder.exporters.archive import dated, write_docker_tar, write_oci_tar
    from builder.exporters.store import stored_image
    from builder.text.times import format_rfc3339

    stored, image = stored_image(worker, name)
    image = dated(image, stored.created or format_rfc3339(0))
    (write_docker_tar if form == "docker" else write_oci_tar)(worker.content, image, [name], write)


def usage(worker: Worker, filters: Sequence[str]) -> list[UsageRecord]:
    """What the cache holds, oldest first."""
    return worker.cache.collector.disk_usage(filters)


def prune(worker: Worker, policy: PrunePolicy) -> list[UsageRecord]:
    """Remove what the policy doesn't keep and nobody uses; what was removed. With ``policy.all`` remembered tags go too."""
    if policy.all:
        from builder.images.store import ImageStore

        ImageStore(worker.database, worker.content).forget()
    removed = worker.cache.collector.prune([policy])
    forget_pruned(worker)
    return removed


def check(worker: Worker, *, verify: bool) -> tuple[list[str], list[str]]:
    """(problems, garbage), a line each: what is damaged, and what the next prune takes. Nothing is changed. ``verify``: every
    blob is read."""
    from builder.images.store import ImageStore

    problems = worker.cache.check.damage(verify=verify)
    if worker.database.is_suspect:
        return problems, []
    return [*problems, *ImageStore(worker.database, worker.content).fsck()], worker.cache.check.garbage()


def forget_pruned(worker: Worker) -> None:
    """After records were removed: the keys that led to them go too, and old records of steps."""
    from builder.solver.keystore import SqliteKeyStore, release_unreferenced
    from builder.solver.steplog import trim

    try:
        release_unreferenced(SqliteKeyStore(worker.database), worker.cache.records.ids)
        trim(worker.database)
    except StoreError:
        pass  # a disk that is still full: the next time does it; keys that lead nowhere do no harm until then
