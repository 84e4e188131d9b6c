"""What a step sees mounted (BuildKit: frontend/gateway/container PrepareMounts, solver/llbsolver/mounts).

    bind, an output       a new writable record on the input; committed as the output
    bind, no output, rw   the same, thrown away
    bind, read-only       the input itself; as an output it is the input again
    cache                 a record that outlives builds, by its id (and the input it began with)
    tmpfs, secret, ssh    nothing of the store

Everything a step may read or write is a folder or file that was mounted here; a part of a mount (``selector``) is opened inside
of it and bound by file descriptor, so that no symbolic link leads elsewhere, not even one that is swapped meanwhile
(CVE-2024-23651).
"""

from __future__ import annotations

import errno
import os
import posixpath
from collections.abc import Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING, cast

from builder.errors import StepError
from builder.graph.ops import NO_INPUT, CacheMount, Exec, Mount, SecretMount, SSHMount, TmpfsMount
from builder.ops.refs import owned
from builder.text.paths import clean
from builder.text.quoting import quote
from runtime import spec
from runtime.errors import RuntimeFault
from runtime.linux import mounts as kernel
from runtime.linux.safepath import open_in_root

if TYPE_CHECKING:
    from builder.cache.refs import ImmutableRef, MutableRef
    from builder.ops.refs import Ref
    from builder.session import Session
    from builder.worker import Worker


