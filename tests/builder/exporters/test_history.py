"""Config and history that go with layers: BuildKit's normalizing and clamping, as rules."""

from __future__ import annotations

from builder.exporters.history import COMMENT, LayerFact, complete_config
from builder.oci.image import History, ImageConfig
from builder.oci.platform import Platform

NS = 10**9
T1, T2, T3 = "1970-01-01T00:00:01Z", "1970-01-01T00:00:02Z", "1970-01-01T00:00:03Z"


def config(*history: History, created: str = "") -> ImageConfig:
    return ImageConfig(Platform("linux", "amd64"), history=history, created=created)


def layer(n: int) -> LayerFact:
    return LayerFact(f"sha256:{n:064d}", f"step {n}", n * NS)


def test_diff_ids_are_those_of_the_layers_in_order() -> None:
    out = complete_config(config(), [layer(1), layer(2)], None, None)
    assert out.diff_ids == (layer(1).diff_id, layer(2).diff_id)


def test_an_entry_without_a_time_gets_that_of_its_layer() -> None:
    out = complete_config(config(History(created_by="a"), History(created_by="b")), [layer(1), layer(2)], None, None)
    assert [h.created for h in out.history] == [T1, T2]


def test_metadata_entries_take_the_time_of_the_layer_before_them() -> None:
    history = (
        History(T1, "base"),
        History(created_by="ENV", empty_layer=True),
        History(created_by="RUN"),
        History(created_by="CMD", empty_layer=True),
    )
    out = complete_config(config(*history), [layer(1), layer(3)], None, None)
    assert [h.created for h in out.history] == [T1, T3, T3, T3]


def test_without_a_new_layer_metadata_entries_take_the_last_time_there_is() -> None:
    history = (History(T1, "base"), History(T2, "base", empty_layer=True), History(created_by="ENV", empty_layer=True))
    out = complete_config(config(*history), [layer(1)], None, None)
    assert [h.created for h in out.history] == [T1, T2, T2]


def test_a_layer_without_an_entry_gets_one() -> None:
    out = complete_config(config(), [layer(1)], None, None)
    assert out.history == (History(T1, "step 1", comment=COMMENT),)


def test_entries_that_no_layer_answers_for_become_empty() -> None:
    out = complete_config(config(History(T1, "a"), History(T1, "b")), [layer(1)], None, None)
    assert [h.empty_layer for h in out.history] == [False, True]


def test_created_is_the_time_of_the_newest_entry_unless_it_is_set() -> None:
    assert complete_config(config(History(created_by="a")), [layer(2)], None, None).created == T2
    assert complete_config(config(History(created_by="a"), created=T3), [layer(2)], None, None).created == T3


def test_with_an_epoch_no_new_time_is_later() -> None:
    out = complete_config(config(History(T1, "a"), History(T3, "b"), created=T3), [layer(1), layer(3)], None, 2)
    assert [h.created for h in out.history] == [T1, T2]
    assert out.created == T2


def test_the_base_images_own_entries_keep_their_times() -> None:
    base = config(History(T3, "base"))
    out = complete_config(config(History(T3, "base"), History(T3, "new")), [layer(3), layer(3)], base, 2)
    assert [h.created for h in out.history] == [T3, T2]
