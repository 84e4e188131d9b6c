"""Platforms are parsed, printed, normalised and matched as containerd's ``platforms`` does it."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.oci.platform import Platform, host, normalize, preference


@pytest.mark.parametrize(
    ("text", "parsed", "normal"),
    [
        ("linux/amd64", "linux/amd64", "linux/amd64"),
        ("linux/x86_64", "linux/amd64", "linux/amd64"),
        ("linux/x86-64", "linux/amd64", "linux/amd64"),
        ("Linux/AMD64/v1", "linux/amd64", "linux/amd64"),
        ("linux/amd64/v2", "linux/amd64/v2", "linux/amd64/v2"),
        ("linux/x86-64-v2", "linux/x86-64-v2", "linux/x86-64-v2"),
        ("linux/arm64", "linux/arm64", "linux/arm64"),
        ("linux/arm64/v8", "linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/8", "linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/v8.0", "linux/arm64/v8", "linux/arm64"),
        ("linux/arm64/v8.2", "linux/arm64/v8.2", "linux/arm64/v8.2"),
        ("linux/arm64/9.0", "linux/arm64/v9", "linux/arm64/v9"),
        ("linux/aarch64", "linux/arm64", "linux/arm64"),
        ("linux/aarch64/v8", "linux/arm64/v8", "linux/arm64"),
        ("linux/arm", "linux/arm", "linux/arm/v7"),
        ("linux/arm/7", "linux/arm/v7", "linux/arm/v7"),
        ("linux/arm/v6", "linux/arm/v6", "linux/arm/v6"),
        ("linux/arm/5", "linux/arm/v5", "linux/arm/v5"),
        ("linux/arm/8", "linux/arm/v8", "linux/arm/v8"),
        ("linux/armhf", "linux/arm", "linux/arm/v7"),
        ("linux/armel", "linux/arm/v6", "linux/arm/v6"),
        ("linux/armel/v7", "linux/arm/v6", "linux/arm/v6"),
        ("linux/i386", "linux/386", "linux/386"),
        ("linux/i386/foo", "linux/386", "linux/386"),
        ("linux/386/foo", "linux/386/foo", "linux/386/foo"),
        ("linux/riscv64", "linux/riscv64", "linux/riscv64"),
        ("macos/arm64", "darwin/arm64", "darwin/arm64"),
        ("windows(10.0.17763)/amd64", "windows(10.0.17763)/amd64", "windows(10.0.17763)/amd64"),
        ("windows(10.0.17763+win32k+a)/amd64", "windows(10.0.17763+a+win32k)/amd64", "windows(10.0.17763+a+win32k)/amd64"),
        ("windows(+win32k)/amd64", "windows(+win32k)/amd64", "windows(+win32k)/amd64"),
        ("windows(10%2B1)/amd64", "windows(10%2B1)/amd64", "windows(10%2B1)/amd64"),
        ("windows()/amd64", "windows/amd64", "windows/amd64"),
    ],
)
def test_a_platform_is_read_as_written_and_has_one_normal_form(text: str, parsed: str, normal: str) -> None:
    assert str(Platform.parse(text)) == parsed
    assert str(normalize(Platform.parse(text))) == normal


def test_one_word_is_an_operating_system_or_an_architecture_and_this_machine_gives_the_rest() -> None:
    assert normalize(Platform.parse("linux")) == host()
    assert Platform.parse("Windows").architecture == host().architecture
    assert str(Platform.parse("aarch64")) == "linux/arm64"
    assert str(Platform.parse("arm")) == "linux/arm"
    assert str(Platform.parse("armel")) == "linux/arm/v6"


def test_this_machine_is_told_in_normal_form() -> None:
    assert normalize(host()) == host()


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("", "invalid OS component"),
        ("bogus", '"bogus": unknown operating system or architecture: invalid argument'),
        ("linux/", '"" is an invalid component of "linux/"'),
        ("a/b/c/d", '"a/b/c/d": cannot parse platform specifier: invalid argument'),
        ("linux/*", '"linux/*": wildcards not yet supported'),
        ("lin ux/amd64", '"lin ux" is an invalid OS component'),
        ("linux/am d64", '"am d64" is an invalid component'),
        ("win.dows/amd64", "invalid OS component"),
        ("windows(1/amd64", "invalid OS component"),
        ("windows(1+)/amd64", "invalid OS component"),
        ("windows(%zz)/amd64", 'invalid OS version "%zz": invalid URL escape "%zz"'),
        ("windows(+%4)/amd64", 'has invalid OS features: invalid URL escape "%4"'),
    ],
)
def test_what_is_no_platform_is_refused_with_the_part_that_is_wrong(text: str, cause: str) -> None:
    with pytest.raises(ValueError, match=re.escape(cause)):
        Platform.parse(text)


def test_a_platform_without_an_operating_system_is_printed_as_unknown() -> None:
    assert str(Platform("", "arm64")) == "unknown"


@pytest.mark.parametrize(
    ("want", "accepted", "refused"),
    [
        ("linux/arm/v7", ["linux/arm", "linux/arm/v6", "linux/armel", "linux/arm/v5"], ["linux/arm/v8", "linux/arm64"]),
        ("linux/arm/v6", ["linux/armel", "linux/arm/v5"], ["linux/arm"]),
        ("linux/arm64", ["linux/arm64/v8", "linux/arm/v8", "linux/arm/v7", "linux/arm/v5"], ["linux/arm64/v8.1", "linux/arm64/v9"]),
        ("linux/arm64/v8", ["linux/arm64", "linux/arm/v7"], ["linux/arm64/v8.1"]),
        ("linux/arm64/v8.2", ["linux/arm64/v8.2", "linux/arm64/v8.1", "linux/arm64", "linux/arm"], ["linux/arm64/v8.3"]),
        (
            "linux/arm64/v9.1",
            ["linux/arm64/v9.1", "linux/arm64/v9", "linux/arm64/v8.6", "linux/arm64", "linux/arm/v8"],
            ["linux/arm64/v8.7", "linux/arm64/v9.2"],
        ),
        ("linux/arm64/v7", [], ["linux/arm64/v7", "linux/arm64"]),
        ("linux/amd64", ["linux/amd64/v1", "linux/i386"], ["linux/amd64/v2", "windows/amd64", "linux/arm64"]),
        ("linux/amd64/v3", ["linux/amd64/v3", "linux/amd64/v2", "linux/amd64", "linux/386"], ["linux/amd64/v4"]),
        ("linux/riscv64", ["linux/riscv64"], ["linux/riscv64/x"]),
        ("windows(10.0.17763)/amd64", ["windows(10.0.17763.99)/amd64", "windows/amd64"], ["windows(10.0.17764)/amd64"]),
        ("windows(10.0.20348)/amd64", ["windows(10.0.20348)/amd64"], ["windows(10.0.17763)/amd64"]),
        ("windows(10.0.26100)/amd64", ["windows(10.0.26100)/amd64", "windows(10.0.20348)/amd64"], ["windows(10.0.26101)/amd64"]),
        ("windows/amd64", ["windows(10.0.1)/amd64", "windows(+win32k)/amd64"], ["windows(+other)/amd64"]),
    ],
)
def test_a_machine_takes_images_of_its_kind_and_older_and_the_nearest_first(
    want: str, accepted: list[str], refused: list[str]
) -> None:
    ranks = [preference(Platform.parse(want), Platform.parse(have)) for have in accepted]
    assert None not in ranks
    assert ranks == sorted(r for r in ranks if r is not None)
    assert [preference(Platform.parse(want), Platform.parse(have)) for have in refused] == [None] * len(refused)


def test_the_same_platform_is_an_exact_match_however_it_is_spelt() -> None:
    assert preference(Platform.parse("linux/aarch64"), Platform.parse("linux/arm64/v8")) == 0


_WORDS = st.sampled_from(
    (
        "linux", "macos", "Windows", "freebsd", "x86_64", "amd64", "aarch64", "arm64", "arm", "armhf", "armel", "i386", "386", "v8",
        "8", "v1", "v2", "v6", "v7", "7", "v8.0", "9", "v9.0", "foo", "s390x", "windows(10.0.1+b+a)", "windows(%25)", "x86-64-v2",
    )
)  # fmt: skip


@given(st.lists(_WORDS, min_size=1, max_size=3).map("/".join) | st.text(max_size=20))
def test_what_is_printed_is_read_back_and_normal_forms_are_fixed_points(text: str) -> None:
    try:
        platform = Platform.parse(text)
    except ValueError:
        return
    assert normalize(Platform.parse(str(platform))) == normalize(platform)
    assert normalize(normalize(platform)) == normalize(platform)
    printed = str(normalize(platform))
    assert str(normalize(Platform.parse(printed))) == printed


@given(st.builds(Platform, st.just("linux"), _WORDS, _WORDS), st.builds(Platform, st.just("linux"), _WORDS, _WORDS))
def test_matching_does_not_depend_on_the_spelling(want: Platform, have: Platform) -> None:
    assert preference(want, have) == preference(normalize(want), normalize(have))
