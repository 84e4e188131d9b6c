"""Solved results to a cache: records by the solver's walk, blobs by the cache manager, documents, and off they go."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from builder.cache.blobs import NoBlobsError
from builder.content.types import Compression, Layer
from builder.oci.documents import describe
from builder.remotecache import config as v0
from builder.remotecache import manifest
from builder.remotecache.chains import Chains, marshal
from builder.remotecache.imported import load_layers
from builder.remotecache.places import writer
from builder.remotecache.types import RemoteLayer
from builder.solver.exporter import export_chains
from builder.state.threads import run
from builder.values import replace

if TYPE_CHECKING:
    from builder.oci.digest import Digest
    from builder.remotecache.types import CacheExport, CacheMode, Place
    from builder.solver.exporter import ExportedRecord, ExportedResult, HasKeys
    from builder.worker import Worker

ImportedLayers = Callable[[str], "tuple[RemoteLayer, ...] | None"]
"""Layers of a result of an imported cache; None for results of the own store."""


def export_cache(
    worker: Worker,
    spec: CacheExport,
    place: Place,
    results: Sequence[HasKeys],
    imported: ImportedLayers,
    report: Callable[[str], None],
) -> None:
    """Write the cache of ``results`` to ``place``. With nothing to write what is there stays."""
    chains = chains_of(worker, results, spec.mode, spec.compression, imported)
    if not chains.config.layers:
        report("skipping cache export for empty result")
        return
    report("preparing build cache for export")
    out = writer(worker, place, reset=spec.reset)

    def write(remote: RemoteLayer) -> None:
        out.layer(remote)
        report(f"writing layer {remote.digest}")

    blobs = [chains.blobs[digest] for digest in dict.fromkeys(x.blob for x in chains.config.layers)]
    run([lambda b=b: write(b) for b in blobs])  # type: ignore[misc]
    config = chains.config.to_json()
    config_descriptor = describe(v0.MEDIA_TYPE, config)
    report(f"writing config {config_descriptor.digest}")
    out.document(config_descriptor, config)
    # BuildKit names a layer once for each chain it is in.
    named = [chains.blobs[x.blob] for x in chains.config.layers]
    oci = spec.compression.oci_media_types
    top, data = manifest.write(config_descriptor, named, image_manifest=spec.image_manifest, oci=oci)
    report(f"writing cache {'image ' if spec.image_manifest else ''}manifest {top.digest}")
    out.finish(top, data)


def chains_of(
    worker: Worker, results: Sequence[HasKeys], mode: CacheMode, compression: Compression, imported: ImportedLayers
) -> Chains:
    """Records with the layers of their results; blobs are made where the mode asks for them."""
    records = export_chains(results, mode)
    layers = _Layers(worker, compression, imported).of(records)
    if mode == "min":
        layers = _without_others(records, layers)
    return marshal(records, layers)


def inline_cache(
    worker: Worker, result: HasKeys, image: Sequence[Layer], compression: Compression, imported: ImportedLayers
) -> dict[str, str]:
    """The field with the records for the config of an image with these layers (BuildKit: inline.go); empty if nothing fits."""
    digests = [x.descriptor.digest for x in image]
    places = {digest: i for i, digest in enumerate(digests)}
    records = export_chains([result], "min")
    found = _Layers(worker, compression, imported).of(records)
    inside = {id: chain for id, chain in found.items() if all(x.digest in places for x in chain)}
    config = marshal(records, inside).config
    if not config.layers:
        return {}
    from base64 import b64encode

    fitted = v0.CacheConfig(records=tuple(_on_image(r, config, digests, places) for r in config.records))
    return {v0.INLINE_KEY: b64encode(fitted.records_json()).decode()}


def _on_image(
    record: v0.ConfigRecord, config: v0.CacheConfig, image: Sequence[Digest], places: dict[Digest, int]
) -> v0.ConfigRecord:
    """Results by the image's layers: the topmost where they are its lowest ones in order, else one by one."""
    results: list[v0.CacheResult] = []
    chains: list[v0.ChainedResult] = []
    for result in record.results:
        blobs: list[Digest] = []
        at = result.layer
        while at != v0.NO_PARENT:
            blobs.insert(0, config.layers[at].blob)
            at = config.layers[at].parent
        if blobs == list(image[: len(blobs)]):
            results.append(v0.CacheResult(len(blobs) - 1, result.created_ns))
        else:
            chains.append(v0.ChainedResult(tuple(places[b] for b in blobs)))
    return replace(record, results=tuple(results), chains=tuple(chains))


class _Layers:
    """Results of the solver as layers."""

    def __init__(self, worker: Worker, compression: Compression, imported: ImportedLayers) -> None:
        self._cache, self._compression, self._imported = worker.cache, compression, imported

    def of(self, records: Sequence[ExportedRecord]) -> dict[str, tuple[RemoteLayer, ...]]:
        """By result id, without what has none. The topmost results come first: their layers are made side by side, and those
        below find theirs done."""
        results = [x for r in reversed(records) for x in r.results]
        found: dict[str, tuple[RemoteLayer, ...]] = {}
        for make in (True, False):
            for x in results:
                if x.make == make and x.id not in found:
                    layers = self._one(x)
                    if layers is not None:
                        found[x.id] = layers
        return found

    def _one(self, result: ExportedResult) -> tuple[RemoteLayer, ...] | None:
        elsewhere = self._imported(result.id)
        if elsewhere is not None and not self._compression.force:
            return elsewhere
        try:
            ref = load_layers(self._cache, elsewhere) if elsewhere is not None else self._cache.get(result.id, used=False)
        except KeyError:
            return None  # collected since
        if ref is None:
            return None
        try:
            layers = ref.remote(self._compression, create=result.make)
            return tuple(
                RemoteLayer(layer, at.created_at_ns) for layer, at in zip(layers, ref.layers(), strict=True)
            )
        except NoBlobsError:
            return None
        finally:
            ref.release()


def _without_others(
    records: Sequence[ExportedRecord], layers: dict[str, tuple[RemoteLayer, ...]]
) -> dict[str, tuple[RemoteLayer, ...]]:
    """mode=min: layers of the result, and no others, whatever blobs happen to be there from earlier."""
    results = [x for r in records for x in r.results if x.id in layers]
    wanted = {layer.digest for x in results if x.make for layer in layers[x.id]}
    return {x.id: layers[x.id] for x in results if x.make or all(layer.digest in wanted for layer in layers[x.id])}
