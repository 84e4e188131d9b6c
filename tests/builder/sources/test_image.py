"""Images: what a name stands for, and that nothing is fetched before it is needed."""

from __future__ import annotations

import json
import time

import pytest

from builder.cache.refs import ImmutableRef
from builder.errors import IntegrityError, NotFoundError, SourceError, UnsupportedError, UsageError
from builder.graph.ops import ImageSource
from builder.graph.vertex import Vertex
from builder.images.store import ImageStore
from builder.oci import manifest as manifests
from builder.oci.descriptor import Descriptor
from builder.oci.digest import Digest, chain_id
from builder.oci.platform import Platform
from builder.oci.reference import Reference
from builder.ops.llb_json import source_digest
from builder.ops.source import SourceOp
from builder.session import Session
from builder.solver.types import OpContext
from builder.sources.image import layer_chain, resolve_config
from builder.sources.pull import ALWAYS, DAY, MISSING, NEWER, parse_pull
from builder.worker import Worker
from tests.builder.net.conftest import HOST, REF, Answer, World, image_manifest
from tests.builder.sources.conftest import OpenWorker, files
from tests.support.oci import Entry, layer_tar
from tests.support.records import is_lazy

AMD64 = Platform("linux", "amd64")
NAME = f"{HOST}/team/app:1"
LOWER = layer_tar([Entry("a", b"lower"), Entry("b", b"only")])
UPPER = layer_tar([Entry("a", b"upper")])


def config_for(*layers: bytes, **changes: object) -> bytes:
    rootfs = {"type": "layers", "diff_ids": [Digest.of(layer) for layer in layers]}
    document = {"os": "linux", "architecture": "amd64", "rootfs": rootfs, "created": "2024-01-01T00:00:00Z"}
    return json.dumps({**document, **changes}).encode()


def publish(world: World, *layers: bytes, tag: str = "1", **config_changes: object) -> Digest:
    """An image at the registry; gives the manifest's digest."""
    config = config_for(*layers, **config_changes)
    for blob in (config, *layers):
        world.blob(blob)
    return world.manifest(image_manifest(config, list(layers)), tag=tag)


def publish_index(world: World, *entries: tuple[bytes, str, dict[str, str] | None], tag: str = "1") -> Digest:
    """An index over (document, media type, platform)."""
    listed = []
    for data, media_type, platform in entries:
        world.manifest(data, media_type, tag=Digest.of(data))
        entry: dict[str, object] = {"mediaType": media_type, "digest": Digest.of(data), "size": len(data)}
        listed.append(entry if platform is None else {**entry, "platform": platform})
    document = json.dumps({"schemaVersion": 2, "mediaType": manifests.OCI_INDEX, "manifests": listed}).encode()
    return world.manifest(document, manifests.OCI_INDEX, tag=tag)


def asked(world: World) -> list[str]:
    return [f"{r.method} {r.url.partition('/v2/')[2]}" for r in world.transport.asked]


# ------------------------------------------------------------------------------------------------ resolving
def test_a_name_is_resolved_to_digest_config_and_layers(worker: Worker, world: World) -> None:
    digest = publish(world, LOWER, UPPER)
    image = resolve_config(worker, NAME, AMD64)
    assert image.ref == f"{NAME}@{digest}"
    assert json.loads(image.config)["os"] == "linux"
    assert [layer.diff_id for layer in image.layers] == [Digest.of(LOWER), Digest.of(UPPER)]


def test_the_second_time_no_connection_is_opened(open_worker: OpenWorker, world: World) -> None:
    publish(world, LOWER)
    first = resolve_config(open_worker(), NAME, AMD64)
    world.transport.asked.clear()
    second = resolve_config(open_worker(), NAME, AMD64)
    by_digest = resolve_config(open_worker(), first.ref, AMD64)
    assert world.transport.asked == []
    assert first.ref == second.ref == by_digest.ref


def test_pull_asks_the_registry_again(worker: Worker, world: World) -> None:
    publish(world, LOWER)
    old = resolve_config(worker, NAME, AMD64)
    digest = publish(world, LOWER, UPPER)
    assert resolve_config(worker, NAME, AMD64).ref == old.ref
    assert resolve_config(worker, NAME, AMD64, "pull").ref == f"{NAME}@{digest}"
    assert resolve_config(worker, NAME, AMD64).ref == f"{NAME}@{digest}"


