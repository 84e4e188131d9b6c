"""Image configs while they are made."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from builder.oci.image import ContainerConfig, ImageConfig
from builder.oci.platform import normalize
from builder.values import replace

if TYPE_CHECKING:
    from builder.oci.platform import Platform

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def empty_image(platform: Platform) -> ImageConfig:
    """What FROM scratch starts with."""
    env = () if platform.os == "windows" else (f"PATH={DEFAULT_PATH}",)
    return ImageConfig(platform, ContainerConfig(env=env, working_dir="/"))


def default_shell(os: str) -> tuple[str, ...]:
    return ("cmd", "/S", "/C") if os == "windows" else ("/bin/sh", "-c")


def with_shell(image: ImageConfig, args: tuple[str, ...]) -> tuple[str, ...]:
    """The command line of a shell form."""
    return (*(image.config.shell or default_shell(image.platform.os)), " ".join(args))


def env_of(image: ImageConfig) -> list[tuple[str, str]]:
    """``Env`` as pairs; a name without ``=`` has an empty value."""
    pairs = (entry.partition("=") for entry in image.config.env)
    return [(name, value) for name, _, value in pairs]


def set_env(env: tuple[str, ...], name: str, value: str) -> tuple[str, ...]:
    """``Env`` with ``name`` set in its place, or at the end."""
    entry = f"{name}={value}"
    for index, old in enumerate(env):
        if old.partition("=")[0] == name:
            return (*env[:index], entry, *env[index + 1 :])
    return (*env, entry)


def set_labels(labels: tuple[tuple[str, str], ...], more: Mapping[str, str]) -> tuple[tuple[str, str], ...]:
    return tuple(sorted({**dict(labels), **more}.items()))


def for_platform(image: ImageConfig, asked: Platform | None) -> ImageConfig:
    """The platform fields of a result: those of ``asked`` where a platform was asked for, those of the base image where not."""
    have = image.platform
    if asked is not None:
        same = (asked.os, asked.architecture) == (have.os, have.architecture)
        have = replace(
            have,
            os=asked.os,
            architecture=asked.architecture,
            variant=asked.variant if asked.variant or not same else have.variant,
            os_version=asked.os_version if asked.os_version or not same else have.os_version,
            os_features=asked.os_features or have.os_features,
        )
    return replace(image, platform=normalize(have))
