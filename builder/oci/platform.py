"""Platforms: parsing, printing, normal form and matching, by the rules of containerd's ``platforms`` package.

``Platform.parse`` keeps what was written where containerd keeps it (``linux/arm64/v8`` has its variant, ``linux/arm`` none);
``normalize`` gives the one spelling by which platforms are compared, keyed and shown.
"""

from __future__ import annotations

from builder.text.quoting import quote
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
_MACHINE = {"x86_64": "amd64", "aarch64": "arm64", "i686": "386", "i586": "386", "i386": "386", "loongarch64": "loong64"}
_ALIASES = {"x86_64": "amd64", "x86-64": "amd64", "aarch64": "arm64"}
_VARIANTS = {
    "amd64": {"v1": ""},
    "arm64": {"8": "", "v8": "", "v8.0": "", "9": "v9", "9.0": "v9", "v9.0": "v9"},
    "arm": {"": "v7", "7": "v7", "5": "v5", "6": "v6", "8": "v8"},
}
_ARM64_MINORS = {"v8": "0123456789", "v9": "01234567"}
_WORD = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-")
_SPECIFIER = _WORD | {"."}
_OPTION = _SPECIFIER | {"%"}
_OS_RULE = r"^([A-Za-z0-9_-]+)(?:\(([A-Za-z0-9_.%-]*)((?:\+[A-Za-z0-9_.%-]+)*)\))?$"
_ESCAPES = (("%", "%25"), ("+", "%2B"), ("(", "%28"), (")", "%29"), ("/", "%2F"))
_MAX_FEATURES = 64


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
        """``linux``, ``arm64``, ``linux/arm64``, ``linux/arm/v6``, ``windows(10.0.17763+win32k)/amd64``; ValueError otherwise."""
        if "*" in text:
            raise ValueError(f"{quote(text)}: wildcards not yet supported: invalid argument")
        first, *rest = text.split("/", 3)
        os, version, features = _parse_os(first, text)
        for part in rest:
            if not part or not _SPECIFIER.issuperset(part):
                rule = f"platform specifier component must match {quote('^[A-Za-z0-9_.-]+$')}"
                raise ValueError(f"{quote(part)} is an invalid component of {quote(text)}: {rule}: invalid argument")
        if not rest:
            return _parse_single(first, cls(os, "", "", version, features), text)
        if len(rest) > 2:
            raise ValueError(f"{quote(text)}: cannot parse platform specifier: invalid argument")
        arch, variant = _normal_arch(rest[0], rest[1] if len(rest) == 2 else "")
        if len(rest) == 1 and (arch, variant) == ("arm", "v7"):
            variant = ""
        if len(rest) == 2 and (arch, variant) == ("arm64", ""):
            variant = "v8"
        return cls(os, arch, variant, version, features)

    def __str__(self) -> str:
        """As ``parse`` reads it; ``unknown`` without an operating system."""
        if not self.os:
            return "unknown"
        features = "".join("+" + _escaped(f) for f in sorted(set(self.os_features)) if f)
        options = _escaped(self.os_version) + features
        return "/".join(p for p in (f"{self.os}({options})" if options else self.os, self.architecture, self.variant) if p)

    def matches(self, other: Platform) -> bool:
        """Can an image of platform ``other`` be taken where ``self`` is wanted? (one of the candidates of ``preference``)"""
        return preference(self, other) is not None


def normalize(p: Platform) -> Platform:
    """The canonical spelling: ``x86_64`` is amd64, ``arm64/v8`` is arm64, ``arm`` is arm/v7."""
    arch, variant = _normal_arch(p.architecture, p.variant)
    return Platform(_normal_os(p.os), arch, variant, p.os_version, tuple(sorted(set(p.os_features))))


def preference(want: Platform, have: Platform) -> int | None:
    """How well ``have`` serves ``want``: 0 is exact, larger is worse, None is not at all.

    As containerd's ``platforms.Only``: arm/v7 accepts v6 and v5, arm64/v9 accepts v8.5 and below, arm64 accepts arm/v8 and below,
    amd64/v3 accepts v2, amd64 accepts 386. Of two of one kind the one with more features goes first.
    """
    want, have = normalize(want), normalize(have)
    if want.os != have.os:
        return None
    features = set(have.os_features)
    if want.os == "windows":
        features.discard("win32k")
        if not _windows_version_serves(want.os_version, have.os_version):
            return None
    candidates = _candidates(want.architecture, want.variant)
    pair = (have.architecture, have.variant)
    if pair not in candidates or not features <= set(want.os_features):
        return None
    return candidates.index(pair) * _MAX_FEATURES + min(len(want.os_features) - len(features), _MAX_FEATURES - 1)


def host() -> Platform:
    """The platform this process runs on, in normal form."""
    import os

    machine = os.uname().machine
    if machine.startswith("armv"):
        return Platform("linux", "arm", machine[3:5])
    return Platform("linux", _MACHINE.get(machine, machine))


