"""A machine on which steps can't be run: said before anything is pulled, and no obstacle where nothing has to run."""

from __future__ import annotations

import sys
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from pathlib import Path

import pytest

from tests.support.cli import Pybuild, assert_refused
from tests.support.registries import LayoutRegistry

pytestmark = pytest.mark.integration

Context = Callable[[dict[str, str | bytes]], str]


class Altered(Pybuild):
    """pybuild in a mount namespace in which ``change`` (a shell command) was done first."""

    change = "true"

    def command(self, *args: str) -> list[str]:
        alone = ["unshare", "-m", "sh", "-c", f'{self.change} && exec "$@"', "sh"]
        return [*alone, sys.executable, "-m", "builder", *args]


class WithoutRuntimes(Altered):
    change = "for name in runc crun bwrap; do mount --bind /dev/null $(command -v $name) || exit 9; done"


class WithoutCgroups(Altered):
    change = "mount -t tmpfs -o ro none /sys/fs/cgroup"


class CountingRegistry(LayoutRegistry):
    """Notes the layers that it sends."""

    def __init__(self, layout: str) -> None:
        super().__init__(layout)
        self.layers_sent: list[str] = []

    def before_body(self, digest: str, handler: BaseHTTPRequestHandler, data: bytes) -> bytes:
        if digest in self.layers:
            self.layers_sent.append(digest)
        return data


def test_no_program_is_needed_to_run_steps(pybuild: Pybuild, context: Context, busybox: str) -> None:
    done = WithoutRuntimes(pybuild.root).ok(context({"Dockerfile": f"FROM {busybox}\nRUN echo ran > /ran\n"}))
    assert done.ending("RUN echo ran").startswith("DONE")


def test_nothing_is_pulled_for_a_step_that_the_runtime_can_not_run(
    pybuild: Pybuild, context: Context, busybox_layout: str
) -> None:
    with CountingRegistry(busybox_layout) as server:
        folder = context({"Dockerfile": f"FROM {server.host}/base:1\nCOPY file /\nRUN true\n", "file": "x"})
        assert_refused(
            WithoutRuntimes(pybuild.root)("--runtime", "runc", folder),
            "RUN can't be executed here: runc not found",
            "apt install runc",
        )
        assert server.layers_sent == []


def test_a_runtime_asked_for_by_name_that_would_be_no_sandbox_is_refused(
    pybuild: Pybuild, context: Context, busybox_layout: str
) -> None:
    with CountingRegistry(busybox_layout) as server:
        folder = context({"Dockerfile": f"FROM {server.host}/base:1\nRUN true\n"})
        done = WithoutCgroups(pybuild.root)("--runtime", "crun", folder)
        assert_refused(
            done, "RUN can't be executed here: crun needs a devices cgroup here", "use --runtime runc or --runtime bwrap"
        )
        assert server.layers_sent == []
        assert WithoutCgroups(pybuild.root)(folder).code == 0


def test_a_build_whose_steps_are_cached_needs_no_runtime(pybuild: Pybuild, context: Context, busybox: str) -> None:
    folder = context({"Dockerfile": f"FROM {busybox}\nCOPY early /\nRUN echo ran > /ran\nCOPY late /\n", "early": "1", "late": "1"})
    pybuild.ok(folder)
    Path(folder, "late").write_text("2")
    done = WithoutRuntimes(pybuild.root).ok("--runtime", "runc", folder)
    assert done.ending("RUN echo ran") == "CACHED"
    assert list(done.not_cached()) == ["[4/4] COPY late /"]
    Path(folder, "early").write_text("2")
    assert_refused(WithoutRuntimes(pybuild.root)("--runtime", "runc", folder), "RUN can't be executed here")


def test_options_that_can_not_be_had_are_refused_before_anything_is_pulled(
    pybuild: Pybuild, context: Context, busybox_layout: str
) -> None:
    with CountingRegistry(busybox_layout) as server:
        folder = context({"Dockerfile": f"FROM {server.host}/base:1\nRUN true\n"})
        done = WithoutCgroups(pybuild.root)("--cgroup-parent", "x", "--runtime", "bwrap", folder)
        assert_refused(done, "RUN can't be executed here: bwrap can't honour --cgroup-parent", "use --runtime runc")
        assert server.layers_sent == []