def test_an_image_of_the_own_store_wins_unless_pulled(worker: Worker, world: World) -> None:
    publish(world, LOWER)
    config = config_for(UPPER)
    for blob in (config, UPPER):
        worker.content.put(blob)
    manifest = image_manifest(config, [UPPER])
    target = Descriptor(manifests.OCI_MANIFEST, worker.content.put(manifest), len(manifest))
    ImageStore(worker.database, worker.content).put(REF, target)
    assert resolve_config(worker, NAME, AMD64).target == target
    assert world.transport.asked == []
    assert resolve_config(worker, NAME, AMD64, "pull").target != target


def grow_old(worker: Worker, seconds: float) -> None:
    """What the registry said of REF was said so long ago."""
    target = ImageStore(worker.database, worker.content).recall(REF)
    assert target is not None
    ImageStore(worker.database, worker.content, clock=lambda: time.time_ns() - int(seconds * 10**9)).remember(REF, target)


def test_how_old_the_answer_is_that_is_used(worker: Worker, world: World) -> None:
    publish(world, LOWER)
    first = resolve_config(worker, NAME, AMD64)
    assert first.answer.age is None
    assert resolve_config(worker, first.ref, AMD64).answer.age is None
    grow_old(worker, 5 * DAY)
    assert 5 * DAY <= (resolve_config(worker, NAME, AMD64).answer.age or 0) < 5 * DAY + 3600


def test_an_answer_counts_for_as_long_as_the_policy_says(worker: Worker, world: World) -> None:
    publish(world, LOWER)
    old = resolve_config(worker, NAME, AMD64).ref
    new = f"{NAME}@{publish(world, LOWER, UPPER)}"
    policy = parse_pull("7d")
    grow_old(worker, 6 * DAY)
    assert resolve_config(worker, NAME, AMD64, policy=policy).ref == old
    grow_old(worker, 8 * DAY)
    assert resolve_config(worker, NAME, AMD64, policy=policy).ref == new
    world.transport.asked.clear()
    assert resolve_config(worker, NAME, AMD64, policy=policy).ref == new
    assert asked(world) == []


def test_newer_asks_and_takes_what_is_here_if_nobody_answers(worker: Worker, world: World) -> None:
    with pytest.raises(NotFoundError):
        resolve_config(worker, NAME, AMD64, policy=NEWER)
    old = publish(world, LOWER)
    resolve_config(worker, NAME, AMD64, policy=NEWER)
    new = publish(world, LOWER, UPPER)
    assert resolve_config(worker, NAME, AMD64, policy=NEWER).target.digest == new != old
    for method in ("HEAD", "GET"):
        world.transport.on(method, f"https://{HOST}/v2/team/app/manifests/1", Answer(500))
    with pytest.raises(SourceError):
        resolve_config(worker, NAME, AMD64, policy=ALWAYS)
    found = resolve_config(worker, NAME, AMD64, policy=NEWER)
    assert found.target.digest == new
    assert found.answer.failure


def test_what_pull_may_say() -> None:
    assert [parse_pull(t) for t in ("missing", "always", "newer")] == [MISSING, ALWAYS, NEWER]
    ages = {t: parse_pull(t).max_age for t in ("12h", "1h30m", "7d", "2w", "90")}
    assert ages == {"12h": 43200, "1h30m": 5400, "7d": 7 * DAY, "2w": 14 * DAY, "90": 90}
    for text in ("never", "", "d", "-1h", "1.d", "1h 2m", "nan", "9" * 400 + "d"):
        with pytest.raises(ValueError, match="none of missing, always, newer"):
            parse_pull(text)


def test_a_failed_resolution_is_not_remembered(worker: Worker, world: World) -> None:
    with pytest.raises(NotFoundError):
        resolve_config(worker, NAME, AMD64)
    digest = publish(world, LOWER)
    assert resolve_config(worker, NAME, AMD64).target.digest == digest


def test_a_damaged_document_is_fetched_again(worker: Worker, world: World) -> None:
    digest = publish(world, LOWER)
    image = resolve_config(worker, NAME, AMD64)
    path = worker.content.path(digest)
    worker.content.delete(digest)
    with open(path, "wb") as file:
        file.write(b"{}")
    assert resolve_config(worker, NAME, AMD64).config == image.config


