"""Files that are much larger than any that people write: as many steps as lines, in time that grows with them, or a clear error."""

from __future__ import annotations

import json

import pytest

from frontend import shell
from frontend.errors import FrontendError

from .conftest import Build

MANY = 4000
"""Lines of a kind: what went through all earlier lines at each new one took minutes for these."""


def test_settings_in_any_number_are_all_in_the_image(build: Build) -> None:
    kinds = "LABEL l{0}={0}\nENV e{0}={0}\nARG a{0}={0}\nEXPOSE {1}\nVOLUME /{0}\nONBUILD RUN {0}\n"
    text = "".join(kinds.format(i, i + 1) for i in range(MANY))
    image = build(f"FROM scratch\n{text}").targets[0].config
    config = json.loads(image.to_json())["config"]
    assert [len(config[key]) for key in ("Labels", "Env", "ExposedPorts", "Volumes", "OnBuild")] == [MANY, MANY + 1, *[MANY] * 3]
    assert len(image.history) == MANY * 5


def test_stages_in_any_number_hand_on_all_of_their_history(build: Build) -> None:
    text = "".join(f"FROM s{i} AS s{i + 1}\nLABEL l{i}={i}\n" for i in range(MANY))
    image = build(f"FROM scratch AS s0\n{text}").targets[0].config
    assert [entry.created_by for entry in image.history] == [f"LABEL l{i}={i}" for i in range(MANY)]


def test_a_step_may_have_any_number_of_inputs(build: Build) -> None:
    words = " ".join(f"<<E{i} http://h/{i}" for i in range(1500))
    edge = build(f"FROM scratch\nADD {words} /\n" + "".join(f"x{i}\nE{i}\n" for i in range(1500))).targets[0].edge
    assert edge is not None
    assert len(edge.vertex.inputs) == 3000


def test_a_variable_may_be_doubled_24_times_and_no_more(build: Build) -> None:
    for text in ("FROM scratch\nENV A=1\n{}", "FROM scratch\nARG A=1\n{}", "ARG A=1\n{}FROM scratch\n"):
        keyword = "ENV" if "ENV" in text else "ARG"
        assert build(text.format(f"{keyword} A=$A$A\n" * 24)).targets
        with pytest.raises(FrontendError, match='failed to process "\\$A\\$A": the result has more than 16777216 characters') as e:
            build(text.format(f"{keyword} A=$A$A\n" * 100))
        assert len(e.value.ranges) == 1


@pytest.mark.parametrize(
    "more",
    ["ENV B=$A\n", "LABEL b=$A\n", "RUN true\n", "USER $A\n", "COPY <<E /\n$A\nE\n"],
)
def test_many_large_variables_are_an_error_before_the_memory_is_full(
    build: Build, more: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shell, "MAX_TOTAL", 1 << 20)
    large = f"FROM scratch\nENV A={'x' * 60_000}\n"
    assert build(large + more * 15).targets
    with pytest.raises(FrontendError, match="the variables of this file come to more than 1048576 characters in all"):
        build(large + more * 30)


def test_a_replacement_does_not_grow_without_bound(build: Build) -> None:
    with pytest.raises(FrontendError, match="may have more than"):
        build("FROM scratch\nENV A=1\n" + "ENV A=$A$A\n" * 22 + "ENV A=${A//1/$A$A$A}\n")


def test_hints_are_looked_for_until_there_are_too_many_findings(build: Build) -> None:
    declared = "".join(f"ARG argument{i}\n" for i in range(600))
    used = "".join(f"ENV x=$argumenx{i}\n" for i in range(600))
    found = build(f"FROM scratch\n{declared.replace(chr(10), '=1' + chr(10))}{used}").warnings
    hints = [warning.message for warning in found if "did you mean $argument" in warning.message]
    assert len(found) == 600
    assert 100 < len(hints) < 600
