"""What goes over the process border between the builder, the zygote and a sandbox's supervisor: plain values as JSON."""

from __future__ import annotations

from typing import Any

from runtime.values import asdict, dataclass, field

# Messages on the control socket (SOCK_SEQPACKET): one Report, then one GONE when all of the sandbox is dead. The builder
# shuts its writing side down to have the sandbox killed.
GONE = b"gone"

# Where the program finds the file Job.status.
STATUS_FD = 9


@dataclass(frozen=True, slots=True)
class TreeMount:
    """One mount of the tree that P1 puts together: a bind of ``source``, or a tmpfs of ``size`` bytes and ``mode`` where it is "".

    ``dest`` is resolved in the tree as it stands by then, links included; what is missing of it is made.
    """

    dest: str
    source: str = ""
    size: int = 0
    is_file: bool = False
    attributes: int = 0
    mode: int = 0o1777


@dataclass(frozen=True, slots=True)
class Job:
    """One run of a runtime program, as P1 carries it out. Crosses the process border in memory (no secrets on disk).

    ``scratch``: folder over which P1's tmpfs is mounted; ``folders`` are made in it, ``files`` written: path below it to
    (text, is it hexadecimal bytes), those of ``programs`` executable. ``stdin``: such a path or "". ``fds``: path of such a
    file to the number it must be open as in the program. ``status``: path of a file the program has open for writing as
    number STATUS_FD. ``cover``: folders to cover with an empty tmpfs. ``allow_devices``: mounts from which "nodev" is taken.
    ``own_network``: a network namespace with nothing but loopback, and its sysfs at scratch/sys. ``log``: path of the
    program's JSON log below scratch, "" for none. ``groups``: cgroups, deepest first: the sandbox's and its parent, from
    which usage is read; ``group_limits``: for a ``container``, (hierarchy, file, value) to be written to the first.
    ``tree``: mounts to put together at scratch/tree, in order; ``tree_cwd``: a folder that must exist in it then.
    ``container``: path below scratch of an OCI configuration that P1 carries out itself, in the place of a program
    (``argv`` is empty); ``filter``: path of its seccomp program, "" for none. ``owners``: file for the owners of what can bear no
    attribute (runtime.linux.overrides), if they are to be kept beside the files: the step's ids are pretended then; "" if they are
    real. ``bare``: no namespace can be had: ``container``'s root is entered by chroot, and what can't be mounted is shown by
    answers to system calls: ``shown`` has (its name in the step, the file). Nothing of ``files`` is written then.
    ``devices``: names below /dev to be shown so, too. ``proot``: the program and arguments that change the root of an ordinary user
    instead. ``emulator``: what the binfmt_misc of the step's own user namespace is told (runtime.emulation.rule); "" for none.
    """

    argv: tuple[str, ...]
    scratch: str
    files: dict[str, tuple[str, bool]] = field(default_factory=dict)
    programs: tuple[str, ...] = ()
    stdin: str = ""
    fds: dict[str, int] = field(default_factory=dict)
    folders: tuple[str, ...] = ()
    cover: tuple[str, ...] = ()
    allow_devices: tuple[str, ...] = ()
    own_network: bool = False
    log: str = ""
    groups: tuple[str, ...] = ()
    group_kind: str = "none"
    group_folders: tuple[str, ...] = ()
    group_limits: tuple[tuple[str, str, str], ...] = ()
    status: str = ""
    tree: tuple[TreeMount, ...] = ()
    tree_cwd: str = ""
    container: str = ""
    filter: str = ""
    owners: str = ""
    bare: bool = False
    proot: tuple[str, ...] = ()
    shown: tuple[tuple[str, str], ...] = ()
    devices: tuple[str, ...] = ()
    emulator: str = ""

    def data(self, name: str) -> bytes:
        """What is in one of ``files``."""
        text, is_hexadecimal = self.files[name]
        return bytes.fromhex(text) if is_hexadecimal else text.encode("utf-8", "surrogateescape")

    def encode(self) -> bytes:
        """As JSON."""
        import json

        return json.dumps(asdict(self)).encode()

    @staticmethod
    def decode(data: bytes) -> Job:
        """From JSON."""
        import json

        raw: dict[str, Any] = {}
        for key, value in json.loads(data).items():
            raw[key] = tuple(value) if isinstance(value, list) else value
        raw["tree"] = tuple(TreeMount(**mount) for mount in raw["tree"])
        raw["group_limits"] = tuple(tuple(one) for one in raw["group_limits"])
        return Job(**raw)


@dataclass(frozen=True, slots=True)
class Report:
    """What P1 saw. ``error``: the sandbox could not be set up, or was killed; ``log``: errors the program logged; ``status``:
    what it wrote to its status file; ``refused``: why the command of a ``container`` can't be started.
    """

    code: int = 0
    max_rss: int = 0
    cpu_seconds: float = 0.0
    oom: bool = False
    error: str = ""
    log: str = ""
    status: str = ""
    refused: str = ""

    def encode(self) -> bytes:
        """As JSON; fits a packet."""
        import json

        return json.dumps(asdict(self)).encode()

    @staticmethod
    def decode(data: bytes) -> Report:
        """From JSON."""
        import json

        return Report(**json.loads(data))


def words(error: BaseException) -> str:
    """One line that names the cause."""
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"{error}".split("\n")[0] or type(error).__name__
