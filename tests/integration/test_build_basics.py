"""From a Dockerfile to an image: what the language says is what is in the image."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.support.cli import Pybuild
from tests.support.oci import Image, read_image

pytestmark = pytest.mark.integration

Context = Callable[[dict[str, str | bytes]], str]


@pytest.fixture
def built(pybuild: Pybuild, context: Context, busybox: str, tmp_path: Path) -> Callable[..., Image]:
    """Build a Dockerfile (``BASE`` stands for the base image) and read the image back."""

    def build(dockerfile: str, files: dict[str, str | bytes] | None = None, *flags: str) -> Image:
        folder = context({"Dockerfile": dockerfile.replace("BASE", busybox), **(files or {})})
        out = tmp_path / "image.tar"
        pybuild.ok(*flags, "--output", f"type=oci,dest={out}", folder)
        return read_image(out)

    return build


def test_run_and_copy_make_layers_on_the_base(built: Callable[..., Image]) -> None:
    image = built("FROM BASE\nCOPY hello.txt /srv/\nRUN tr a-z A-Z < /srv/hello.txt > /srv/loud.txt\n", {"hello.txt": "hello\n"})
    files = image.files()
    assert len(image.layers) == 5
    assert files["srv/loud.txt"].text == "HELLO\n"
    assert files["etc/motd"].text == "hello from the base\n"
    assert "etc/gone" not in files, "a whiteout of the base"
    assert image.env["FROM_BASE"] == "yes"


def test_a_step_changes_only_what_it_changes(built: Callable[..., Image]) -> None:
    image = built("FROM BASE\nRUN rm /etc/motd && echo one > /one && ln /one /two && ln -s one /three && chown app:app /one\n")
    files = image.files()
    assert "etc/motd" not in files
    assert (files["one"].text, files["one"].owner) == ("one\n", (1000, 1001))
    assert files["two"].text == "one\n"
    assert files["three"].info.linkname == "one"
    assert "bin/busybox" not in _members(image.layers[-1]), "what a step did not touch is not in its layer"


def test_the_layer_of_a_step_has_the_folders_that_the_way_to_its_working_folder_goes_through(built: Callable[..., Image]) -> None:
    image = built("FROM BASE\nWORKDIR /w/../y\nRUN pwd > /where\n")
    assert image.files()["where"].text == "/y\n"
    assert [_folders(layer) - {"."} for layer in image.layers[-2:]] == [{"y"}, {"w"}]


def _folders(layer: bytes) -> set[str]:
    with tarfile.open(fileobj=io.BytesIO(layer)) as tar:
        return {member.name for member in tar if member.isdir()}


def _members(layer: bytes) -> set[str]:
    from tests.support.oci import tar_files

    return set(tar_files(layer))


def test_a_stage_gives_files_to_another(built: Callable[..., Image]) -> None:
    image = built(
        """
        FROM BASE AS tool
        RUN mkdir /out && echo made > /out/file && echo secret > /scratchpad
        FROM scratch
        COPY --from=tool /out/file /file
        COPY --from=0 --chown=7:8 --chmod=640 /out /folder
        """.replace("        ", "")
    )
    files = image.files()
    assert files["file"].text == "made\n"
    assert (files["folder/file"].owner, files["folder/file"].mode) == ((7, 8), 0o640)
    assert set(files) == {"file", "folder", "folder/file"}, "nothing else of the stage"


def test_copy_from_another_image(built: Callable[..., Image]) -> None:
    image = built("FROM scratch\nCOPY --from=BASE /etc/motd /motd\n")
    assert image.files()["motd"].text == "hello from the base\n"


def test_args_expand_and_env_stays(built: Callable[..., Image]) -> None:
    dockerfile = """
