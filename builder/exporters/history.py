"""The config that goes with layers: history filled up and times clamped (exporter/containerimage/writer.go, as rules).

Pure: from a converted config and facts of the layers to the config document's value.
"""

from __future__ import annotations

from collections.abc import Sequence

from builder.oci.image import History, ImageConfig
from builder.text.times import NS, format_rfc3339, parse_rfc3339
from builder.values import dataclass, replace

COMMENT = "buildkit.exporter.image.v0"


@dataclass(frozen=True, slots=True)
class LayerFact:
    """What a ref knows of one layer: why and when (nanoseconds since the epoch) it was made, and its diffID."""

    diff_id: str
    description: str
    created_ns: int


def complete_config(config: ImageConfig, layers: Sequence[LayerFact], base: ImageConfig | None, epoch: int | None) -> ImageConfig:
    """The config with the layers' diffIDs and one history entry for each layer, in order.

    Entries without a time get that of their layer, or of the entry before; with ``epoch`` (seconds) no new time is later.
    """
    history = _fill_times(_fit(list(config.history), layers), layers)
    created = config.created
    if epoch is not None:
        history = _clamp(history, base, epoch)
        created = _earlier(created, epoch) if created else created
    if not created:
        created = next((h.created for h in reversed(history) if h.created), "")
    return replace(config, diff_ids=tuple(x.diff_id for x in layers), history=tuple(history), created=created)


def _fit(history: list[History], layers: Sequence[LayerFact]) -> list[History]:
    """As many non-empty entries as there are layers."""
    counted = sum(not h.empty_layer for h in history)
    if counted > len(layers):
        # A base image that lies about itself: its lowest entries keep the layers there are.
        seen = 0
        for i, h in enumerate(history):
            if not h.empty_layer:
                seen += 1
                if seen > len(layers):
                    history[i] = replace(h, empty_layer=True)
    for fact in layers[counted:]:
        history.append(
            History(format_rfc3339(fact.created_ns), fact.description or "created by buildkit", comment=COMMENT),
        )
    return history


def _fill_times(history: list[History], layers: Sequence[LayerFact]) -> list[History]:
    index = 0
    for i, h in enumerate(history):
        if not h.empty_layer:
            if not h.created and index < len(layers):
                history[i] = replace(h, created=format_rfc3339(layers[index].created_ns))
            index += 1
    # Metadata entries take the time of the first new layer, or else of the last layer there is: not that of the base image.
    created, gap = "", False
    for h in history:
        if h.created:
            created = h.created
            if gap:
                break
        else:
            gap = True
    gap = False
    for i, h in enumerate(history):
        if h.created:
            if gap:
                created = h.created
        else:
            gap = True
            history[i] = replace(h, created=created)
    return history


def _clamp(history: list[History], base: ImageConfig | None, epoch: int) -> list[History]:
    """No time after ``epoch``, except in the entries that are the base image's own (moby/buildkit#4614)."""
    same = 0
    while base is not None and same < min(len(history), len(base.history)) and history[same] == base.history[same]:
        same += 1
    return history[:same] + [replace(h, created=_earlier(h.created, epoch)) for h in history[same:]]


def _earlier(created: str, epoch: int) -> str:
    if not created:
        return format_rfc3339(epoch * NS)
    return format_rfc3339(epoch * NS) if parse_rfc3339(created) > epoch * NS else created
