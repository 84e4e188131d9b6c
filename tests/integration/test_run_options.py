"""Every option of RUN and of the command line that a step feels, in builds; what a mount was made on is in no layer."""

from __future__ import annotations

import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import Pybuild

pytestmark = pytest.mark.integration

Context = Callable[[dict[str, str | bytes]], str]


@pytest.fixture
def step(pybuild: Pybuild, context: Context, busybox: str, tmp_path: Path) -> Callable[..., str]:
    """What the last stage's step printed into /out; ``before`` are lines of the Dockerfile above it."""

    def run(line: str, *flags: str, before: str = "") -> str:
        text = f"FROM {busybox} AS other\nRUN mkdir -p /d/sub && echo one > /d/sub/f && chmod 700 /d/sub\n"
        text += f"FROM {busybox} AS b\n{before}{line}\nFROM scratch\nCOPY --from=b /out /\n"
        folder = context({"Dockerfile": text, "data/x": "of the context\n"})
        pybuild.ok("--no-cache", *flags, "-o", f"type=local,dest={tmp_path}/result", folder)
        return (tmp_path / "result" / "out").read_text()

    return run


def test_a_bind_is_read_only_or_what_is_written_is_gone(step: Callable[..., str]) -> None:
    assert step("RUN --mount=target=/m,source=data cat /m/x > /out; ! touch /m/y") == "of the context\n"
    assert step("RUN --mount=from=other,source=/d/sub/f,target=/deep/er/f cat /deep/er/f > /out; ! (: > /deep/er/f)") == "one\n"
    before = "RUN --mount=from=other,source=d,target=/m,rw echo two > /m/sub/f && cat /m/sub/f\n"
    assert step("RUN --mount=from=other,source=d,target=/m cat /m/sub/f > /out", before=before) == "one\n"


def test_a_cache_has_its_owner_mode_and_first_content(step: Callable[..., str]) -> None:
    made = "RUN --mount=type=cache,target=/c,uid=7,gid=8,mode=0710 stat -c '%u %g %a' /c > /out"
    assert step(made) == "7 8 710\n"
    filled = "RUN --mount=type=cache,id=filled,target=/c,from=other,source=/d"
    before = f"{filled} cat /c/sub/f > /first && echo three > /c/sub/f\n"
    assert step(f"{filled} cat /first /c/sub/f > /out", before=before) == "one\nthree\n"


def test_a_tmpfs_has_its_size(step: Callable[..., str]) -> None:
    too_much = "! dd if=/dev/zero of=/t/x bs=64k count=32"
    assert step(f"RUN --mount=type=tmpfs,target=/t,size=1m stat -f -c %b /t > /out; {too_much}") == "256\n"


def test_a_secret_is_a_file_or_a_variable(step: Callable[..., str], tmp_path: Path) -> None:
    (tmp_path / "s").write_text("hush")
    flag = ("--secret", f"id=s,src={tmp_path}/s")
    look = "stat -c '%u %g %a' $F > /out; test $(cat $F) = hush"
    assert step(f"RUN --mount=type=secret,id=s F=/run/secrets/s; {look}", *flag) == "0 0 400\n"
    assert step(f"RUN --mount=type=secret,id=s,target=/a/b,uid=3,gid=4,mode=0644 F=/a/b; {look}", *flag) == "3 4 644\n"
    assert step("RUN --mount=type=secret,id=s,env=S test $S = hush && test ! -e /run/secrets/s; echo $? > /out", *flag) == "0\n"
    assert step("RUN --mount=type=secret,id=none test ! -e /run/secrets/none; echo $? > /out") == "0\n"


def test_limits_memory_and_hosts_of_the_command_line(step: Callable[..., str]) -> None:
    assert step("RUN (ulimit -n; ulimit -Hn) > /out", "--ulimit", "nofile=100:200") == "100\n200\n"
    assert step("RUN stat -f -c %b /dev/shm > /out", "--shm-size", "1m") == "256\n"


def test_mount_points_are_in_no_layer(pybuild: Pybuild, context: Context, busybox: str, tmp_path: Path) -> None:
    (tmp_path / "s").write_text("hush")
    mounts = "--mount=type=tmpfs,target=/m1/a --mount=type=cache,target=/m2/a --mount=type=secret,id=s,target=/m3/a"
    mounts += " --mount=type=secret,id=s --mount=target=/m4/a/b,source=data"
    folder = context({"Dockerfile": f"FROM {busybox}\nRUN {mounts} touch /made\n", "data/x": ""})
    pybuild.ok("--secret", f"id=s,src={tmp_path}/s", "-o", f"type=tar,dest={tmp_path}/out.tar", folder)
    with tarfile.open(tmp_path / "out.tar") as tar:
        names = {one.name.strip("/") for one in tar}
    assert "made" in names
    assert not [name for name in names if name.startswith(("m1", "m2", "m3", "m4", "run/secrets"))]
