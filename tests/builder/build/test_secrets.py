"""Values of --secret: what may be one is settled before the build, what it is when a step asks."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from builder.build.request import SecretSpec
from builder.build.secrets import MAX_SECRET, Secrets
from builder.errors import UsageError


def test_a_secret_is_read_when_it_is_asked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "s"
    file.write_bytes(b"old")
    monkeypatch.setenv("V", "from env")
    secrets = Secrets([SecretSpec("a", str(file)), SecretSpec("b", env="V"), SecretSpec("V")])
    file.write_bytes(b"new")
    assert [secrets.get(n) for n in ("a", "b", "V", "c")] == [b"new", b"from env", b"from env", None]


def test_an_id_alone_names_a_file_where_there_is_no_such_variable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "token").write_bytes(b"x")
    monkeypatch.chdir(tmp_path)
    assert Secrets([SecretSpec("token")]).get("token") == b"x"


@pytest.mark.parametrize("spec", [SecretSpec("a", "/nonexistent/secret"), SecretSpec("nonexistent_secret")])
def test_a_source_that_is_not_there_is_told_before_the_build(spec: SecretSpec) -> None:
    with pytest.raises(UsageError, match=f"failed to stat {spec.file or spec.id}: no such file"):
        Secrets([spec])


def test_what_can_be_no_secret_is_told_before_the_build(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "large").write_bytes(b"x" * (MAX_SECRET + 1))
    causes = {"fifo": "is not a regular file", ".": "is not a regular file", "large": f"exceeds {MAX_SECRET} bytes"}
    for name, cause in causes.items():
        with pytest.raises(UsageError, match=f"can't read secret 'a': .*{cause}"):
            Secrets([SecretSpec("a", str(tmp_path / name))])


def test_a_file_that_goes_away_is_an_error_and_no_missing_secret(tmp_path: Path) -> None:
    """An optional secret that is missing is no error: this one is not missing."""
    file = tmp_path / "s"
    file.write_bytes(b"x")
    secrets = Secrets([SecretSpec("a", str(file))])
    file.unlink()
    with pytest.raises(UsageError, match="no such file"):
        secrets.get("a")


def test_a_variable_that_is_not_set_is_an_empty_secret_and_that_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOT_SET", raising=False)
    secrets = Secrets([SecretSpec("a", env="NOT_SET")])
    assert secrets.get("a") == b""
    assert secrets.warnings == ["secret a is empty: the environment has no variable NOT_SET"]


def test_of_two_secrets_with_one_id_the_last_counts_and_that_is_said(tmp_path: Path) -> None:
    for name in "xy":
        (tmp_path / name).write_text(name)
    specs = [SecretSpec("a", str(tmp_path / name)) for name in "xy"]
    secrets = Secrets(specs)
    assert secrets.get("a") == b"y"
    assert secrets.warnings == ["secret a is given more than once: the last one counts"]
    assert Secrets([specs[0], specs[0]]).warnings == [], "the same thing said twice"


def test_a_pipe_is_read_once_and_serves_every_step() -> None:
    reader, writer = os.pipe()
    os.write(writer, b"from a command")
    os.close(writer)
    path = f"/dev/fd/{reader}"
    secrets = Secrets([SecretSpec("a", path), SecretSpec("b", path)])
    os.close(reader)
    assert [secrets.get(n) for n in "aab"] == [b"from a command"] * 3


def test_the_null_device_is_an_empty_secret() -> None:
    assert Secrets([SecretSpec("a", "/dev/null")]).get("a") == b""
