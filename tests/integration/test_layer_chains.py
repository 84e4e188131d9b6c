"""Images of very many layers, and what the snapshotter has to do with them."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.test_determinism import FILES
from tests.support.cli import Pybuild, assert_refused
from tests.support.oci import Entry, layer_tar, read_image, write_layout

pytestmark = pytest.mark.integration

Context = Callable[[dict[str, str | bytes]], str]


def tall(folder: str, layers: int) -> str:
    """A shell, and a file more for each further layer, which also replaces the one that the layer before made."""
    binary = shutil.which("busybox")
    assert binary is not None
    shell = [
        Entry("bin", mode=0o755),
        Entry("bin/busybox", Path(binary).read_bytes(), 0o755),
        Entry("bin/sh", link="busybox", mode=0o777),
    ]
    rest = [layer_tar([Entry(f"f{n}", b"own"), Entry(f"f{n - 1}", b"replaced")]) for n in range(1, layers)]
    return write_layout(folder, [layer_tar(shell), *rest], {"Env": ["PATH=/bin"]})


@pytest.mark.parametrize("layers", [130, 500])
def test_a_step_sees_every_layer_of_a_tall_image(pybuild: Pybuild, context: Context, tmp_path: Path, layers: int) -> None:
    """130: more than Docker's limit of 127, and more than fit into the data of mount(2). 500: all that overlayfs can stack."""
    top = f"/f{layers - 1}"
    step = f"RUN busybox cat /f* | busybox wc -c > /bytes ; test $(busybox cat /f7 {top}) = replacedown"
    folder = context({"Dockerfile": f"FROM base\n{step}\nCOPY --link Dockerfile /d\n", "x": ""})
    base = ("--build-context", f"base=oci-layout://{tall(str(tmp_path / 'base'), layers)}")
    pybuild.ok(*base, "-o", f"type=oci,dest={tmp_path}/i.tar", folder)
    image = read_image(tmp_path / "i.tar")
    assert len(image.layers) == layers + 2
    assert image.files()["bytes"].text == f"{len('replaced') * (layers - 1) + len('own')}\n"
    if layers == 500:
        # One more is a clear error at the step that would need it mounted, and nowhere before: linked layers are never mounted.
        Path(folder, "Dockerfile").write_text(f"FROM base\n{step}\nCOPY --link Dockerfile /d\nRUN true\n")
        refused = pybuild(*base, "-o", "type=cacheonly", folder)
        assert_refused(
            refused, "RUN true", "502 layers are more than the 500 that overlayfs can stack", "hint: join RUN or COPY steps"
        )
        assert refused.ending("RUN busybox cat") == "CACHED"
        pybuild.fsck()


def test_every_snapshotter_makes_the_same_layers(
    new_root: Callable[[], Pybuild], context: Context, busybox_layout: str, tmp_path: Path
) -> None:
    """Times that a step does not set are those of the build; they are rewritten, all else is as it was made."""
    images = []
    for name in ("overlayfs", "native"):
        config = tmp_path / f"{name}.toml"
        config.write_text(f'[worker.oci]\n  snapshotter = "{name}"\n')
        out = tmp_path / f"{name}.tar"
        new_root().ok(
            "--build-context", f"base=oci-layout://{busybox_layout}", "-o", f"type=oci,dest={out},rewrite-timestamp=true",
            context(FILES), env={"SOURCE_DATE_EPOCH": "1700000000", "PYBUILD_CONFIG": str(config)},
        )  # fmt: skip
        images.append(out)
    assert read_image(images[0]).manifest == read_image(images[1]).manifest


def test_a_dockerfile_may_have_as_many_steps_as_layers_fit(
    pybuild: Pybuild, context: Context, busybox_layout: str, tmp_path: Path
) -> None:
    """300 RUN steps in stages that stand on one another, 2000 settings between them, and folders."""
    lines = ["FROM base AS s0"]
    for i in range(300):
        lines += [f"RUN echo {i} >> /count", *(f"ENV A{i}_{n}={n}" for n in range(7))]
        lines += [f"WORKDIR /w{i}"] * (i % 10 == 0) + [f"FROM s{i // 50} AS s{i // 50 + 1}"] * (i % 50 == 49)
    folder = context({"Dockerfile": "\n".join(lines)})
    base = ("--build-context", f"base=oci-layout://{busybox_layout}")
    for stage in range(7):
        done = pybuild.ok(*base, "--target", f"s{stage}", "-o", f"type=oci,dest={tmp_path}/i.tar", folder)
        assert len(done.not_cached()) == (55 if stage < 6 else 0)
    assert read_image(tmp_path / "i.tar").files()["count"].text == "".join(f"{i}\n" for i in range(300))


def test_a_plan_and_a_graph_of_thousands_of_steps(pybuild: Pybuild, context: Context) -> None:
    folder = context({"Dockerfile": "FROM scratch\n" + "".join(f"WORKDIR /w{i}\nENV A{i}={i}\n" for i in range(2000))})
    assert "2000 of 2000 steps would run" in pybuild("plan", folder).out
    assert pybuild.ok("graph", folder).out.count('"make_parents"') == 2000
