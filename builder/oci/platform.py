"""Platforms: parsing, normal form and matching, by the rules of containerd's ``platforms`` package."""

from __future__ import annotations

from builder.values import dataclass

_OS = frozenset(
    (
        "aix", "android", "darwin", "dragonfly", "freebsd", "hurd", "illumos", "ios", "js", "linux", "nacl", "netbsd", "openbsd",
        "plan9", "solaris", "windows", "zos",
    )
)  # fmt: skip
_ARCH = frozenset(
    (
        "386", "amd64", "amd64p32", "arm", "armbe", "arm64", "arm64be", "loong64", "mips", "mipsle", "mips64", "mips64le",
        "mips64p32", "mips64p32le", "ppc", "ppc64", "ppc64le", "riscv", "riscv64", "s390", "s390x", "sparc", "sparc64", "wasm",
    )
)  # fmt: skip
_MACHINE = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386", "i386": "386"}


@dataclass(frozen=True, slots=True)
class Platform:
    """``os/architecture[/variant]``; ``os_version`` and ``os_features`` matter to windows images only."""

    os: str
    architecture: str
    variant: str = ""
    os_version: str = ""
    os_features: tuple[str, ...] = ()

    @classmethod
    def parse(cls, text: str) -> Platform:
        """``linux``, ``arm64``, ``linux/arm64``, ``linux/arm/v7`` and ``windows(10.0.17763)/amd64``; ValueError otherwise."""
        if not text or "*" in text:
            raise ValueError(f'"{text}": wildcards not yet supported' if text else "platform is empty")
        first, *rest = text.split("/")
        version = ""
        if "(" in first and first.endswith(")"):
            first, _, version = first[:-1].partition("(")
        parts = [first, *rest]
        for part in parts:
            if not part or not all((c.isascii() and c.isalnum()) or c in "_.-" for c in part):
                rule = 'platform specifier component must match "^[A-Za-z0-9_.-]+$"'
                raise ValueError(f'"{part}" is an invalid component of "{text}": {rule}: invalid argument')
        local = host()
        if len(parts) == 1:
            os = _normal_os(parts[0])
            if os in _OS:
                variant = "v7" if local.architecture == "arm" and not local.variant else local.variant
                return normalize(cls(os, local.architecture, variant, version))
            arch, variant = _normal_arch(parts[0], "")
            if arch not in _ARCH:
                raise ValueError(f'"{text}": unknown operating system or architecture: invalid argument')
            return cls(local.os, arch, variant, version)
        if len(parts) > 3:
            raise ValueError(f'"{text}": cannot parse platform specifier: invalid argument')
        arch, variant = _normal_arch(parts[1], parts[2] if len(parts) == 3 else "")
        if arch == "arm64" and not variant and len(parts) == 3:
            variant = "v8"
        return cls(_normal_os(parts[0]), arch, variant, version)

    def __str__(self) -> str:
        os = f"{self.os}({self.os_version})" if self.os_version else self.os
        return "/".join(p for p in (os, self.architecture, self.variant) if p)

    def matches(self, other: Platform) -> bool:
        """Can an image of platform ``other`` be taken where ``self`` is wanted? (one of the candidates of ``preference``)"""
        return preference(self, other) is not None


def normalize(p: Platform) -> Platform:
    """The canonical spelling: ``x86_64`` is amd64, ``arm64/v8`` is arm64, ``arm`` is arm/v7."""
    arch, variant = _normal_arch(p.architecture, p.variant)
    return Platform(_normal_os(p.os), arch, variant, p.os_version, p.os_features)


def preference(want: Platform, have: Platform) -> int | None:
    """How well ``have`` serves ``want``: 0 is exact, larger is worse, None is not at all.

    As containerd's ``platforms.Only``: arm/v7 accepts v6 and v5, arm64 accepts arm/v8 and below, amd64 accepts 386.
    """
    want, have = normalize(want), normalize(have)
    if want.os != have.os or (want.os_version and have.os_version and not have.os_version.startswith(want.os_version)):
        return None
    candidates = [(want.architecture, want.variant)]
    if want.architecture == "amd64":
        level = int(want.variant[1:]) if want.variant[1:].isdigit() else 1
        candidates += [("amd64", f"v{n}" if n > 1 else "") for n in range(level - 1, 0, -1)] + [("386", "")]
    elif want.architecture == "arm":
        level = int(want.variant[1:]) if want.variant[1:].isdigit() else 7
        candidates += [("arm", f"v{n}") for n in range(level - 1, 4, -1)]
    elif want.architecture == "arm64":
        candidates += [("arm64", "")] if want.variant else []
        candidates += [("arm", f"v{n}") for n in range(8, 4, -1)]
    pair = (have.architecture, have.variant)
    return candidates.index(pair) if pair in candidates else None


def host() -> Platform:
    """The platform this process runs on."""
    import os

    uname = os.uname()
    arch = _MACHINE.get(uname.machine, uname.machine)
    return Platform("linux", arch, {"armv7l": "v7", "armv6l": "v6"}.get(uname.machine, ""))


def _normal_os(os: str) -> str:
    os = os.lower()
    return "darwin" if os == "macos" else os


def _normal_arch(arch: str, variant: str) -> tuple[str, str]:
    arch, variant = arch.lower(), variant.lower()
    if arch in ("i386", "i686"):
        return "386", ""
    if arch in ("x86_64", "x86-64", "amd64"):
        return "amd64", "" if variant == "v1" else variant
    if arch in ("aarch64", "arm64"):
        return "arm64", "" if variant in ("8", "v8", "v8.0") else variant
    if arch == "armhf":
        return "arm", "v7"
    if arch == "armel":
        return "arm", "v6"
    if arch == "arm":
        return "arm", {"": "v7", "7": "v7", "5": "v5", "6": "v6", "8": "v8"}.get(variant, variant)
    return arch, variant