def _parse_single(text: str, known: Platform, whole: str) -> Platform:
    """One word is an operating system, for the architecture of this machine, or an architecture."""
    local = host()
    if known.os in _OS:
        variant = "" if local.variant == "v7" else local.variant
        return Platform(known.os, local.architecture, variant, known.os_version, known.os_features)
    arch, variant = _normal_arch(text, "")
    if arch not in _ARCH:
        raise ValueError(f"{quote(whole)}: unknown operating system or architecture: invalid argument")
    return Platform(local.os, arch, "" if (arch, variant) == ("arm", "v7") else variant, known.os_version, known.os_features)


def _parse_os(text: str, whole: str) -> tuple[str, str, tuple[str, ...]]:
    """Name, version and features of ``name[(version[+feature...])]``."""
    name, parenthesis, options = text.partition("(")
    version, *features = options.removesuffix(")").split("+")
    well_formed = bool(name) and _WORD.issuperset(name) and _OPTION.issuperset(version)
    well_formed = well_formed and all(f and _OPTION.issuperset(f) for f in features)
    if not well_formed or (parenthesis and not options.endswith(")")):
        rule = f"OSAndVersion specifier component must match {quote(_OS_RULE)}"
        raise ValueError(f"{quote(text)} is an invalid OS component of {quote(whole)}: {rule}: invalid argument")
    try:
        version = _unescaped(version)
    except ValueError as e:
        raise ValueError(f"{quote(whole)} has an invalid OS version {quote(version)}: {e}") from None
    try:
        return _normal_os(name), version, tuple(filter(None, map(_unescaped, features)))
    except ValueError as e:
        raise ValueError(f"{quote(whole)} has invalid OS features: {e}") from None


def _escaped(text: str) -> str:
    for char, escape in _ESCAPES:
        text = text.replace(char, escape)
    return text


def _unescaped(text: str) -> str:
    """Go's url.PathUnescape."""
    head, *parts = text.split("%")
    out = head.encode()
    for part in parts:
        if len(part) < 2 or not all(c in "0123456789abcdefABCDEF" for c in part[:2]):
            raise ValueError(f"invalid URL escape {quote('%' + part[:2])}")
        out += bytes.fromhex(part[:2]) + part[2:].encode()
    return out.decode("utf-8", "surrogateescape")


def _candidates(arch: str, variant: str) -> list[tuple[str, str]]:
    """What a machine of this kind runs, the best first; in normal form (containerd's platformVector)."""
    number = variant.removeprefix("v")
    level = int(number) if number.isascii() and number.isdigit() and len(number) < 4 else 0
    if arch == "amd64":
        return [(arch, variant), *((arch, f"v{n}" if n > 1 else "") for n in range(level - 1, 0, -1)), ("386", "")]
    if arch == "arm":
        return [(arch, variant), *((arch, f"v{n}") for n in range(level - 1, 4, -1))]
    if arch != "arm64":
        return [(arch, variant)]
    major, _, minor_text = (variant or "v8").partition(".")
    if minor_text not in ("", *_ARM64_MINORS.get(major, ())) or major not in _ARM64_MINORS:
        return []  # of an ARM that nobody knows nothing can be said
    minor = int(minor_text or "0")
    versions = [(9, n) for n in range(minor, -1, -1)] if major == "v9" else []
    versions += [(8, n) for n in range(min(minor + 5, 9) if versions else minor, -1, -1)]
    found = [("arm64", _normal_arch("arm64", f"v{a}.{b}" if b else f"v{a}")[1]) for a, b in versions]
    return found + [("arm", f"v{n}") for n in (8, 7, 6, 5)]


# Windows runs images of its own build, since Server 2022 also those from the long-term release before it on.
_LONG_TERM = (20348, 26100)


def _windows_version_serves(host: str, image: str) -> bool:
    wanted, have = _windows_version(host), _windows_version(image)
    if wanted == (0, 0, 0) or not image:
        return True
    if wanted[:2] != have[:2]:
        return False
    build = wanted[2]
    if build < _LONG_TERM[0]:
        return build == have[2]
    oldest = max((n for n in _LONG_TERM if n < build), default=_LONG_TERM[0])
    return oldest <= have[2] <= build


def _windows_version(text: str) -> tuple[int, int, int]:
    """Major, minor and build; zeros where it is none."""
    parts = text.split(".")[:3]
    if len(parts) < 3 or not all(p.isascii() and p.isdigit() and len(p) < 6 for p in parts):
        return (0, 0, 0)
    major, minor, build = map(int, parts)
    return (major, minor, build) if max(major, minor) < 256 and build < 1 << 16 else (0, 0, 0)


def _normal_os(os: str) -> str:
    os = os.lower()
    return {"macos": "darwin", "": "linux"}.get(os, os)


def _normal_arch(arch: str, variant: str) -> tuple[str, str]:
    arch, variant = arch.lower(), variant.lower()
    if arch in ("armhf", "armel"):
        return "arm", "v7" if arch == "armhf" else "v6"
    if arch == "i386":
        return "386", ""
    arch = _ALIASES.get(arch, arch)
    return arch, _VARIANTS.get(arch, {}).get(variant, variant)
