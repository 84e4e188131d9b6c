"""Whole conversions: testdata/convert/NAME holds a Dockerfile, maybe options.json, and what comes out: graph.txt and config.json.

To add a case, make the folder with its Dockerfile, run this file with UPDATE_GOLDEN=1 in the environment, and read the diff.
"""

from __future__ import annotations

import json
import os
from typing import Any

import pytest

from builder.oci.platform import Platform

from .conftest import Build, render

FOLDER = os.path.join(os.path.dirname(__file__), "../../../testdata/convert")


def expect(path: str, text: str) -> None:
    if os.environ.get("UPDATE_GOLDEN"):
        with open(path, "w", encoding="utf-8") as file:
            file.write(text)
    with open(path, encoding="utf-8") as file:
        assert file.read() == text


@pytest.mark.parametrize("name", sorted(os.listdir(FOLDER)))
def test_dockerfile_becomes_this_graph_and_config(name: str, build: Build) -> None:
    folder = os.path.join(FOLDER, name)
    options: dict[str, Any] = {}
    if os.path.exists(os.path.join(folder, "options.json")):
        with open(os.path.join(folder, "options.json"), encoding="utf-8") as file:
            options = json.load(file)
    platforms = tuple(map(Platform.parse, options.pop("platforms", ())))
    with open(os.path.join(folder, "Dockerfile"), encoding="utf-8") as file:
        converted = build(file.read(), target_platforms=platforms, **options)
    graphs, configs = [], []
    for target in converted.targets:
        graphs += render(target.edge)
        configs.append(json.loads(target.config.to_json()))
    expect(os.path.join(folder, "graph.txt"), "\n".join(graphs) + "\n")
    expect(os.path.join(folder, "config.json"), json.dumps(configs, indent=1, ensure_ascii=False) + "\n")