ARG TAG=unset
FROM BASE
ARG GREETING=hello
ARG TAG
ENV WORD=${GREETING}-${TAG:+tagged} LATER=$WORD
ARG UNUSED=x
LABEL by=$GREETING
WORKDIR /work/$GREETING
RUN echo "$GREETING $WORD $LATER $(pwd)" > out
"""
    image = built(dockerfile, None, "--build-arg", "GREETING=hi", "--build-arg", "TAG=7", "--label", "via=flag")
    assert image.files()["work/hi/out"].text == "hi hi-tagged  /work/hi\n"
    assert image.env["WORD"] == "hi-tagged"
    assert "GREETING" not in image.env
    assert image.settings["Labels"] == {"by": "hi", "via": "flag"}
    assert image.settings["WorkingDir"] == "/work/hi"


def test_settings_of_the_image(built: Callable[..., Image]) -> None:
    settings = built(
        """FROM BASE
USER app
EXPOSE 80 53/udp
VOLUME /data
STOPSIGNAL SIGINT
SHELL ["/bin/sh", "-ec"]
HEALTHCHECK --interval=5s CMD true
ENTRYPOINT ["/bin/echo", "a b"]
CMD echo hi
"""
    ).settings
    assert settings["User"] == "app"
    assert settings["ExposedPorts"] == {"80/tcp": {}, "53/udp": {}}
    assert settings["Volumes"] == {"/data": {}}
    assert settings["StopSignal"] == "SIGINT"
    assert settings["Healthcheck"] == {"Test": ["CMD-SHELL", "true"], "Interval": 5_000_000_000}
    assert settings["Entrypoint"] == ["/bin/echo", "a b"]
    assert settings["Cmd"] == ["/bin/sh", "-ec", "echo hi"]


def test_run_sees_user_workdir_and_shell(built: Callable[..., Image]) -> None:
    image = built(
        """FROM BASE
RUN mkdir -m 777 /w
WORKDIR /w
USER app
RUN echo "$(id -u):$(id -g) $HOME $(pwd)" > shell
RUN ["/bin/sh", "-c", "echo $0 > exec", "zero"]
SHELL ["/bin/sh", "-c", "echo wrapped > shelled; eval \\"$0\\""]
RUN echo ran > ran
"""
    )
    files = image.files()
    assert files["w/shell"].text == "1000:1001 /home/app /w\n"
    assert files["w/exec"].text == "zero\n"
    assert (files["w/shelled"].text, files["w/ran"].text) == ("wrapped\n", "ran\n")
    assert files["w/shell"].owner == (1000, 1001)


def test_heredocs(built: Callable[..., Image]) -> None:
    image = built(
        """FROM BASE
ARG NAME=world
RUN <<EOT
set -e
echo "one $NAME" > /one
echo two > /two
EOT
RUN <<-"EOT" sh -x
	echo "$0 literal" > /three
	EOT
