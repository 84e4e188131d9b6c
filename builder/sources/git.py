"""Git repositories (BuildKit: source/git): one bare repository a remote under ROOT/git, shared by all builds, filled by shallow
fetches, and checked out into a ref. The remote is asked what a branch is now, every time; a commit is taken as it is.

How ROOT/git names things: refs of the remote are kept as tags (``main`` as refs/tags/main), so that they are advertised when
``keep_git_dir`` fetches from there. That is BuildKit's layout, and it shows in the kept ``.git``.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from builder.cache.record import GIT_CHECKOUT
from builder.errors import AuthError, IntegrityError, NotFoundError, SourceError, StoreError
from builder.files.trees import remove_tree
from builder.graph.gitref import is_commit, parse_git_ref
from builder.graph.ops import GitSource
from builder.oci.digest import Digest, digest_parts
from builder.sources.gitauth import GitAuth
from builder.sources.gitcli import Git
from builder.sources.gitfiles import anchor_git_files, move_up, redact_configs, set_times, unlink
from builder.state.locks import locked
from builder.state.schema import GIT_SNAPSHOTS
from builder.text.paths import rooted
from builder.text.quoting import quote
from builder.text.redact import redact_url
from builder.values import dataclass

if TYPE_CHECKING:
    from collections.abc import Callable

    from builder.cache.refs import ImmutableRef
    from builder.session import Session
    from builder.worker import Worker

_REMOTE = "pybuild"
_SSH_ID = "default"


@dataclass(frozen=True, slots=True)
class GitTarget:
    """What a source's ref is now. ``ref`` is the full name, or the commit; ``object`` what it points to, maybe an annotated tag;
    ``commit`` the commit that an annotated tag names, if the remote said so and no .git is kept, else empty."""

    ref: str
    object: str
    commit: str = ""


class GitFetcher:
    """One source in one build."""

    def __init__(
        self,
        worker: Worker,
        session: Session,
        source: GitSource,
        *,
        target: GitTarget | None = None,
        log: Callable[[bytes], None] = lambda data: None,
    ) -> None:
        """``target``: what the remote was found to say before. SourceError for a remote or ref that git would misunderstand."""
        self._worker = worker
        self._session = session
        self._source = source
        self._shown = redact_url(source.remote)
        self._log = log
        self._target = target
        self._git: Git | None = None
        self._branch = ""
        _check(source)

    # ------------------------------------------------------------------------------------------------ resolving
    def resolve(self) -> GitTarget:
        """NotFoundError for a ref that is not there, IntegrityError where the checksum says otherwise, AuthError, SourceError."""
        if self._target is None:
            self._target = self._resolve()
        return self._target

    def key(self) -> Digest:
        """The cache key: commit and all that changes the files."""
        source, target = self._source, self.resolve()
        commit = target.object if is_commit(target.ref) or source.keep_git_dir else target.commit or target.object
        kept = target.ref if source.keep_git_dir else ""
        flags = f"{source.keep_git_dir:d}{source.skip_submodules:d}{source.mtime_commit:d}"
        return digest_parts("git", commit, kept, _subdir(source), flags)

    def _resolve(self) -> GitTarget:
        source = self._source
        checksum = source.checksum
        if checksum and not all(c in "0123456789abcdefABCDEF" for c in checksum):
            raise SourceError(f"invalid checksum {checksum} for Git URL, expected hex commit hash")
        if is_commit(source.ref):
            if not source.ref.startswith(checksum):
                raise IntegrityError(f"expected checksum to match {checksum}, got {source.ref}")
            return GitTarget(source.ref, source.ref)
        if source.fetch_by_commit:
            if not checksum:
                raise SourceError("fetch-by-commit requires a checksum or a commit SHA ref")
            if not is_commit(checksum):
                raise SourceError(f'fetch-by-commit requires a full commit SHA checksum, got "{checksum}"')
            ref = source.ref if source.ref.startswith("refs/") or not source.ref else "refs/heads/" + source.ref
            return GitTarget(ref or checksum, checksum)
        return self._ask()

    def _ask(self) -> GitTarget:
        git = self._remote_git()
        try:
            ref = self._ref(git)
            listed = git.run("ls-remote", "--", _REMOTE, ref, ref + "^{}")
        except SourceError as e:
            raise type(e)(f"failed to fetch remote {self._shown}: {e}", hint=e.hint) from e
        found = {name: value for value, _, name in (line.partition("\t") for line in listed.splitlines())}
        partial = "refs/" + ref.removeprefix("refs/")
        head = "refs/heads/" + ref.removeprefix("refs/heads/")
        tag = "refs/tags/" + ref.removeprefix("refs/tags/")
        # git-checkout prefers branches where a name is both.
        name = next((n for n in (partial, head, tag) if n in found), "")
        if not name:
            raise NotFoundError(f"repository does not contain ref {ref}, output: {quote(listed)}")
        value = found[name]
        commit = found.get(tag + "^{}", "") if name == tag else ""
        if not is_commit(value) or (commit and not is_commit(commit)):
            raise SourceError(f'invalid commit sha "{value}"')
        checksum = self._source.checksum
        if checksum and not value.startswith(checksum) and not (commit and commit.startswith(checksum)):
            raise IntegrityError(f"expected checksum to match {checksum}, got {value}" + (f" or {commit}" if commit else ""))
        return GitTarget(name, value, "" if self._source.keep_git_dir else commit)

    def _ref(self, git: Git) -> str:
        """The ref that is asked for: the remote's default branch where the source names none."""
        if self._source.ref:
            return self._source.ref
        if not self._branch:
            for line in git.run("ls-remote", "--symref", "--", _REMOTE, "HEAD").splitlines():
                head, _, name = line.partition("\t")
                if name == "HEAD" and head.startswith("ref: refs/heads/"):
                    self._branch = head.removeprefix("ref: refs/heads/")
            if not self._branch or self._branch.startswith("-"):
                raise SourceError(f"could not find default branch for repository: {self._shown}")
        return self._branch

    # ------------------------------------------------------------------------------------------------ results
    def snapshot(self) -> ImmutableRef:
        """The files as a ref; the caller releases it. The same commit of the same remote is checked out once."""
        database, key = self._worker.database, self.key()
        for _, known in database.find(GIT_SNAPSHOTS, key=key):
            try:
                return self._worker.cache.get(known)
            except KeyError:
                pass
        with self._repository() as git:
            ref = self._checkout(git)
        with database.transaction() as c:
            database.put(c, GIT_SNAPSHOTS, [(key, ref.id)])
        return ref

    def commit_time(self) -> int:
        """The committer's time of the commit, in seconds since the epoch."""
        with self._repository() as git:
            return self._time_of(git)

    def _time_of(self, git: Git) -> int:
        text = git.run("log", "-1", "--format=%ct", self.resolve().object + "^{commit}", "--").strip()
        if not text.lstrip("-").isdecimal():
            raise SourceError(f"failed to parse commit timestamp {text[:40]!r}")
        return int(text)

    # ------------------------------------------------------------------------------------------------ the shared repository
    @contextmanager
    def _repository(self) -> Iterator[Git]:
        """The bare repository of the remote with the wanted object in it, locked against other threads and processes."""
        target = self.resolve()
        form = "sha256" if len(target.object) == 64 else "sha1"
        name = digest_parts(self._source.remote, form).hex[:40]
        layout = self._worker.layout
        folder = os.path.join(layout.git, name)
        with locked(os.path.join(layout.locks, f"git-{name}")):
            git = self._remote_git().with_(git_dir=folder)
            for fresh in (False, True):
                self._prepare(git, folder, form, fresh=fresh)
                try:
                    self._fetch(git, folder, target)
                    break
                except SourceError as e:
                    # A tag that moved, or a branch that became a folder of branches: the repository is given up.
                    if fresh or not _is_outdated(str(e)):
                        raise
            self._verify(git, target)
            yield git

    def _prepare(self, git: Git, folder: str, form: str, *, fresh: bool) -> None:
        if not fresh and os.path.isdir(folder):
            # What a killed git left; nobody else is here while we hold the lock.
            for name in ("shallow.lock", "packed-refs.lock", "HEAD.lock", "config.lock"):
                unlink(os.path.join(folder, name))
            if git.succeeds("rev-parse", "--git-dir"):
                return
        import tempfile

        remove_tree(folder, ignore_errors=True)
        temp = tempfile.mkdtemp(prefix="git-", dir=self._worker.layout.tmp)
        try:
            bare = os.path.join(temp, "bare")
            git.with_(git_dir="").run("init", "--quiet", "--bare", f"--object-format={form}", "--", bare)
            os.rename(bare, folder)
        except OSError as e:
            raise StoreError(f"failed to init repo at {folder}: {e.strerror}") from e
        finally:
            remove_tree(temp, ignore_errors=True)

    def _fetch(self, git: Git, folder: str, target: GitTarget) -> None:
        ref = self._wanted(git)
        wanted = target.object if self._source.fetch_by_commit else ref
        if is_commit(wanted) and git.succeeds("cat-file", "-e", wanted + "^{commit}"):
            return
        if not is_commit(wanted) and self._have(git, wanted, target.object):
            return
        try:
            if is_commit(wanted) and not self._source.fetch_by_commit:
                self._fetch_commit(git, folder, wanted)
            elif is_commit(ref):
                git.run("fetch", "--depth=1", "--no-tags", "--", _REMOTE, ref)
            else:
                git.run("fetch", "--depth=1", "--no-tags", "--force", "--", _REMOTE, f"{wanted}:{_kept_name(ref)}")
            if not self._have(git, wanted, target.object):
                self._force(git, folder, ref, target.object)
        except SourceError as e:
            raise type(e)(f"failed to fetch remote {self._shown}: {e}", hint=e.hint) from e

    def _force(self, git: Git, folder: str, ref: str, wanted: str) -> None:
        """The remote's ref moved between the question and the fetch: the key's commit counts, if it can still be had."""
        if not git.succeeds("cat-file", "-e", wanted):
            self._fetch_commit(git, folder, wanted)
            if not git.succeeds("cat-file", "-e", wanted):
                raise SourceError(
                    f"fetched ref {ref} does not match expected commit {wanted} and commit can not be found in the repository"
                )
        if not is_commit(ref):
            git.run("update-ref", "--no-deref", "refs/" + _kept_name(ref).removeprefix("refs/"), wanted)

    def _fetch_commit(self, git: Git, folder: str, commit: str) -> None:
        """With all branches and tags at hand: a server that gives no single commits is asked for those instead."""
        all_branches = {f"remote.{_REMOTE}.fetch": f"+refs/heads/*:refs/remotes/{_REMOTE}/*"}
        git.with_(config=all_branches).run("fetch", "--tags", *_unshallow(folder), "--", _REMOTE, commit)

    def _have(self, git: Git, ref: str, wanted: str) -> bool:
        """Is ``ref`` known to be ``wanted``, and that object here?"""
        known = wanted if is_commit(ref) else git.query("rev-parse", "--verify", "--quiet", ref).strip()
        return known == wanted and git.succeeds("cat-file", "-e", wanted)

    def _wanted(self, git: Git) -> str:
        """The ref in the source's own words, as the shared repository keeps it."""
        if self._source.fetch_by_commit:
            return self.resolve().ref
        return self._ref(git)

    def _verify(self, git: Git, target: GitTarget) -> None:
        checksum = self._source.checksum
        if not checksum or target.object.startswith(checksum):
            return
        peeled = git.run("rev-parse", "--verify", target.object + "^{commit}").strip()
        if not peeled.startswith(checksum):
            raise IntegrityError(f"expected checksum to match {checksum}, got {target.object} or {peeled}")

    # ------------------------------------------------------------------------------------------------ checkout
    def _checkout(self, git: Git) -> ImmutableRef:
        source, target = self._source, self.resolve()
        mutable = self._worker.cache.new(
            None, description=f"git snapshot for {self._shown}#{source.ref}", record_type=GIT_CHECKOUT
        )
        try:
            with mutable.mount() as folder:
                subdir = _subdir(source)
                try:
                    if source.keep_git_dir and not subdir:
                        self._check_out_with_git(git, folder, target)
                    else:
                        self._check_out_files(git, folder, subdir, target)
                except SourceError as e:
                    raise type(e)(f"failed to checkout remote {self._shown}: {e}", hint=e.hint) from e
                if source.mtime_commit:
                    set_times(folder, self._time_of(git))
            return mutable.commit()
        except OSError as e:
            raise StoreError(f"failed to checkout remote {self._shown}: {e.strerror or e}") from e
        finally:
            mutable.release()

    def _check_out_files(self, git: Git, folder: str, subdir: str, target: GitTarget) -> None:
        """The tree alone; of ``subdir`` its content becomes the root."""
        import tempfile

        assert git.git_dir
        work = tempfile.mkdtemp(prefix="checkout", dir=folder) if subdir else folder
        scratch = tempfile.mkdtemp(prefix="git-index-", dir=self._worker.layout.tmp)
        try:
            tree = git.with_(work_tree=work, index_file=os.path.join(scratch, "index"))
            tree.run("checkout", "--no-overlay", target.object, "--", ".")
            self._submodules(tree, work)
            if not self._source.skip_submodules:
                anchor_git_files(work, git.git_dir)
                # Kept submodule repositories would hold their URLs, and state that the next checkout trips over.
                remove_tree(os.path.join(git.git_dir, "modules"), ignore_errors=True)
                _forget_submodules(git)
        finally:
            remove_tree(scratch, ignore_errors=True)
        if subdir:
            move_up(work, subdir, folder)

    def _check_out_with_git(self, git: Git, folder: str, target: GitTarget) -> None:
        """A repository of its own with the one commit, fetched from the shared one.

        By file:// and not by path: a clone by path shares and copies files in ways that were attacked (CVE-2022-39253).
        """
        dot_git = os.path.join(folder, ".git")
        own = git.with_(git_dir=dot_git, work_tree=folder)
        form = "sha256" if len(target.object) == 64 else "sha1"
        own.run("init", "--quiet", f"--object-format={form}")
        own.run("remote", "add", "origin", "file://" + git.git_dir)
        refspec, temporary = self._refspec(git, target)
        try:
            own.with_(protocols="file").run("fetch", "-u", "--depth=1", "--", "origin", refspec)
        finally:
            if temporary:
                git.run("update-ref", "-d", temporary)
        own.run("checkout", "--quiet", "FETCH_HEAD", "--")
        own.run("remote", "set-url", "origin", self._shown)
        own.run("reflog", "expire", "--all", "--expire=now")
        unlink(os.path.join(dot_git, "FETCH_HEAD"))
        self._submodules(own, folder)
        redact_configs(dot_git)

    def _refspec(self, git: Git, target: GitTarget) -> tuple[str, str]:
        """(what to fetch from the shared repository, a ref that was made for it there or empty)."""
        ref = self._wanted(git)
        if not is_commit(ref) and git.run("cat-file", "-t", target.object).strip() == "tag":
            return f"{ref}:refs/tags/{ref.removeprefix('refs/tags/')}", ""
        if not is_commit(ref) and not self._source.fetch_by_commit:
            return f"{ref}:{ref}", ""
        temporary = "refs/pybuild/" + target.object
        git.run("update-ref", temporary, target.object)
        return (temporary if is_commit(ref) else f"{temporary}:{ref}"), temporary

    def _submodules(self, git: Git, work: str) -> None:
        if self._source.skip_submodules or not os.path.lexists(os.path.join(work, ".gitmodules")):
            return
        try:
            # Relative URLs are relative to the remote, which only this step is told of.
            git.with_(config={"remote.origin.url": self._source.remote}).run("submodule", "init")
            git.run("submodule", "update", "--init", "--recursive", "--depth=1")
        except SourceError as e:
            raise type(e)(f"failed to update submodules for {self._shown}: {e}", hint=e.hint) from e

    # ------------------------------------------------------------------------------------------------ access
    def _remote_git(self) -> Git:
        """Git with the remote's URL and its credentials."""
        if self._git is None:
            source = self._source
            auth = GitAuth(source, self._session)
            socket = ""
            if not source.remote.startswith(("http://", "https://", "git://")):
                socket = self._session.ssh.get(_SSH_ID, "")
                if not socket:
                    raise AuthError(f'no SSH key "{_SSH_ID}" forwarded from the client', hint="build with --ssh default")
            self._git = Git(
                remote=lambda: auth.config(_REMOTE),
                redirected=auth.learn,
                ssh_auth_sock=socket,
                known_hosts=os.path.join(self._worker.layout.git, "known_hosts"),
                secrets=auth.secrets,
                log=self._log,
            )
        return self._git


