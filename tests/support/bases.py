"""Base images made on the spot: busybox out of one static binary, and a Debian (or Ubuntu) of the host's own release."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile

from tests.support.oci import Entry, layer_tar, write_layout

_PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def busybox_layout(folder: str) -> str:
    """Three layers: the tools; accounts; one that takes a file of the first away again and adds /etc/motd.

    So that whatever builds on it has unpacked several layers, with a whiteout, in the right order.
    """
    binary = shutil.which("busybox")
    assert binary is not None, "busybox-static is not installed"
    with open(binary, "rb") as f:
        program = f.read()
    names = subprocess.run([binary, "--list"], capture_output=True, check=True, text=True).stdout.split()
    tools = [Entry("bin"), Entry("bin/busybox", program, 0o755), Entry("etc"), Entry("etc/gone", b"no image has this\n")]
    tools = [Entry(e.path, e.data, 0o755) if e.data is None else e for e in tools]
    tools += [Entry(f"bin/{name}", link="busybox", mode=0o777) for name in names if name != "busybox"]
    tools += [Entry("tmp", mode=0o1777), Entry("root", mode=0o700), *(Entry(n, mode=0o755) for n in ("var", "dev", "proc", "sys"))]
    accounts = [
        Entry("etc", mode=0o755),
        Entry("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001:An App:/home/app:/bin/sh\n"),
        Entry("etc/group", b"root:x:0:\napp:x:1001:\n"),
    ]
    last = [Entry("etc", mode=0o755), Entry("etc/.wh.gone", b""), Entry("etc/motd", b"hello from the base\n")]
    config = {"Env": ["PATH=/bin", "FROM_BASE=yes"], "Cmd": ["sh"], "WorkingDir": "/"}
    return write_layout(folder, [layer_tar(tools), layer_tar(accounts), layer_tar(last)], config)


def debian_layout(folder: str) -> str:
    """A minimal system of the host's release, with the host's package registries and certificates as they are."""
    release = _os_release()
    archive = folder + ".tar"
    sources = [p for p in ("/etc/apt/sources.list", f"/etc/apt/sources.list.d/{release['ID']}.sources") if _has_sources(p)]
    command = ["mmdebstrap", "--mode=root", "--variant=apt", "--include=ca-certificates", "--dpkgopt=force-unsafe-io"]
    command += [f"--dpkgopt=path-exclude=/usr/share/{part}/*" for part in ("doc", "man", "locale", "info")]
    for name in ("/etc/apt/apt.conf.d/99artifact-registry", "/etc/pip.conf", "/etc/ssl/certs/ca-certificates.crt"):
        if os.path.exists(name):
            if name.startswith("/etc/apt/"):
                command.append(f"--aptopt={name}")
            command.append(f"--customize-hook=copy-in {name} {os.path.dirname(name)}")
    # On a tmpfs that goes with the command: thousands of small files are made, packed and thrown away.
    os.makedirs(folder + ".tmp")
    on_tmpfs = 'mount -t tmpfs -o mode=1777 tmpfs "$TMPDIR" && exec "$@"'
    command = ["unshare", "--mount", "sh", "-c", on_tmpfs, "sh", *command, release["VERSION_CODENAME"], archive, *sources]
    environment = {**os.environ, "TMPDIR": folder + ".tmp"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode == 0, f"mmdebstrap: {done.stderr[-3000:]}"
    os.rmdir(folder + ".tmp")
    with open(archive, "rb") as f:
        layer = f.read()
    os.unlink(archive)
    return write_layout(folder, [layer], {"Env": [_PATH], "Cmd": ["bash"]})


_APT = """APT::Architecture "{architecture}";
APT::Architectures "{architecture}";
Dir::State::lists "{folder}/lists";
Dir::State::status "{folder}/status";
Dir::Cache "{folder}/cache";
Acquire::Languages "none";
APT::Sandbox::User "root";
"""


def foreign_layout(folder: str, architecture: str) -> str:
    """A busybox of another machine, out of its Debian package. ``architecture`` is Debian's and Go's name; what apt knows of this
    machine's packages stays as it is."""
    with tempfile.TemporaryDirectory() as work:
        for name in ("lists/partial", "cache/archives/partial"):
            os.makedirs(f"{work}/{name}")
        for name, text in (("status", ""), ("apt.conf", _APT.format(architecture=architecture, folder=work))):
            with open(f"{work}/{name}", "w", encoding="utf-8") as f:
                f.write(text)
        environment = {**os.environ, "APT_CONFIG": f"{work}/apt.conf"}
        for command in (["apt-get", "-q", "update"], ["apt-get", "-q", "download", "busybox-static"]):
            done = subprocess.run(command, env=environment, cwd=work, capture_output=True, text=True, timeout=120, check=False)
            assert done.returncode == 0, f"{' '.join(command)}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
        (package,) = (name for name in os.listdir(work) if name.endswith(".deb"))
        run_tool("dpkg-deb", "-x", f"{work}/{package}", f"{work}/files")
        with open(f"{work}/files/bin/busybox", "rb") as program:
            data = program.read()
    tools = [Entry("bin", mode=0o755), Entry("bin/busybox", data, 0o755), Entry("tmp", mode=0o1777), Entry("etc", mode=0o755)]
    names = subprocess.run(["busybox", "--list"], capture_output=True, check=True, text=True).stdout.split()
    tools += [Entry(f"bin/{name}", link="busybox", mode=0o777) for name in names if name != "busybox"]
    accounts = [Entry("etc", mode=0o755), Entry("etc/passwd", b"root:x:0:0:root:/root:/bin/sh\napp:x:1000:1001::/:/bin/sh\n")]
    return write_layout(folder, [layer_tar(tools), layer_tar(accounts)], {"Env": ["PATH=/bin"]}, architecture=architecture)


def push(layout: str, reference: str) -> str:
    """Copy a layout's image to a registry on loopback, by skopeo; gives ``reference``."""
    run_tool("skopeo", "--insecure-policy", "copy", "--dest-tls-verify=false", f"oci:{layout}:latest", f"docker://{reference}")
    return reference


def run_tool(*command: str, cwd: str | None = None) -> str:
    """A foreign tool's standard output; it has to succeed."""
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, cwd=cwd)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr}"
    return done.stdout


def _os_release() -> dict[str, str]:
    with open("/etc/os-release", encoding="utf-8") as f:
        return {k: v.strip('"') for k, _, v in (line.strip().partition("=") for line in f) if k}


def _has_sources(path: str) -> bool:
    try:
        with open(path, encoding="utf-8") as f:
            return any(line.startswith(("deb ", "deb[", "Types:")) for line in f)
    except FileNotFoundError:
        return False