@pytest.mark.parametrize("name", ["library/UPPER", "a b", ""])
def test_a_reference_that_is_none_is_a_usage_error(worker: Worker, name: str) -> None:
    with pytest.raises(UsageError):
        resolve_config(worker, name, AMD64)


# ------------------------------------------------------------------------------------------------ platforms
def test_an_index_gives_the_platforms_manifest_and_fetches_no_other(worker: Worker, world: World) -> None:
    config = config_for(LOWER)
    world.blob(config)
    mine, other = image_manifest(config, [LOWER]), image_manifest(config_for(UPPER), [UPPER])
    digest = publish_index(
        world,
        (other, manifests.OCI_MANIFEST, {"os": "linux", "architecture": "s390x"}),
        (mine, manifests.OCI_MANIFEST, {"os": "linux", "architecture": "amd64"}),
    )
    image = resolve_config(worker, NAME, AMD64)
    assert (image.target.digest, image.manifest.digest) == (digest, Digest.of(mine))
    assert not any(Digest.of(other) in line for line in asked(world))


def test_a_platform_that_is_not_there_is_told_as_buildkit_does(worker: Worker, world: World) -> None:
    publish_index(world, (image_manifest(b"{}", []), manifests.OCI_MANIFEST, {"os": "linux", "architecture": "s390x"}))
    with pytest.raises(NotFoundError, match="no match for platform in manifest"):
        resolve_config(worker, NAME, AMD64)


def test_entries_without_a_platform_are_judged_by_their_config(worker: Worker, world: World) -> None:
    documents = []
    for architecture in ("s390x", "amd64"):
        config = config_for(LOWER, architecture=architecture)
        world.blob(config)
        documents.append(image_manifest(config, [LOWER]))
    publish_index(world, *((d, manifests.OCI_MANIFEST, None) for d in documents))
    assert resolve_config(worker, NAME, AMD64).manifest.digest == Digest.of(documents[1])


def test_a_single_manifest_is_taken_whatever_its_platform(worker: Worker, world: World) -> None:
    publish(world, LOWER, architecture="s390x")
    assert json.loads(resolve_config(worker, NAME, AMD64).config)["architecture"] == "s390x"


def nested(world: World, depth: int) -> None:
    config = config_for(LOWER)
    world.blob(config)
    data, media_type = image_manifest(config, [LOWER]), manifests.OCI_MANIFEST
    for _ in range(depth):
        entry = {"mediaType": media_type, "digest": Digest.of(data), "size": len(data)}
        world.manifest(data, media_type, tag=Digest.of(data))
        media_type = manifests.OCI_INDEX
        data = json.dumps({"schemaVersion": 2, "mediaType": media_type, "manifests": [entry]}).encode()
    world.manifest(data, media_type)


def test_an_index_may_hold_an_index_but_no_third(worker: Worker, world: World) -> None:
    nested(world, 2)
    assert len(resolve_config(worker, NAME, AMD64).layers) == 1
    nested(world, 3)
    with pytest.raises(IntegrityError, match="nested more than 2 deep"):
        resolve_config(worker, NAME, AMD64, "pull")


def test_layers_and_diff_ids_must_be_as_many(worker: Worker, world: World) -> None:
    config = config_for(LOWER, UPPER)
    world.blob(config)
    world.manifest(image_manifest(config, [LOWER]))
    with pytest.raises(IntegrityError, match="mismatched image rootfs and manifest layers"):
        resolve_config(worker, NAME, AMD64)


def test_schema_1_is_refused(worker: Worker, world: World) -> None:
    world.manifest(b'{"schemaVersion": 1, "fsLayers": []}', manifests.SCHEMA1[1])
    with pytest.raises(UnsupportedError, match="schema 1 has been removed"):
        resolve_config(worker, NAME, AMD64)


# ------------------------------------------------------------------------------------------------ snapshots
def pulled(worker: Worker) -> ImmutableRef | None:
    """The layers of the image, as the operation makes them."""
    return layer_chain(worker, resolve_config(worker, NAME, AMD64).layers, "pulled", None)