def _check(source: GitSource) -> None:
    """Nothing that git could take for an option, a local path or a helper."""
    shown = redact_url(source.remote)
    known = source.remote.startswith(("http://", "https://", "ssh://", "git://")) or parse_git_ref(source.remote) is not None
    if not known or source.remote.startswith("-") or any(ord(c) < 32 or ord(c) == 127 for c in source.remote):
        raise SourceError(f"{shown!r} is no git remote")
    ref = source.ref
    forbidden = any(ord(c) <= 32 or ord(c) == 127 or c in ":?*[\\~^" for c in ref) or ".." in ref or "@{" in ref
    if forbidden or ref.startswith(("-", "+")):
        raise SourceError(f'invalid git ref "{ref}"')


def _subdir(source: GitSource) -> str:
    """Cleaned, relative, never above the root; empty for the root."""
    return rooted(source.subdir)[1:]


def _kept_name(ref: str) -> str:
    return ref if ref.startswith("refs/tags/") else "tags/" + ref


def _unshallow(folder: str) -> tuple[str, ...]:
    return ("--unshallow",) if os.path.exists(os.path.join(folder, "shallow")) else ()


def _is_outdated(text: str) -> bool:
    return (
        "would clobber existing tag" in text
        or "unable to update local ref" in text
        or "refname conflict" in text
        or "cannot lock ref" in text
        or "some local refs could not be updated" in text
    )


def _forget_submodules(git: Git) -> None:
    names = git.query("config", "--local", "--name-only", "--get-regexp", "^submodule\\.").splitlines()
    for section in sorted({name.rpartition(".")[0] for name in names}):
        git.succeeds("config", "--local", "--remove-section", section)
