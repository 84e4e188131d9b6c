"""A build in the flags of each builder. Pure."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from builder.compare.types import BuildSpec, CompareError


def _each(flag: str, values: Sequence[str]) -> list[str]:
    return [f"--{flag}={value}" for value in values]


def _given(flag: str, value: str) -> list[str]:
    return [f"--{flag}={value}"] if value else []


def _common(spec: BuildSpec, no_cache: bool) -> list[str]:
    """What docker, buildah and pybuild spell alike."""
    return [
        *_each("file", [dockerfile(spec)]),
        *_given("target", spec.target),
        *_given("platform", spec.platform),
        *_each("build-arg", spec.build_args),
        *_each("build-context", spec.build_contexts),
        *_each("label", spec.labels),
        *_each("ulimit", spec.ulimits),
        *_each("secret", spec.secrets),
        *_each("ssh", spec.ssh),
        *_given("shm-size", spec.shm_size),
        *_given("cgroup-parent", spec.cgroup_parent),
        *(["--pull"] if spec.pull else []),
        *(["--no-cache"] if no_cache else []),
    ]


def dockerfile(spec: BuildSpec) -> str:
    """Always said: buildah would take a Containerfile first. In a URL's context the name is relative to it."""
    if spec.file or "://" in spec.context or spec.context.startswith("git@"):
        return spec.file or "Dockerfile"
    return os.path.join(spec.context, "Dockerfile")


def pybuild(spec: BuildSpec, tag: str, *, no_cache: bool) -> list[str]:
    return [
        *_common(spec, no_cache),
        *_each("add-host", spec.add_hosts),
        *_each("allow", spec.allow),
        *_given("network", spec.network),
        f"--tag={tag}",
        spec.context,
    ]


def docker(spec: BuildSpec, tag: str, *, no_cache: bool) -> list[str]:
    # pybuild's steps have the host's network unless told otherwise; a dockerd without a bridge has no other.
    hosts = [h.replace("=", ":", 1) for h in spec.add_hosts]  # clients before 24 know the colon only
    network = spec.network or "host"
    return [*_common(spec, no_cache), *_each("add-host", hosts), f"--network={network}", f"--tag={tag}", spec.context]


def buildah(spec: BuildSpec, tag: str, *, no_cache: bool) -> list[str]:
    return docker(spec, tag, no_cache=no_cache)


def buildctl(spec: BuildSpec, dest: str, environ: Mapping[str, str], *, no_cache: bool) -> list[str]:
    """``environ`` gives the values of build args that are named without one. CompareError for flags that buildctl lacks."""
    out = ["--frontend=dockerfile.v0", f"--output=type=oci,dest={dest}"]
    options = {"target": spec.target, "platform": spec.platform, "force-network-mode": spec.network or "host"}
    if "://" in spec.context:
        options |= {"context": spec.context, "filename": dockerfile(spec)}
        if spec.file and os.path.isfile(spec.file):
            raise CompareError("buildctl takes the Dockerfile from the context when that is a URL: -f can't name a file here")
    else:
        folder, name = os.path.split(dockerfile(spec))
        out += [f"--local=context={spec.context}", f"--local=dockerfile={folder or '.'}"]
        options["filename"] = name
    for text in spec.build_args:
        key, equals, value = text.partition("=")
        if equals or key in environ:
            options[f"build-arg:{key}"] = value if equals else environ[key]
    for text in spec.labels:
        key, _, value = text.partition("=")
        options[f"label:{key}"] = value
    for text in spec.build_contexts:
        key, _, value = text.partition("=")
        if "://" in value:
            options[f"context:{key}"] = value
        else:
            out.append(f"--local={key}={value}")
            options[f"context:{key}"] = f"local:{key}"
    options |= {
        "add-hosts": ",".join(h if "=" in h else h.replace(":", "=", 1) for h in spec.add_hosts),
        "ulimit": ",".join(spec.ulimits),
        "shm-size": spec.shm_size,
        "cgroup-parent": spec.cgroup_parent,
        "image-resolve-mode": "pull" if spec.pull else "",
    }
    out += [f"--opt={key}={value}" for key, value in options.items() if value or key.startswith(("build-arg:", "label:"))]
    out += [*_each("secret", spec.secrets), *_each("ssh", spec.ssh)]
    allow = dict.fromkeys((*spec.allow, *(() if spec.network else ("network.host",))))
    return [*out, *_each("allow", list(allow)), *(["--no-cache"] if no_cache else [])]