COPY <<expanded <<"verbatim" /files/
hello $NAME
expanded
hello $NAME
verbatim
COPY --chmod=755 <<EOT /run.sh
#!/bin/sh
exec echo hi
EOT
"""
    )
    files = image.files()
    assert (files["one"].text, files["two"].text) == ("one world\n", "two\n")
    assert files["three"].text == "sh literal\n"
    assert files["files/expanded"].text == "hello world\n"
    assert files["files/verbatim"].text == "hello $NAME\n"
    assert files["run.sh"].mode == 0o755


def test_dockerignore_hides_files_from_copy(built: Callable[..., Image]) -> None:
    files = {
        ".dockerignore": "# comment\n*.log\n!keep.log\nsecret\n**/deep\n",
        "a.txt": "a",
        "b.log": "b",
        "keep.log": "k",
        "secret/key": "s",
        "x/deep/y": "y",
        "x/z": "z",
    }
    image = built("FROM scratch\nCOPY . /c/\n", files)
    regular = {p for p, f in image.files().items() if f.info.isfile()}
    assert regular == {"c/.dockerignore", "c/Dockerfile", "c/a.txt", "c/keep.log", "c/x/z"}


def test_copy_wildcards_folders_and_owners(built: Callable[..., Image]) -> None:
    image = built(
        "FROM BASE\nCOPY *.txt sub/ /all/\nCOPY --chown=app sub /owned\nCOPY --chmod=u=rwx,go=rx a.txt /new/name\n",
        {"a.txt": "a", "b.txt": "b", "c.md": "c", "sub/inner/d": "d"},
    )
    files = image.files()
    assert {p for p, f in files.items() if p.startswith("all/") and f.info.isfile()} == {"all/a.txt", "all/b.txt", "all/inner/d"}
    assert files["owned/inner/d"].owner == (1000, 1001)
    assert files["new/name"].mode == 0o755
    assert files["a.txt" if "a.txt" in files else "all/a.txt"].owner == (0, 0)


def test_add_unpacks_a_local_archive(built: Callable[..., Image], tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "inside").write_text("from the archive\n")
    archive = shutil.make_archive(str(tmp_path / "a"), "gztar", tmp_path / "src")
    image = built("FROM scratch\nADD a.tar.gz /unpacked/\nCOPY a.tar.gz /copied\n", {"a.tar.gz": Path(archive).read_bytes()})
    files = image.files()
    assert files["unpacked/inside"].text == "from the archive\n"
    assert files["copied"].data == Path(archive).read_bytes()


def test_target_builds_only_what_it_needs(pybuild: Pybuild, context: Context, busybox: str, tmp_path: Path) -> None:
    folder = context(
        {
            "Dockerfile": f"FROM {busybox} AS base\nRUN echo base > /base\n"
            "FROM base AS wanted\nRUN echo wanted > /wanted\n"
            "FROM 127.0.0.1:1/never/pulled AS other\nRUN false\n"
        }
    )
    done = pybuild.ok("--target", "wanted", "--output", f"type=oci,dest={tmp_path}/i.tar", folder)
    assert set(read_image(tmp_path / "i.tar").files()) >= {"base", "wanted"}
    assert not any("other" in name or "127.0.0.1:1/" in name for name in done.steps())


def test_mounts_of_run_leave_nothing_in_the_image(built: Callable[..., Image], tmp_path: Path) -> None:
    secret = tmp_path / "token"
    secret.write_text("s3cret")
    image = built(
        """FROM BASE AS data
RUN mkdir /d && echo data > /d/file
FROM BASE
RUN --mount=type=bind,from=data,source=/d,target=/mnt/d --mount=type=tmpfs,target=/mnt/t \\
    --mount=type=secret,id=token --mount=type=cache,target=/mnt/c \\
    cat /mnt/d/file > /seen && wc -c < /run/secrets/token >> /seen && touch /mnt/t/x /mnt/c/x
