"""Whatever the text: a conversion gives a graph or a ``FrontendError``, and checks never fail."""

from __future__ import annotations

from hypothesis import HealthCheck, event, given, settings
from hypothesis import strategies as st

from builder import Failure
from builder.cli.report import failure_text
from builder.graph.vertex import Graph
from frontend.convert import ConvertOptions, ResolvedImageConfig, convert
from frontend.errors import FrontendError
from frontend.excerpt import excerpt
from frontend.requests import check, list_targets, outline
from tests.support.anyjson import spoilt

from .conftest import AMD64, World

_TEMPLATES = (
    "FROM {} AS b", "FROM a", "FROM --platform={} busybox", "ARG A={}", "ARG {}", "ENV A={} B={}", "LABEL {}={}", "RUN {}",
    "RUN --mount=type=cache,target={},uid=1 x", "RUN --mount=from={},target=/m x", "RUN --mount=type=secret,id={},env=E x",
    "RUN --mount=type=ssh,id={} x", "RUN <<E {}\nx\nE", "COPY {} {}", "COPY --from={} {} {}", "COPY --parents --exclude={} {} /",
    "COPY --link --chown={} --chmod={} a b", "COPY <<E {}\n$A\nE", "ADD {} {}", "ADD --checksum={} http://e.com/{} /", "WORKDIR {}",
    "USER {}", "EXPOSE {} {}", "VOLUME {}", "CMD {}", 'ENTRYPOINT ["{}"]', "HEALTHCHECK --retries=2 CMD {}", 'SHELL ["{}"]',
    "STOPSIGNAL {}", "ONBUILD RUN {}", "ONBUILD COPY --from={} {} /", "MAINTAINER {}", "# check=skip={}", "{}",
)  # fmt: skip
_WORDS = st.one_of(
    st.sampled_from(
        (
            "scratch", "busybox", "a", "b", "0", "1", "$A", "${A:-b}", "$A/$B", "/", ".", "a/./b", "1:2", "u+x", "755", "80/tcp",
            "1-9", "https://e.com/a.git#b", "http://e.com/f", "NONE", "SIGTERM", "**/[a-b]?", "/x/../y/", "A", "linux/arm64",
        )
    ),
    st.text("ab$\"'{}:/\\ <=[],-", max_size=6),
)  # fmt: skip


@st.composite
def lines(draw: st.DrawFn) -> str:
    """An instruction of the right form with words that may be wrong."""
    parts = draw(st.sampled_from(_TEMPLATES)).split("{}")
    return "".join(part + (draw(_WORDS) if number + 1 < len(parts) else "") for number, part in enumerate(parts))


_FILES = st.lists(lines(), max_size=7).map(lambda found: "\n".join(["FROM busybox AS a", *found, ""]))


class AnyImage(World):
    """Has every image."""

    def image_config(self, ref: str, platform: object, mode: str) -> ResolvedImageConfig:
        return ResolvedImageConfig(f"{ref.partition('@')[0]}@sha256:{'0' * 64}", b'{"os":"linux","architecture":"amd64"}')


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(_FILES, st.sampled_from(["", "a", "nothing"]))
def test_a_conversion_gives_a_graph_or_its_own_error(text: str, target: str) -> None:
    options = ConvertOptions(target=target, build_platform=AMD64, build_args={"A": "v"}, ignore=("a", "!b"))
    data = text.encode("utf-8", "surrogateescape")
    try:
        for found in convert(data, options, AnyImage()).targets:
            found.config.to_json()
            if found.edge is not None:
                Graph((found.edge,)).to_json()
    except FrontendError as e:
        event(type(e).__name__)
    result = check(data, options, AnyImage())
    assert result.text() or result.error_text()
    try:
        assert list_targets(data).text()
    except FrontendError:
        event("no list of targets")


@settings(max_examples=100, deadline=None)
@given(_FILES)
def test_the_same_text_gives_the_same_graph(text: str) -> None:
    def digest() -> str | None:
        try:
            edge = convert(text.encode(), ConvertOptions(build_platform=AMD64), AnyImage()).targets[0].edge
        except FrontendError:
            return None
        return edge.vertex.digest if edge is not None else ""

    assert digest() == digest()


_CONFIG = {
    "os": "linux", "architecture": "arm64", "variant": "v8", "created": "2026-08-21T15:29:35Z",
    "config": {
        "User": "u", "ExposedPorts": {"80/tcp": {}}, "Env": ["PATH=/bin", "A=b"], "Entrypoint": ["a"], "Cmd": ["b"],
        "Healthcheck": {"Test": ["CMD", "x"], "Interval": 1}, "Volumes": {"/v": {}}, "WorkingDir": "/w", "Labels": {"l": "m"},
        "OnBuild": ["RUN x", "COPY --from=a / /"], "Shell": ["/bin/sh"], "StopSignal": "9",
    },
    "rootfs": {"type": "layers", "diff_ids": ["sha256:" + "0" * 64]}, "history": [{"created_by": "x"}],
}  # fmt: skip


class OneImage(AnyImage):
    """Whose config is this one."""

    def __init__(self, config: bytes) -> None:
        super().__init__()
        self.config = config

    def image_config(self, ref: str, platform: object, mode: str) -> ResolvedImageConfig:
        return ResolvedImageConfig(f"{ref.partition('@')[0]}@sha256:{'0' * 64}", self.config)


@settings(max_examples=200, deadline=None)
@given(spoilt(_CONFIG))
def test_a_base_image_may_have_any_config(config: bytes) -> None:
    text = "FROM scratch AS a\nFROM base\nRUN x\nWORKDIR y\nUSER $A\nENV B=$A$PATH\nEXPOSE 1\nVOLUME /x\nLABEL a=b\nCMD x\n"
    error = ""
    try:
        convert(text.encode(), ConvertOptions(build_platform=AMD64), OneImage(config)).targets[0].config.to_json()
    except FrontendError as e:
        error = str(e)
    event(error[:40])
    assert "\n" not in error


_ENCODINGS = st.sampled_from(("utf-16", "utf-16-be", "utf-32", "latin-1"))
_BYTES = st.one_of(
    st.binary(max_size=120),
    st.binary(max_size=60).map(lambda data: b"FROM busybox\nENV A=" + data),
    st.builds(lambda t, e: t.encode(e, "replace"), st.text(max_size=60), _ENCODINGS),
)


@settings(max_examples=200, deadline=None)
@given(_BYTES)
def test_any_bytes_are_a_dockerfile_or_refused(data: bytes) -> None:
    """By all doors; the display of the error and its excerpt can be written, whatever it quotes."""
    options = ConvertOptions(build_platform=AMD64)
    shown = ""
    for ask in (
        lambda: convert(data, options, AnyImage()),
        lambda: list_targets(data),
        lambda: outline(data, options, AnyImage()),
        lambda: check(data, options, AnyImage()).error_text(),
    ):
        try:
            ask()
        except FrontendError as e:
            shown += str(e) + excerpt("Dockerfile", data, e.ranges)
    assert failure_text(Failure(shown)).encode()