class PreparedMounts:
    """Holds the mounts of one step. Leaving the context unmounts and releases all that was not committed."""

    def __init__(
        self, op: Exec, worker: Worker, session: Session, inputs: Sequence[Ref]
    ) -> None:
        self._op = op
        self._worker = worker
        self._session = session
        self._inputs = inputs
        self._files = ExitStack()
        self._refs = ExitStack()
        self._scratch: str | None = None
        self._outputs: dict[int, MutableRef | ImmutableRef] = {}
        self._caches: dict[tuple[str, str], MutableRef] = {}
        self._root = ""
        self._owners = ""
        self._readonly_root = False
        self._mounts: list[spec.BindMount | spec.TmpfsMount] = []

    def __enter__(self) -> PreparedMounts:
        return self

    def __exit__(self, *_: object) -> None:
        # Files first: a record can't be dropped while its folder is in use.
        try:
            self._files.close()
        finally:
            self._refs.close()

    # -------------------------------------------------------------------------------------------- for ExecOp
    def prepare(self) -> None:
        """Mount everything. StepError, SourceError of lazy inputs, RuntimeFault of the kernel."""
        self._acquire_caches()
        for mount in self._op.mounts:
            self._prepare(mount)
        if self._worker.keeps_owners:
            self._keep_owners()
        self._mounts.sort(key=lambda m: m.dest)  # parents first; of one dest the later one counts, in the sandbox

    def sandbox(self, emulator: str = "") -> spec.Sandbox:
        """``emulator``: see there."""
        op = self._op
        mounts = self._mounts
        nodes: tuple[spec.DeviceNode, ...] = ()
        gids: tuple[int, ...] = ()
        if op.devices:
            from builder.ops.devices import edits_of

            edits = edits_of(op.devices, self._worker)
            mounts, nodes, gids = sorted([*mounts, *edits.mounts], key=lambda m: m.dest), edits.nodes, edits.gids
        return spec.Sandbox(
            rootfs=self._root,
            readonly_root=self._readonly_root,
            mounts=tuple(mounts),
            devices=nodes,
            additional_gids=gids,
            hostname=op.hostname,
            extra_hosts=op.extra_hosts,
            network="sandbox" if op.network == "default" else op.network,
            security=op.security,
            ulimits=tuple((u.name, u.soft, u.hard) for u in op.ulimits),
            shm_size=op.shm_size or None,
            cgroup_parent=op.cgroup_parent,
            resources=spec.Resources(
                memory=op.resources.memory,
                memory_swap=op.resources.memory_swap,
                cpu_shares=op.resources.cpu_shares,
                cpu_period=op.resources.cpu_period,
                cpu_quota=op.resources.cpu_quota,
                cpuset_cpus=op.resources.cpuset_cpus,
                cpuset_mems=op.resources.cpuset_mems,
            ),
            emulator=emulator,
            owners=self._owners,
            remove_stubs_recursive=True,  # as client/llb/exec.go asks for every RUN
        )

    def secret_env(self) -> list[str]:
        """``NAME=value`` of secrets that are given as variables; one that is missing and optional is empty."""
        out = []
        for secret in self._op.secret_env:
            if not secret.id:
                raise StepError(f"secret ID missing for {quote(secret.name)} environment variable")
            value = self._session.secret(secret.id)
            if value is None and not secret.optional:
                raise _no_secret(secret.id)
            out.append(f"{secret.name}={(value or b'').decode('utf-8', 'surrogateescape')}")
        return out

    def commit(self) -> list[Ref]:
        """The outputs in order, the caller's. Nothing is mounted afterwards."""
        from builder.cache.refs import MutableRef

        self._files.close()
        results: list[ImmutableRef] = []
        try:
            for index in sorted(self._outputs):
                ref = self._outputs[index]
                results.append(ref.commit() if isinstance(ref, MutableRef) else ref.clone())
        except BaseException:
            for result in results:
                result.release()
            raise
        return [*results]

    def _keep_owners(self) -> None:
        """The step has a table of its own, of all files that it may see; what it adds is known before anything is unmounted."""
        from builder.files.kept import Kept
        from builder.files.owners import current
        from builder.state.disk import store_errors
        from runtime.linux.overrides import read_table

        owners = current()
        assert isinstance(owners, Kept)
        path = self._place(folder=False)
        with open(path, "wb") as table:
            table.write(owners.known())
        self._owners = path
        written = [mount.source for mount in self._mounts if isinstance(mount, spec.BindMount) and not mount.readonly]

        def learn() -> None:
            with store_errors("can't read what the step has made"):
                owners.learn(read_table(path))
                for folder in (self._root, *written):
                    owners.settle(folder)

        self._files.callback(learn)

    # -------------------------------------------------------------------------------------------- one mount
    def _prepare(self, mount: Mount) -> None:
        special = mount.special
        dest = clean(posixpath.join("/", self._op.cwd, mount.dest))
        if isinstance(special, TmpfsMount):
            self._mounts.append(spec.TmpfsMount(dest, special.size, mount.readonly))
        elif isinstance(special, SecretMount):
            self._secret(special, dest)
        elif isinstance(special, SSHMount):
            self._ssh(special, dest)
        elif isinstance(special, CacheMount):
            if mount.output != NO_INPUT and mount.input != NO_INPUT:
                self._outputs[mount.output] = self._held(self._input(mount))
            folder = self._files.enter_context(self._caches[self._cache_key(mount, special)].mount())
            self._bind(folder, dest, mount)
        else:
            self._bind(self._bind_folder(mount), dest, mount)

    def _bind_folder(self, mount: Mount) -> str:
        """The folder behind a bind mount; writable only where writes are wanted or thrown away."""
        is_root = mount.dest == "/"
        writable = mount.input == NO_INPUT or not mount.readonly or is_root
        if not writable:
            if mount.output != NO_INPUT:
                self._outputs[mount.output] = self._held(self._input(mount))
            return self._files.enter_context(self._input(mount).mount())
        parent = None if mount.input == NO_INPUT else self._held(self._input(mount))
        command = " ".join(self._op.args)
        mutable = self._worker.cache.new(parent, description=f"mount {mount.dest} from exec {command}")
        self._refs.callback(mutable.release)
        if mount.output != NO_INPUT:
            self._outputs[mount.output] = mutable
        return self._files.enter_context(mutable.mount())

    def _bind(self, folder: str, dest: str, mount: Mount) -> None:
        if mount.dest == "/":
            self._root, self._readonly_root = folder, mount.readonly
            return
        selector = mount.selector.strip("/")
        source, is_file = (folder, False) if selector in ("", ".") else self._select(folder, mount.selector)
        self._mounts.append(spec.BindMount(dest, source, mount.readonly, is_file))

    def _select(self, folder: str, selector: str) -> tuple[str, bool]:
        """A mount of ``selector`` inside ``folder``, and whether it is a file. Where nothing can be mounted, the place itself, by
        its open descriptor."""
        root_fd = os.open(folder, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            fd = open_in_root(root_fd, selector, os.O_PATH)
        except OSError as e:
            raise StepError(f"mount source {quote(selector)}: {(e.strerror or str(e)).lower()}") from e
        finally:
            os.close(root_fd)
        is_file = not os.path.isdir(f"/proc/self/fd/{fd}")
        if not self._worker.may_mount:
            return self._by_number(fd), is_file
        try:
            target = self._place(folder=not is_file)
            kernel.bind(fd, target, readonly=False)
            self._files.callback(kernel.unmount, target, lazy=True)
        finally:
            os.close(fd)
        return target, is_file

    def _input(self, mount: Mount) -> Ref:
        if not 0 <= mount.input < len(self._inputs):
            raise StepError(f"missing input {mount.input}")
        return self._inputs[mount.input]

    def _held(self, result: Ref) -> ImmutableRef:
        ref = owned(result)
        self._refs.callback(ref.release)
        return ref

    # -------------------------------------------------------------------------------------------- cache
    def _cache_key(self, mount: Mount, special: CacheMount) -> tuple[str, str]:
        return special.id, "" if mount.input == NO_INPUT else self._input(mount).id

    def _acquire_caches(self) -> None:
        """All at first, in one order for all steps: two that lock the same folders the other way round would wait for ever. A
        folder that is mounted twice is acquired once."""
        wanted: dict[tuple[str, str], Mount] = {}
        for mount in self._op.mounts:
            if isinstance(mount.special, CacheMount):
                wanted.setdefault(self._cache_key(mount, mount.special), mount)
        for key in sorted(wanted):
            mount = wanted[key]
            special = cast("CacheMount", mount.special)
            base = None if mount.input == NO_INPUT else self._held(self._input(mount))
            command = " ".join(self._op.args)
            description = f"cached mount {mount.dest} from exec {command}"
            if special.id != mount.dest:
                description += f' with id "{special.id}"'
            ref = self._worker.cache.mounts.acquire(
                special.id, special.sharing, base, description=description
            )
            self._refs.callback(ref.release)
            self._caches[key] = ref

    # -------------------------------------------------------------------------------------------- secrets, agents
    def _secret(self, secret: SecretMount, dest: str) -> None:
        """A file on a tmpfs of its own: never on disk. Not there when it is optional and nobody has it."""
        if not secret.id:
            raise StepError("secret ID missing from mount options")
        value = self._session.secret(secret.id)
        if value is None:
            if secret.optional:
                return
            raise _no_secret(secret.id)
        noexec = not secret.mode & 0o111
        if not self._worker.may_mount:
            path = self._in_memory(value, secret)
            self._mounts.append(spec.BindMount(dest, path, True, True, nosuid=True, nodev=True, noexec=noexec))
            return
        folder = self._place(folder=True)
        kernel.tmpfs(folder, mode=0o700, noexec=noexec)
        self._files.callback(kernel.unmount, folder, lazy=True)
        path = os.path.join(folder, "secret")
        fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(fd, "wb") as f:
            f.write(value)
            _give(fd, secret.uid, secret.gid, secret.mode, f"secret {secret.id}")
        self._mounts.append(spec.BindMount(dest, path, True, True, nosuid=True, nodev=True, noexec=noexec))

    def _in_memory(self, value: bytes, secret: SecretMount) -> str:
        """A file of this process that no file system has; others open it by our number."""
        fd = os.memfd_create("secret")
        path = self._by_number(fd)
        with os.fdopen(os.dup(fd), "wb") as f:
            f.write(value)
        _give(fd, secret.uid, secret.gid, secret.mode, f"secret {secret.id}")
        return path

    def _by_number(self, fd: int) -> str:
        """A path by which others open what we have open, until all is unmounted. It is closed with the files."""
        self._files.callback(os.close, fd)
        return f"/proc/{os.getpid()}/fd/{fd}"

    def _ssh(self, ssh: SSHMount, dest: str) -> None:
        """A socket that leads to the agent, and lets it be asked for keys and signatures only."""
        agent = self._session.ssh.get(ssh.id)
        if agent is None:
            if ssh.optional:
                return
            unset = f"unset ssh forward key {ssh.id}" if self._session.ssh else f'no SSH key "{ssh.id}" forwarded from the client'
            raise StepError(unset, hint=f"name an agent's socket with --ssh {ssh.id}=PATH")
        from builder.ops.exec_ssh import AgentForwarder

        path = os.path.join(self._place(folder=True), "agent.sock")
        self._files.enter_context(AgentForwarder(agent, path))
        _give(path, ssh.uid, ssh.gid, ssh.mode, f"ssh agent {ssh.id}")
        self._mounts.append(spec.BindMount(dest, path, False, True))

    # -------------------------------------------------------------------------------------------- places
    def _place(self, *, folder: bool) -> str:
        """A private empty folder or file to mount something on."""
        if self._scratch is None:
            import tempfile

            from builder.files.trees import remove_tree

            self._scratch = tempfile.mkdtemp(prefix="exec-", dir=self._worker.layout.tmp)
            self._files.callback(remove_tree, self._scratch, ignore_errors=True)
        path = os.path.join(self._scratch, str(len(os.listdir(self._scratch))))
        if folder:
            os.mkdir(path, 0o700)
        else:
            os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        return path


def _no_secret(id: str) -> StepError:
    return StepError(f"secret {id}: not found", hint=f"give it with --secret id={id},src=FILE or id={id},env=NAME")


def _give(what: int | str, uid: int, gid: int, mode: int, name: str) -> None:
    """Owner and mode in a build that may be rootless: an id that is not mapped there can't be given."""
    from builder.files.owners import REAL, current

    owners = current()
    try:
        owners.chown(what, uid, gid)
        owners.chmod(what, mode & 0o777)
    except OSError as e:
        if owners is not REAL and e.errno == errno.ENOTSUP:
            return  # a tmpfs before Linux 6.6 keeps nothing beside a file: it is root's, which every process of the step is
        raise RuntimeFault(f"{name}: can't set its owner {uid}:{gid}: {e.strerror}") from e
