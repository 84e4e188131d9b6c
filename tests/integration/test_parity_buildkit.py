"""What a step sees under the native executor, beside a step of the same Dockerfile under BuildKit itself.

Needs a buildkitd and buildctl on PATH, which Debian has no package of: elsewhere tests/runtime/test_parity.py compares with runc,
which is what BuildKit runs.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fuzz.others import buildkitd
from tests.runtime.test_parity import GROUPS, PROBE, normal_lines
from tests.support import syscall_probe
from tests.support.cli import Pybuild
from tests.support.processes import Registry

pytestmark = [
    pytest.mark.integration,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root"),
    pytest.mark.skipif(
        not (shutil.which("buildkitd") and shutil.which("buildctl")), reason="no buildkitd on PATH: runc stands for it elsewhere"
    ),
]

# Lines of one side only that are as they should be.
EXPECTED = (
    (GROUPS, "it joins the groups that it needs: those of devices and memory"),
    (r" 0 -> (pipe|/dev/null)", "runc hands standard input on through a pipe"),
    (r"buildkitsandbox|^127\.0|^::1|resolv|nameserver|/etc/hosts|/etc/resolv.conf", "files that each builder writes for itself"),
    (r"otel-grpc|^in /dev d", "BuildKit offers its tracer's socket"),
)


@pytest.fixture
def daemon(registry: Registry) -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="bkd-", dir="/tmp")
    server = buildkitd(folder, registry.host)
    yield f"unix://{folder}/b.sock"
    server.stop()
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.parametrize("user", ["root", "app"])
def test_a_step_sees_what_it_would_see_under_buildkit(
    pybuild: Pybuild, daemon: str, busybox: str, tmp_path: Path, user: str
) -> None:
    context = tmp_path / "context"
    context.mkdir()
    (context / "probe").write_text(PROBE)
    (context / "calls").write_bytes(syscall_probe.program())
    (context / "calls").chmod(0o755)
    lines = [
        f"FROM {busybox} AS made",
        "RUN adduser -D -u 1000 app || echo app:x:1000:1000::/home/app:/bin/sh >> /etc/passwd; chmod 777 /tmp",
        "COPY probe calls /",
        f"USER {user}",
        "RUN sh /probe > /tmp/seen 2>&1; /calls > /tmp/calls; true",
        "FROM scratch",
        "COPY --from=made /tmp/seen /tmp/calls /",
    ]
    (context / "Dockerfile").write_text("\n".join(lines) + "\n")
    theirs, ours = tmp_path / "theirs", tmp_path / "ours"
    command = ["buildctl", "--addr", daemon, "build", "--frontend", "dockerfile.v0", "--local", f"context={context}"]
    command += ["--local", f"dockerfile={context}", "--output", f"type=local,dest={theirs}"]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    pybuild.ok("--runtime", "native", "-o", f"type=local,dest={ours}", str(context))
    seen = [normal_lines((folder / "seen").read_text(errors="replace")) for folder in (theirs, ours)]
    assert len(seen[0]) > 100
    different = [("-", line) for line in seen[0] if line not in seen[1]] + [("+", line) for line in seen[1] if line not in seen[0]]
    reasons = [re.compile(pattern) for pattern, _ in EXPECTED]
    assert [both for both in different if not any(pattern.search(both[1]) for pattern in reasons)] == []
    answers = [syscall_probe.outcomes((folder / "calls").read_bytes()) for folder in (theirs, ours)]
    newer = set(range(457, 480))  # than the libseccomp that runc is built with
    assert {number for number, answer in answers[0].items() if answers[1][number] != answer} <= newer