def test_a_snapshot_downloads_nothing_until_it_is_mounted(worker: Worker, world: World) -> None:
    publish(world, LOWER, UPPER)
    ref = pulled(worker)
    assert ref is not None
    assert is_lazy(ref)
    layer_requests = [line for line in asked(world) if Digest.of(LOWER) in line or Digest.of(UPPER) in line]
    assert layer_requests == []
    assert files(ref) == {"a": "upper", "b": "only"}
    ref.release()


def test_an_image_without_layers_has_no_snapshot(worker: Worker, world: World) -> None:
    publish(world)
    assert pulled(worker) is None


def test_a_later_process_fetches_the_lazy_layers(open_worker: OpenWorker, world: World) -> None:
    publish(world, LOWER)
    first = open_worker()
    ref = pulled(first)
    assert ref is not None
    saved = first.cache.save(ref)
    ref.release()
    loaded = open_worker().cache.load(saved)
    assert loaded is not None
    assert files(loaded) == {"a": "lower", "b": "only"}
    loaded.release()


def test_a_layer_with_wrong_bytes_is_an_error_and_leaves_nothing(worker: Worker, world: World) -> None:
    publish(world, LOWER)
    world.blob(LOWER, Answer(200, {}, LOWER[:-1] + b"!"))
    ref = pulled(worker)
    assert ref is not None
    with pytest.raises(IntegrityError):
        files(ref)
    assert not worker.content.has(Digest.of(LOWER))
    ref.release()


# ------------------------------------------------------------------------------------------------ the operation
def test_the_op_has_a_key_by_manifest_and_one_by_its_layers(worker: Worker, world: World) -> None:
    def keys(platform: Platform | None = None) -> tuple[Digest, Digest]:
        vertex = Vertex(ImageSource(NAME, "pull"), platform=platform)
        op = SourceOp(vertex, worker, Session())
        context = OpContext(vertex)
        (first, done), (second, last) = op.cache_map(context, 0), op.cache_map(context, 1)
        assert (done, last) == (False, True)
        return first.digest, second.digest

    publish(world, LOWER, UPPER)
    before = keys(AMD64)
    assert before[1] == source_digest(chain_id([Digest.of(LOWER), Digest.of(UPPER)]))
    publish(world, LOWER, UPPER, author="somebody else")
    after = keys(AMD64)
    assert before[0] != after[0]
    assert before[1] == after[1]


def test_the_op_gives_an_empty_root_for_an_image_without_layers(worker: Worker, world: World) -> None:
    publish(world)
    vertex = Vertex(ImageSource(NAME), platform=AMD64)
    op, context = SourceOp(vertex, worker, Session()), OpContext(vertex)
    assert op.cache_map(context, 0)[1]
    (ref,) = op.exec(context, [])
    assert files(ref) == {}  # type: ignore[arg-type]
    ref.release()


# ------------------------------------------------------------------------------------------------ the store
def test_the_store_lists_and_removes(worker: Worker) -> None:
    store = ImageStore(worker.database, worker.content, clock=lambda: 5)
    config = config_for(UPPER)
    worker.content.put(config)
    manifest = image_manifest(config, [UPPER])
    target = Descriptor(manifests.OCI_MANIFEST, worker.content.put(manifest), len(manifest))
    store.put(Reference.parse("app"), target)
    (image,) = store.list()
    assert (image.ref.familiar, image.created, image.stored_at_ns) == ("app:latest", "2024-01-01T00:00:00Z", 5)
    assert image.size == len(config) + len(UPPER)
    assert store.gc_roots() == {target.digest, Digest.of(config), Digest.of(UPPER)}
    assert store.get(Reference.parse("app@" + Digest.of(b"other"))) is None
    assert store.remove(Reference.parse("app:latest"))
    assert not store.remove(Reference.parse("app"))
    assert store.gc_roots() == set()


def test_what_is_remembered_keeps_its_documents_but_not_its_layers(worker: Worker, world: World) -> None:
    digest = publish(world, LOWER)
    resolve_config(worker, NAME, AMD64)
    store = ImageStore(worker.database, worker.content)
    assert store.gc_roots() == {digest, Digest.of(config_for(LOWER))}
    assert [str(r) for r in store.sources(Digest.of(LOWER))] == [f"{HOST}/team/app"]
    assert store.forget() == 1
    assert store.gc_roots() == set()
