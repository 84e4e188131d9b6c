"""Image configs: reading, writing, and what BuildKit's JSON looks like."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.exporters.history import LayerFact, complete_config
from builder.oci.fields import MalformedError
from builder.oci.image import ContainerConfig, Healthcheck, History, ImageConfig
from builder.oci.platform import Platform
from builder.text.times import parse_rfc3339
from tests.support.anyjson import spoilt

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
    ("document", "cause"),
    [
        (b"", "the document is no JSON: Expecting value"),
        (b"[]", "the document is no object"),
        (b"null", "the document is no object"),
        (b"{", "the document is no JSON"),
        (b"[" * 100_000, "nested too deeply"),
        (b"\xff", "the document is no JSON"),
        (b'{"a": NaN}', "NaN is no number"),
        (b'{"os": 1}', "os is no text"),
        (b'{"config": []}', "config is no object"),
        (b'{"config": {"Env": "x"}}', "config.Env is no list"),
        (b'{"config": {"Env": ["x", 1]}}', "config.Env[1] is no text"),
        (b'{"config": {"ExposedPorts": [[]]}}', "config.ExposedPorts is no object"),
        (b'{"config": {"Volumes": [[]]}}', "config.Volumes is no object"),
        (b'{"config": {"Volumes": {"/a": 1}}}', 'config.Volumes["/a"] is no object'),
        (b'{"config": {"Labels": {"a": {}}}}', 'config.Labels["a"] is no text'),
        (b'{"config": {"Healthcheck": 1}}', "config.Healthcheck is no object"),
        (b'{"config": {"Healthcheck": {"Interval": 1e999}}}', "config.Healthcheck.Interval is no integer"),
        (b'{"config": {"Healthcheck": {"Retries": 1.5}}}', "config.Healthcheck.Retries is no integer"),
        (b'{"config": {"Healthcheck": {"Timeout": 9223372036854775808}}}', "config.Healthcheck.Timeout is out of the range"),
        (b'{"config": {"Healthcheck": {"Timeout": true}}}', "config.Healthcheck.Timeout is no integer"),
        (b'{"config": {"ArgsEscaped": 1}}', "config.ArgsEscaped is neither true nor false"),
        (b'{"history": [1]}', "history[0] is no object"),
        (b'{"history": [{}, {"created": "yesterday"}]}', "history[1].created is no time in the form of RFC 3339"),
        (b'{"created": "2026-02-29T00:00:00Z"}', "created is no time"),
        (b'{"rootfs": {"diff_ids": [null, {}]}}', "rootfs.diff_ids[1] is no text"),
    ],
)
def test_a_malformed_config_is_refused_with_the_field_and_what_is_wrong_with_it(document: bytes, cause: str) -> None:
    with pytest.raises(MalformedError, match=re.escape(cause)):
        ImageConfig.from_json(document)


def test_null_is_nothing_and_what_is_no_utf8_is_replaced_as_go_does() -> None:
    config = b'{"Env": ["A=\\ud800\xff", null], "Labels": {"l": null}, "Volumes": null, "Cmd": null}'
    read = ImageConfig.from_json(b'{"os": null, "config": ' + config + b', "history": [null]}')
    assert read.config.env == ("A=\ufffd\ufffd", "")
    assert (read.config.labels, read.config.volumes, read.config.cmd) == ((("l", ""),), (), None)
    assert read.history == (History(),)


@pytest.mark.parametrize("text", ["2026-08-21T15:29:35Z", "0001-01-01T00:00:00Z", "2024-02-29T23:59:59.123456789+05:30", ""])
def test_times_are_kept_as_they_are_written(text: str) -> None:
    assert ImageConfig.from_json(json.dumps({"created": text}).encode()).created == text


TIME = "2026-08-21T15:29:35.12-00:30"


@given(st.text(alphabet="0123456789-:TZ+.", max_size=30) | st.integers(0, 28).map(lambda i: f"{TIME[:i]}9{TIME[i + 1 :]}"))
def test_every_time_that_is_taken_can_be_read(text: str) -> None:
    try:
        created = ImageConfig.from_json(json.dumps({"created": text}).encode()).created
    except MalformedError:
        return
    assert created == "" or isinstance(parse_rfc3339(created), int)


@given(spoilt(json.loads(FULL.to_json())))
def test_any_document_is_a_config_that_can_be_written_or_is_refused_in_one_line(document: bytes) -> None:
    error = ""
    try:
        read = ImageConfig.from_json(document)
    except MalformedError as e:
        error = str(e)
    assert "\n" not in error
    if error:
        return
    again = ImageConfig.from_json(read.to_json())
    assert ImageConfig.from_json(again.to_json()) == again
    complete_config(read, [LayerFact("sha256:" + "1" * 64, "layer", 0)], read, 0)
