"""Image configs while they are made."""

from __future__ import annotations

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


def with_shell(config: ContainerConfig, os: str, args: tuple[str, ...]) -> tuple[str, ...]:
    """The command line of a shell form, in an image of ``os``."""
    return (*(config.shell or default_shell(os)), " ".join(args))


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
