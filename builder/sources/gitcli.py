"""One way to run git: nothing of the host's configuration, nothing that a repository says is executed, no prompt, no leak.

- every GIT_* variable is cleared, system and user configuration is off, hooks and fsmonitor are off;
- only the protocols that the call allows work, also for submodules and redirects (GIT_ALLOW_PROTOCOL);
- URLs and credentials go in by environment, not by arguments (``ps``) and not by a config file (disk);
- no gc in the background outlives us; a cancelled git is killed with all its children;
- whatever git says is redacted before anybody sees it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

from builder.errors import AuthError, NotFoundError, SourceError, UnsupportedError
from builder.graph.gitref import is_commit
from builder.state import cancel, trace
from builder.text.redact import redact_text
from builder.values import dataclass, field, replace

if TYPE_CHECKING:
    import subprocess

NETWORK = "http:https:git:ssh"
_KEPT = (
    "PATH", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "no_proxy", "all_proxy",
    "SSL_CERT_FILE", "SSL_CERT_DIR", "CURL_CA_BUNDLE", "GIT_SSL_CAINFO",
)  # fmt: skip
_CONFIG = {
    "core.hooksPath": "/dev/null",
    "core.fsmonitor": "false",
    "core.askPass": "",
    "credential.helper": "",
    "gc.auto": "0",
    "maintenance.auto": "false",
    "init.defaultBranch": "master",
    "advice.detachedHead": "false",
    "protocol.file.allow": "user",
    "submodule.recurse": "false",
    "fetch.recurseSubmodules": "false",
}
_POLL_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Git:
    """Settings for a few calls; ``with_`` gives a variant. ``secrets`` are masked in all output.

    ``remote`` gives the settings of the remote, asked at every call; ``redirected``, told what git said when it failed, says if
    these have changed by it: then the same call is worth another try.
    """

    git_dir: str = ""
    work_tree: str = ""
    index_file: str = ""
    protocols: str = NETWORK
    config: Mapping[str, str] = field(default_factory=dict)
    remote: Callable[[], Mapping[str, str]] = dict
    redirected: Callable[[str], bool] = lambda stderr: False
    ssh_auth_sock: str = ""
    known_hosts: str = ""
    secrets: tuple[str, ...] = ()
    log: Callable[[bytes], None] = lambda data: None

    def with_(
        self,
        *,
        git_dir: str | None = None,
        work_tree: str | None = None,
        index_file: str | None = None,
        protocols: str | None = None,
        config: Mapping[str, str] | None = None,
    ) -> Git:
        return replace(
            self,
            git_dir=self.git_dir if git_dir is None else git_dir,
            work_tree=self.work_tree if work_tree is None else work_tree,
            index_file=self.index_file if index_file is None else index_file,
            protocols=self.protocols if protocols is None else protocols,
            config=self.config if config is None else {**self.config, **config},
        )

    def run(self, *args: str) -> str:
        """Standard output. A fetch that the server can't do shallow, or by commit, is tried again without (as BuildKit does).

        NotFoundError, AuthError or SourceError with what git said; CancelledError.
        """
        while True:
            code, out, err = self._once(args)
            if code == 0:
                return out
            if self.redirected(err):
                continue
            fewer = _simpler(args, err)
            if fewer == args:
                raise self._error(args, err)
            args = fewer

    def query(self, *args: str) -> str:
        """Standard output, or nothing where git says no."""
        code, out, _ = self._once(args)
        return out if code == 0 else ""

    def succeeds(self, *args: str) -> bool:
        return self._once(args)[0] == 0

    def _once(self, args: tuple[str, ...]) -> tuple[int, str, str]:
        import subprocess

        command = ["git"]
        if self.work_tree:
            command += ["--work-tree", self.work_tree]
        if self.git_dir:
            command += ["--git-dir", self.git_dir]
        try:
            process = subprocess.Popen(
                [*command, *args],
                cwd=self.work_tree or self.git_dir or "/",
                env=self._environment(),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                umask=0o022,
                start_new_session=True,
            )
        except FileNotFoundError as e:
            raise UnsupportedError("git sources need git, which is not installed", hint="apt-get install git") from e
        try:
            with trace.span("process", "git", args=" ".join(args)):
                out, err = self._communicate(process)
        except BaseException:
            self._kill(process)
            raise
        stderr = redact_text(err.decode("utf-8", "replace"), self.secrets)
        if stderr:
            self.log(stderr.encode())
        return process.returncode, out.decode("utf-8", "surrogateescape"), stderr

    def _communicate(self, process: subprocess.Popen[bytes]) -> tuple[bytes, bytes]:
        """What it prints on both streams, until it has closed both. CancelledError."""
        assert process.stdout is not None
        assert process.stderr is not None
        printed: dict[int, list[bytes]] = {process.stdout.fileno(): [], process.stderr.fileno(): []}
        out, err = printed.values()
        with process.stdout, process.stderr:
            while printed:
                for fd in cancel.readable_of(printed):
                    data = os.read(fd, 1 << 16)
                    if data:
                        printed[fd].append(data)
                    else:
                        del printed[fd]
        process.wait()
        return b"".join(out), b"".join(err)

    @staticmethod
    def _kill(process: subprocess.Popen[bytes]) -> None:
        import signal

        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()

    def _environment(self) -> dict[str, str]:
        env = {name: os.environ[name] for name in _KEPT if name in os.environ}
        env |= {
            "LC_ALL": "C",
            "HOME": "/dev/null",
            "GIT_CONFIG_NOSYSTEM": "1",
            "GIT_CONFIG_GLOBAL": "/dev/null",
            "GIT_ATTR_NOSYSTEM": "1",
            "GIT_TERMINAL_PROMPT": "0",
            "GIT_ALLOW_PROTOCOL": self.protocols,
            "GIT_OPTIONAL_LOCKS": "0",
            "GIT_SSH_COMMAND": self._ssh(),
        }
        if self.ssh_auth_sock:
            env["SSH_AUTH_SOCK"] = self.ssh_auth_sock
        if self.index_file:
            env["GIT_INDEX_FILE"] = self.index_file
        config = {**_CONFIG, **self.remote(), **self.config}
        env["GIT_CONFIG_COUNT"] = str(len(config))
        for i, (key, value) in enumerate(config.items()):
            env[f"GIT_CONFIG_KEY_{i}"] = key
            env[f"GIT_CONFIG_VALUE_{i}"] = value
        return env

    def _ssh(self) -> str:
        """Keys come from the agent that --ssh names and from nowhere else. A host's key is taken at the first contact and kept."""
        import shlex

        hosts = " ".join(shlex.quote(p) for p in (self.known_hosts, "~/.ssh/known_hosts") if p)
        option = shlex.quote(f"UserKnownHostsFile={hosts}")
        return f"ssh -F /dev/null -o BatchMode=yes -o IdentityFile=none -o StrictHostKeyChecking=accept-new -o {option}"

    def _error(self, args: tuple[str, ...], stderr: str) -> SourceError:
        lines = [line.strip() for line in stderr.splitlines() if line.strip()]
        fatal = [line for line in lines if line.startswith(("fatal:", "error:", "remote:", "ssh:"))] or lines
        text = "; ".join(dict.fromkeys(fatal[-3:])) or "no reason given"
        message = f"git {next((a for a in args if not a.startswith('-')), '')}: {text}"
        low = stderr.lower()
        if any(t in low for t in ("authentication failed", "could not read username", "permission denied", "403")):
            return AuthError(message, hint="give a token with --secret id=GIT_AUTH_TOKEN,env=... or an agent with --ssh default")
        if any(t in low for t in ("not found", "couldn't find remote ref", "does not appear to be a git repository")):
            return NotFoundError(message)
        return SourceError(message)


def _simpler(args: tuple[str, ...], stderr: str) -> tuple[str, ...]:
    """The same command without what this server can't do, or unchanged."""
    if ("--depth" in stderr or "shallow" in stderr) and "--depth=1" in args:
        return tuple(a for a in args if a != "--depth=1")
    refused = "not our ref" in stderr or "unadvertised object" in stderr
    if refused and args[0] == "fetch" and len(args) > 2 and is_commit(args[-1]):
        return args[:-1]
    return args
