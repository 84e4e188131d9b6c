"""Image configs: reading, writing, and what BuildKit's JSON looks like."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.oci.image import ContainerConfig, Healthcheck, History, ImageConfig
from builder.oci.platform import Platform

FULL = ImageConfig(
    Platform("linux", "arm", "v7"),
    ContainerConfig(
        user="1000:1000",
        exposed_ports=("443/tcp", "80/tcp"),
        env=("PATH=/bin", "A=<b> & c"),
        entrypoint=("/init",),
        cmd=("a", "b"),
        volumes=("/data",),
        working_dir="/w",
        labels=(("k", "v"),),
        stop_signal="SIGQUIT",
        healthcheck=Healthcheck(("CMD", "true"), interval=10**9, retries=3),
        onbuild=("RUN x",),
        shell=("/bin/bash", "-c"),
    ),
    created="2026-08-21T15:29:35Z",
    author="me",
    diff_ids=("sha256:" + "0" * 64,),
    history=(History("2026-08-21T15:29:35Z", "RUN x", comment="c"), History(created_by="ENV a=b", empty_layer=True)),
)


def test_a_config_survives_being_written_and_read() -> None:
    assert ImageConfig.from_json(FULL.to_json()) == FULL


def test_the_document_has_sorted_keys_and_gos_escapes() -> None:
    data = FULL.to_json()
    assert list(json.loads(data)) == sorted(json.loads(data))
    assert b"A=\\u003cb\\u003e \\u0026 c" in data


def test_empty_fields_are_left_out() -> None:
    doc = json.loads(ImageConfig(Platform("linux", "amd64")).to_json())
    assert doc == {"architecture": "amd64", "os": "linux", "config": {}, "rootfs": {"type": "layers", "diff_ids": []}}


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"[]",
        b"null",
        b"{",
        b'{"os": 1}',
        b'{"config": {"Env": "x"}}',
        b'{"config": []}',
        b'{"history": [1]}',
        b"[" * 100_000,
        b"\xff",
    ],
)
def test_a_malformed_config_is_a_value_error(text: bytes) -> None:
    with pytest.raises(ValueError, match=r"."):
        ImageConfig.from_json(text)


@given(st.recursive(st.none() | st.booleans() | st.integers() | st.text(), lambda v: st.lists(v) | st.dictionaries(st.text(), v)))
def test_any_json_is_a_config_or_a_value_error(doc: object) -> None:
    try:
        ImageConfig.from_json(json.dumps({"config": doc, "history": doc, "rootfs": doc}).encode())
    except ValueError:
        pass