""",
        None,
        "--secret",
        f"id=token,src={secret}",
    )
    files = image.files()
    assert files["seen"].text == "data\n6\n"
    assert not [p for p in files if p.startswith(("mnt/d/", "mnt/t/", "mnt/c/", "run/secrets/"))]
    assert b"s3cret" not in b"".join(image.layers)


# ------------------------------------------------------------------------------------------------ outputs
DOCKERFILE = "FROM {base}\nCOPY f /f\nRUN echo out > /made\n"


def test_oci_folder_has_the_same_image_as_the_archive(pybuild: Pybuild, context: Context, busybox: str, tmp_path: Path) -> None:
    folder = context({"Dockerfile": DOCKERFILE.format(base=busybox), "f": "f"})
    pybuild.ok("-o", f"type=oci,dest={tmp_path}/i.tar", "-o", f"type=oci,tar=false,dest={tmp_path}/layout", folder)
    assert read_image(tmp_path / "layout") == read_image(tmp_path / "i.tar")


def test_local_output_is_the_tree(pybuild: Pybuild, context: Context, busybox: str, tmp_path: Path) -> None:
    folder = context({"Dockerfile": f"FROM {busybox} AS b\nRUN echo x > /x\nFROM scratch\nCOPY --from=b /x /d/x\n"})
    pybuild.ok("-o", str(tmp_path / "tree"), folder)
    assert [(d.removeprefix(str(tmp_path)), f) for d, _, f in os.walk(tmp_path / "tree")] == [("/tree", []), ("/tree/d", ["x"])]
    assert (tmp_path / "tree/d/x").read_text() == "x\n"


def test_tar_output_is_the_tree_in_a_tar(pybuild: Pybuild, context: Context, busybox: str, tmp_path: Path) -> None:
    from tests.support.oci import tar_files

    folder = context({"Dockerfile": f"FROM {busybox} AS b\nRUN echo x > /x\nFROM scratch\nCOPY --from=b /x /d/x\n"})
    pybuild.ok("-o", f"type=tar,dest={tmp_path}/t.tar", folder)
    files = tar_files((tmp_path / "t.tar").read_bytes())
    assert files["d/x"].text == "x\n"
    assert set(files) == {"d", "d/x"}


def test_cacheonly_builds_and_stores_no_image(pybuild: Pybuild, context: Context, busybox: str) -> None:
    folder = context({"Dockerfile": DOCKERFILE.format(base=busybox), "f": "f"})
    done = pybuild.ok("-o", "type=cacheonly", folder)
    assert done.ending("RUN echo out").startswith("DONE")
    assert pybuild.ok("images", "-q").out.strip() == ""


def test_the_same_image_by_way_of_every_output(pybuild: Pybuild, context: Context, busybox: str, tmp_path: Path) -> None:
    folder = context({"Dockerfile": DOCKERFILE.format(base=busybox), "f": "f"})
    pybuild.ok("-t", "app", "--iidfile", f"{tmp_path}/iid", "--metadata-file", f"{tmp_path}/meta", folder)
    pybuild.ok("-o", f"type=oci,dest={tmp_path}/i.tar", folder)
    pybuild.ok("save", "--format", "oci", "-o", f"{tmp_path}/saved.tar", "app")
    exported, saved = read_image(tmp_path / "i.tar"), read_image(tmp_path / "saved.tar")
    assert exported == saved
    meta = json.loads((tmp_path / "meta").read_text())
    assert (tmp_path / "iid").read_text() == exported.manifest["config"]["digest"] == meta["containerimage.config.digest"]


# ------------------------------------------------------------------------------------------------ own image store
def test_own_images_are_listed_and_usable_by_from(pybuild: Pybuild, context: Context, busybox: str, tmp_path: Path) -> None:
    pybuild.ok("-t", "team/first", "-t", "first:v2", context({"Dockerfile": f"FROM {busybox}\nRUN echo first > /first\n"}))
    listing = pybuild.ok("images").out
    assert "team/first" in listing
    assert "v2" in listing
    rows = [json.loads(line) for line in pybuild.ok("images", "--json").out.splitlines()]
    assert len(rows) == 2
    assert len({row["digest"] for row in rows}) == 1
    # No registry knows team/first: only the own store can give it.
    pybuild.ok("-o", f"type=oci,dest={tmp_path}/i.tar", context({"Dockerfile": "FROM team/first\nRUN cat /first > /second\n"}))
    image = read_image(tmp_path / "i.tar")
    assert image.files()["second"].text == "first\n"
    assert image.env["FROM_BASE"] == "yes"


def test_removed_images_are_gone(pybuild: Pybuild, context: Context) -> None:
    pybuild.ok("-t", "one", context({"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"}))
    pybuild.ok("rmi", "one")
    assert pybuild.ok("images", "-q").out.strip() == ""
    pybuild.ok("prune", "--all", "--force")
    pybuild.fsck()


# ------------------------------------------------------------------------------------------------ contexts
def test_named_context_takes_the_place_of_an_image(pybuild: Pybuild, context: Context, busybox_layout: str, tmp_path: Path) -> None:
    folder = context({"Dockerfile": "FROM base\nCOPY --from=more /m /m\nRUN cat /m /etc/motd > /both\n"})
    more = context({"m": "more\n"})
    out = f"type=oci,dest={tmp_path}/i.tar"
    pybuild.ok("--build-context", f"base=oci-layout://{busybox_layout}", "--build-context", f"more={more}", "-o", out, folder)
    assert read_image(tmp_path / "i.tar").files()["both"].text == "more\nhello from the base\n"


def test_dockerfile_from_standard_input(pybuild: Pybuild, context: Context, tmp_path: Path) -> None:
    out = f"type=oci,dest={tmp_path}/i.tar"
    pybuild.ok("-f", "-", "-o", out, context({"f": "f"}), input="FROM scratch\nCOPY f /g\n")
    assert set(read_image(tmp_path / "i.tar").files()) == {"g"}
    pybuild.ok("-o", out, "-", input="FROM scratch\nCOPY <<EOT /h\nx\nEOT\n")
    assert set(read_image(tmp_path / "i.tar").files()) == {"h"}


def test_build_is_an_explicit_command_too(pybuild: Pybuild, context: Context) -> None:
    folder = context({"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})
    implicit, explicit = pybuild.ok("-q", folder), pybuild.ok("build", "-q", folder)
    assert implicit.out == explicit.out
    assert implicit.out.startswith("sha256:")


# ------------------------------------------------------------------------------------------------ graph
def test_graph_is_json_and_dot(pybuild: Pybuild, context: Context, busybox: str) -> None:
    folder = context({"Dockerfile": f"FROM {busybox} AS one\nRUN echo x > /x\nFROM scratch\nCOPY --from=one /x /\n"})
    as_json = pybuild.ok("graph", folder)
    document = json.loads(as_json.out)
    assert "busybox" in json.dumps(document)
    assert as_json.out == pybuild.ok("graph", folder).out, "the same graph is the same text"
    dot = pybuild.ok("graph", "--format", "dot", folder).out
    assert dot.startswith("digraph")
    assert "RUN echo x" in dot


@pytest.mark.parametrize("runtime", ["runc", "crun", "bwrap"])
def test_every_runtime_makes_the_same_layers(
    pybuild: Pybuild, context: Context, busybox: str, tmp_path: Path, runtime: str
) -> None:
    if shutil.which(runtime) is None:
        pytest.skip(f"{runtime} is not installed")
    folder = context({"Dockerfile": f"FROM {busybox}\nRUN echo hi > /hi && touch -d @0 /hi && touch -d @0 /\n"})
    pybuild.ok("--runtime", runtime, "-o", f"type=oci,dest={tmp_path}/i.tar", folder)
    layer = read_image(tmp_path / "i.tar").layers[-1]
    assert _members(layer) - {""} == {"hi"}, "no mount point and no file of the sandbox is left in the layer"


def test_the_metadata_has_the_descriptor_that_the_archive_lists(
    pybuild: Pybuild, context: Context, busybox: str, tmp_path: Path
) -> None:
    """With the time at which it was made, and the annotations that are for it; an image of the store has no such time."""
    folder = context({"Dockerfile": f"FROM {busybox}\nRUN true\n"})
    output = f"type=oci,tar=false,dest={tmp_path}/layout,annotation-manifest-descriptor.a=b"
    epoch: dict[str, str | None] = {"SOURCE_DATE_EPOCH": "1700000000"}
    pybuild.ok("-o", output, "--metadata-file", f"{tmp_path}/meta", folder, env=epoch)
    descriptor = json.loads((tmp_path / "meta").read_text())["containerimage.descriptor"]
    assert descriptor["annotations"] == {"a": "b", "org.opencontainers.image.created": "2023-11-14T22:13:20Z"}
    assert json.loads((tmp_path / "layout/index.json").read_text())["manifests"] == [descriptor]
    pybuild.ok("-t", "app", "--metadata-file", f"{tmp_path}/meta", folder, env=epoch)
    assert "annotations" not in json.loads((tmp_path / "meta").read_text())["containerimage.descriptor"]
