"""How much of a step's output is shown: BuildKit's limits."""

from __future__ import annotations

import pytest

from builder.progress.clip import TAIL, LogClip, binary_units, limits_of


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def test_below_the_limits_all_is_shown(clock: Clock) -> None:
    clip = LogClip(100, 10, clock=clock)
    clock.now = 0.5
    assert clip(b"0123456789") == b"0123456789"
    assert clip.rest() == b""


def test_beyond_the_size_a_note_and_nothing_more(clock: Clock) -> None:
    clip = LogClip(2 << 20, -1, clock=clock)
    assert clip(b"x" * (2 << 20)) == b"x" * (2 << 20)
    assert clip(b"abc") == b"\n[output clipped, log limit 2MiB reached]\n"
    assert clip(b"def") == b""
    assert clip.rest() == b"abcdef"
    assert clip.rest() == b""


def test_what_fits_stands_before_the_note(clock: Clock) -> None:
    assert LogClip(3, -1, clock=clock)(b"abcdef") == b"abc\n[output clipped, log limit 3B reached]\n"


def test_speed_counts_from_the_beginning_of_the_step(clock: Clock) -> None:
    clip = LogClip(-1, 1024, clock=clock)
    clock.now = 0.1
    assert clip(b"x" * 2000) == b"x" * 1024 + b"\n[output clipped, log limit 1KiB/s reached]\n"
    clock.now = 1.5
    assert clip(b"y" * 40) == b"y" * 40  # 2048 by now
    assert clip(b"z" * 40) == b"z" * 8 + b"\n[output clipped, log limit 1KiB/s reached]\n"


def test_without_limits_nothing_is_cut(clock: Clock) -> None:
    clip = LogClip(-1, -1, clock=clock)
    assert clip(b"x" * (5 << 20)) == b"x" * (5 << 20)
    assert clip.rest() == b""


def test_of_a_step_that_fails_the_last_output_is_kept(clock: Clock) -> None:
    clip = LogClip(0, -1, clock=clock)
    for n in range(100):
        clip(b"%04d" % n * 4096)
    rest = clip.rest()
    assert len(rest) == TAIL
    assert rest.endswith(b"0099" * 4096)


@pytest.mark.parametrize(
    ("size", "speed", "limits"),
    [("", "", (2 << 20, 200 << 10)), ("-1", "-1", (-1, -1)), ("10", "x", (10, 200 << 10)), ("99999999999", "5", (2 << 20, 5))],
)
def test_the_environment_sets_limits(size: str, speed: str, limits: tuple[int, int]) -> None:
    assert limits_of({"BUILDKIT_STEP_LOG_MAX_SIZE": size, "BUILDKIT_STEP_LOG_MAX_SPEED": speed}) == limits


UNITS = [(0, "0B"), (1023, "1023B"), (1536, "1.5KiB"), (2 << 20, "2MiB"), (200 << 10, "200KiB")]


@pytest.mark.parametrize(("count", "text"), UNITS)
def test_units(count: int, text: str) -> None:
    assert binary_units(count) == text
