"""Dockerfiles and contexts at random, each from one seed.

What is generated is meant to build: a stage knows what files it has made so far, and copies and removes those. Some builds fail
all the same, and that is a result too. Nothing that a step writes depends on when, where or how often it runs: no clock, no
random bytes, no order of a directory, no content of a cache mount.

``features`` bounds the language: what another builder that is compared with does not know is left out.
"""

from __future__ import annotations

import io
import json
import os
import random
import shlex
import tarfile
from collections.abc import Callable, Sequence

from tests.fuzz.cases import Case, Stage
from tests.fuzz.trees import Node, mtime_of, tidy

ALL = frozenset(
    {
        "heredoc",
        "link",
        "parents",
        "exclude",
        "named",
        "caps",
        "chmod",
        "onbuild",
        "unpack",
        "xattrs",
        "odd",
        "fifo",
        "expand",
        "control",
    }
)
"""Everything the generator knows. ``caps``: file capabilities, which an ordinary account can't set."""

_PLAIN = ("a", "b.txt", "c.txt", "data.json", "main.c", "lib.so", "x", "y.md", "Z", "readme")
_ODD = ("with space", "ünï", "日本", "quo'te", 'dou"ble', "st*r", "que?y", "br[a]cket", "back\\slash", "dollar$A", "#hash", "-dash",
        "com,ma", "eq=ual", ".hidden", "..dots", "~tilde", "semi;colon", "perc%41")  # fmt: skip
_CONTROL = ("tab\there", "bell\a")
_FOLDERS = ("src", "d", "deep/er", "web", "node_modules", ".git", "e")
_MODES = (0o644, 0o644, 0o644, 0o600, 0o755, 0o755, 0o444, 0o640, 0o4755, 0o2755, 0o777, 0o000, 0o1644)
_FOLDER_MODES = (0o755, 0o755, 0o755, 0o700, 0o775, 0o1777, 0o2755, 0o555)
_OWNERS = ("app", "app:app", "1000:1001", "5", "7:8", "root:app", "0:0", "app:8", "nosuch0:0")
_CHMODS = ("755", "0644", "u+x", "go-r", "a=rX", "u=rwx,g=rx,o=", "4755")
_LINES = "%n %F %a %u:%g %s"
"""What stat says of a file that does not depend on when it was made."""
_WORDS = ("one", "two", "three", "four", "five", "six")


def generate(seed: int, features: frozenset[str] = ALL) -> Case:
    """The case of that seed; the same one wherever and whenever."""
    return _Generator(random.Random(seed), features).case(seed)


def tar_of(members: Sequence[tuple[str, bytes | None, int]], kind: str = "") -> bytes:
    """An archive for ADD; ``kind`` is "", gz, bz2 or xz. No time but the epoch's, so that equal members are equal bytes."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for name, data, mode in members:
            info = tarfile.TarInfo(name)
            info.mode, info.uid, info.gid, info.mtime = mode, 11, 12, 1_400_000_000
            if data is None:
                info.type = tarfile.DIRTYPE
                tar.addfile(info)
            elif data.startswith(b"-> "):
                info.type, info.linkname = tarfile.SYMTYPE, data[3:].decode()
                tar.addfile(info)
            else:
                info.size = len(data)
                tar.addfile(info, io.BytesIO(data))
    raw = out.getvalue()
    if kind == "gz":
        import gzip

        return gzip.compress(raw, mtime=0)
    if kind == "bz2":
        import bz2

        return bz2.compress(raw)
    if kind == "xz":
        import lzma

        return lzma.compress(raw)
    return raw


class _Stage:
    """What is known of a stage while it is written: its files and folders, as far as the generator can tell."""

    def __init__(self, name: str, base: str, like: _Stage | None) -> None:
        self.name, self.base = name, base
        self.shell = base != "scratch" if like is None else like.shell
        self.files = list(like.files) if like else (["/etc/motd", "/etc/passwd"] if self.shell else [])
        self.folders = list(like.folders) if like else (["/etc", "/tmp"] if self.shell else [])
        self.links = list(like.links) if like else []
        self.user = like.user if like else ""
        self.cwd = like.cwd if like else "/"
        self.vars = list(like.vars) if like else []
        self.lines: list[str] = []


class _Generator:
    def __init__(self, rng: random.Random, features: frozenset[str]) -> None:
        self.r = rng
        self.features = features
        self.number = 0
        self.context: dict[str, Node] = {}
        self.named: dict[str, Node] = {}
        self.stages: list[_Stage] = []
        self.global_args: list[str] = []

    def has(self, feature: str) -> bool:
        return feature in self.features

    def chance(self, p: float) -> bool:
        return self.r.random() < p

    def word(self) -> str:
        """A word that no other place of the case has."""
        self.number += 1
        return f"{self.r.choice(_WORDS)}{self.number}"

    # -------------------------------------------------------------------------------------------- contexts
    def tree(self, size: int) -> dict[str, Node]:
        out: dict[str, Node] = {}
        folders = [""]
        for name in self.r.sample(_FOLDERS, self.r.randint(1, 4)):
            for depth in range(name.count("/") + 1):
                path = "/".join(name.split("/")[: depth + 1])
                out[path] = Node("dir", mode=self.r.choice(_FOLDER_MODES))
                folders.append(path)
        for _ in range(size):
            folder = self.r.choice(folders)
            odd = _ODD + (_CONTROL if self.has("control") else ())
            name = self.r.choice(odd if self.has("odd") and self.chance(0.25) else _PLAIN)
            path = f"{folder}/{name}" if folder else name
            if path not in out and path != "Dockerfile":
                out[path] = self.node(path, out)
        return tidy(out)

    def node(self, path: str, tree: dict[str, Node]) -> Node:
        files = [p for p, n in tree.items() if n.kind == "file"]
        kind = self.r.random()
        if kind < 0.16:
            near = os.path.relpath(self.r.choice(list(tree) or ["a"]), os.path.dirname(path) or ".")
            strange = [os.path.basename(path), "nowhere", "..", "/etc"] if self.chance(0.25) else [near]
            target = self.r.choice([*strange, near, "/" + self.r.choice(list(tree) or ["a"])])
            return mtime_of(Node("symlink", link=target))
        if kind < 0.22 and files:
            return Node("hardlink", link=self.r.choice(files))
        if kind < 0.24 and self.has("fifo"):
            return Node("fifo", mode=0o644)
        if kind < 0.32 and self.has("unpack"):
            return mtime_of(Node("file", data=self.archive()))
        data = self.r.choice([f"{self.word()}\n".encode(), b"", f"{self.word()} {'long ' * 2000}".encode(), b"same\n"])
        xattrs: tuple[tuple[str, bytes], ...] = ()
        if self.has("xattrs") and self.chance(0.08):
            xattrs = (("user.mark", self.word().encode()),)
        owner = self.r.choice([(0, 0), (0, 0), (1000, 1001), (3, 4)])
        return mtime_of(Node("file", data=data, mode=self.r.choice(_MODES), owner=owner, xattrs=xattrs))

    def archive(self) -> bytes:
        members: list[tuple[str, bytes | None, int]] = [
            ("t/", None, 0o750),
            ("t/f", self.word().encode(), 0o640),
            ("top", b"top\n", 0o644),
        ]
        if self.chance(0.5):
            members.append(("t/l", b"-> f", 0o777))
        return tar_of(members, self.r.choice(["", "gz", "bz2", "xz"]))

    def ignore(self) -> tuple[str, ...] | None:
        if self.chance(0.65):
            return None
        plain = [p for p in self.context if "\\" not in p and "[" not in p]
        if self.chance(0.8):  # what is not copied by its name: the build goes on without it
            text = "".join(line for s in self.stages for line in s.lines)
            plain = [p for p in plain if p.split("/")[0] not in text]
        names = [os.path.basename(p) for p in plain] or ["none"]
        paths = plain or ["none"]
        forms: list[Callable[[], str]] = [
            lambda: self.r.choice(paths),
            lambda: "**/" + self.r.choice(names),
            lambda: "/" + self.r.choice(paths),
            lambda: self.r.choice(paths) + "/",
            lambda: "!" + self.r.choice(paths),
            lambda: "!**/" + self.r.choice(names),
            lambda: self.r.choice(["*.txt", "# comment", "", "*/b*", "?", "**/*.md", ".git"]),
        ]
        lines = [self.r.choice(forms)() for _ in range(self.r.randint(1, 4))]
        if self.chance(0.1):
            lines.insert(0, "*")
            lines += [f"!{p}" for p in self.r.sample(paths, min(3, len(paths)))]
        return tuple(lines)

    # -------------------------------------------------------------------------------------------- Dockerfile
    def case(self, seed: int) -> Case:
        self.context = self.tree(self.r.randint(4, 14))
        if self.has("named"):
            self.named = self.tree(self.r.randint(2, 5))
        head: list[str] = []
        args: list[tuple[str, str]] = []
        if self.chance(0.15):
            head.append("# syntax=docker/dockerfile:1")
        for name in self.r.sample(["GA", "GB"], self.r.choice([0, 0, 1, 2])):
            head.append(f"ARG {name}={self.word()}" if self.chance(0.7) else f"ARG {name}")
            self.global_args.append(name)
        for number in range(self.r.choice([1, 2, 2, 3, 3, 4])):
            self.stage(number)
        self.gather()
        ignore = self.ignore()
        for name in ("GA", "LA", "LB"):
            if self.chance(0.4):
                args.append((name, self.word()))
        stages = tuple(Stage(s.name, s.base, tuple(s.lines)) for s in self.stages)
        return Case(seed, tuple(head), stages, self.context, ignore, self.named, tuple(args), inside=self.chance(0.4))

    def gather(self) -> None:
        """The last stage takes something of those that nothing else needs: what is not needed is not built."""
        last = self.stages[-1]
        text = "".join(line for s in self.stages for line in s.lines)
        for other in self.stages[:-1]:
            used = f"from={other.name}" in text or any(s.base == other.name for s in self.stages)
            if not used and (paths := [p for p in other.files + other.folders if p not in ("/etc/passwd", "/etc", "/tmp")]):
                flags = [f"--from={other.name}", *self.flags(last)]
                last.lines.append(self.copying(last, "COPY", flags, [self.r.choice(paths[-3:])], self.destination(last)))

    def stage(self, number: int) -> None:
        bases = ["base", "base", "base", "scratch", *(s.name for s in self.stages), *(s.name for s in self.stages)]
        base = self.r.choice(bases)
        like = next((s for s in self.stages if s.name == base), None)
        s = _Stage(f"s{number}", base, like)
        for _ in range(self.r.randint(2, 9)):
            self.instruction(s)
        if not s.lines:
            s.lines.append(f"ENV E={self.word()}")
        self.stages.append(s)

    def instruction(self, s: _Stage) -> None:
        choices: list[tuple[float, Callable[[_Stage], str | None]]] = [
            (8, self.copy), (3, self.add), (3, self.copy_from), (1, self.heredoc_copy), (8, self.run), (2, self.run_mount),
            (1, self.run_heredoc), (1.5, self.workdir), (1, self.env), (1, self.arg), (0.7, self.user), (1.5, self.metadata),
            (0.3, self.shell), (0.3, self.onbuild), (0.3, self.comment),
        ]  # fmt: skip
        pick = self.r.choices([c for _, c in choices], [w for w, _ in choices])[0]
        line = pick(s)
        if line is not None:
            s.lines.append(line)

    def expanding(self, s: _Stage, text: str) -> str:
        """Put a variable into a destination now and then."""
        if s.vars and self.chance(0.3):
            name = self.r.choice(s.vars)
            forms = [f"${name}", f"${{{name}}}", f"${{{name}:-dflt}}", f"${{{name}:+alt}}"]
            if self.has("expand"):
                forms += [f"${{{name}%e*}}", f"${{{name}#o}}"]
            form = self.r.choice(forms)
            return f"{text.rstrip('/')}/{form}"
        return text

    def destination(self, s: _Stage) -> str:
        name = self.word()
        pool = [f"/{name}/", f"/{name}/", f"/{name}", f"{name}/", f"./{name}", f"/opt/{name}/sub/", "/"]
        if s.folders:
            pool += [self.r.choice(s.folders) + "/", self.r.choice(s.folders), self.r.choice(s.folders) + "/" + name]
        if s.files and self.chance(0.3):
            pool.append(self.r.choice(s.files))
        if s.links:
            pool += [self.r.choice(s.links) + "/"] * 2
        return self.expanding(s, self.r.choice(pool))

    def sources(self, tree: dict[str, Node], *, top: str = "") -> list[str]:
        """One to three sources of COPY, patterns among them; characters of patterns are escaped where they are none."""
        paths = [p for p in tree if self.chance(0.05) or _leads_somewhere(p, tree)] or ["a"]
        out = []
        for _ in range(self.r.choice([1, 1, 1, 2, 3])):
            path = self.r.choice(paths)
            escaped = _pattern(path)
            folder, name = os.path.split(path)
            prefix = _pattern(folder) + "/" if folder else ""
            forms = [escaped] * 6 + [
                f"{top}{escaped}",
                f"./{escaped}",
                f"{prefix}*",
                f"{prefix}{_first(name)}*",
                f"{prefix}?*",
                ".",
            ]
            forms.append("**/*.txt" if self.has("parents") else "*.txt")
            if self.chance(0.2):
                forms = [f"{prefix}[a-m]*", "*/*.txt", escaped + "/"]
            out.append(self.r.choice(forms))
        return list(dict.fromkeys(out))

    def flags(self, s: _Stage, *, add: bool = False, from_: bool = False) -> list[str]:
        out = []
        if self.chance(0.25):
            pool = [o for o in _OWNERS if s.shell or self.chance(0.004) or not any(c.isalpha() for c in o)]
            out.append(f"--chown={self.r.choice(pool)}")
        if self.has("chmod") and self.chance(0.2):
            symbolic = self.has("link")
            out.append(f"--chmod={self.r.choice(_CHMODS if symbolic else _CHMODS[:2])}")
        if self.has("link") and self.chance(0.2):
            out.append("--link")
        if self.has("parents") and not add and self.chance(0.12):
            out.append("--parents")
        if self.has("exclude") and self.chance(0.12):
            out.append(f"--exclude={self.r.choice(['*.txt', '**/a', 'src', '*', '**/*.txt', 'd/**', '!a'])}")
        self.r.shuffle(out)
        return out

    def copying(self, s: _Stage, keyword: str, flags: list[str], sources: list[str], destination: str) -> str:
        if len(sources) > 1 and not destination.endswith("/"):
            destination += "/"
        if "--parents" in flags and self.chance(0.95):
            sources = [s for s in sources if s.strip("./")] or ["*"]  # BuildKit requires a name for each
        words = [*(_word(source) for source in sources), destination]
        plain = not any(set(source) & set(" \t#") or source[0] in "-<~" for source in sources)
        body = " ".join(words) if plain and self.chance(0.8) else json.dumps(words, ensure_ascii=False)
        self.learn(s, destination, sources, flags)
        return " ".join([keyword, *flags, body])

    def learn(self, s: _Stage, destination: str, sources: list[str], flags: list[str]) -> None:
        if "$" in destination:
            return
        path = os.path.normpath(os.path.join(s.cwd, destination))
        if len(sources) == 1 and not set(sources[0]) & set("*?[\\"):
            node = self.context.get(sources[0].strip("./"))
            if node is not None and node.kind == "file" and "--parents" not in flags:
                s.files.append(os.path.join(path, os.path.basename(sources[0])) if destination.endswith("/") else path)
                if destination.endswith("/"):
                    s.folders.append(path)
                return
        s.folders.append(path)

    def copy(self, s: _Stage) -> str:
        if self.named and self.chance(0.12):
            return self.copying(s, "COPY", ["--from=nctx", *self.flags(s)], self.sources(self.named, top="/"), self.destination(s))
        return self.copying(s, "COPY", self.flags(s), self.sources(self.context, top="/"), self.destination(s))

    def add(self, s: _Stage) -> str:
        archives = [p for p, n in self.context.items() if n.kind == "file" and len(n.data) > 100 and not set(p) & set("\\*?[")]
        sources = [self.r.choice(archives)] if archives and self.chance(0.7) else self.sources(self.context, top="/")
        return self.copying(s, "ADD", self.flags(s, add=True), sources, self.destination(s))

    def copy_from(self, s: _Stage) -> str | None:
        others = [o for o in self.stages if o.files or o.folders]
        if not others or self.chance(0.1):
            source = self.r.choice(["/etc/motd", "/etc", "/etc/*wd", "/bin/busybox"])
            return self.copying(s, "COPY", ["--from=base", *self.flags(s, from_=True)], [source], self.destination(s))
        other = self.r.choice(others)
        path = self.r.choice(other.files + other.folders)
        folder, name = os.path.split(path)
        form = self.r.choice([path, path, path, path + "/", f"{folder.rstrip('/')}/{_first(name)}*", folder or "/"])
        which = str(self.stages.index(other)) if self.chance(0.15) else other.name
        flags = [f"--from={which}", *self.flags(s, from_=True)]
        return self.copying(s, "COPY", flags, [form], self.destination(s))

    def heredoc_copy(self, s: _Stage) -> str | None:
        if not self.has("heredoc"):
            return None
        path = self.destination(s)
        quote = self.r.choice(["EOT", '"EOT"', "-EOT"])
        keyword = self.r.choice(["COPY", "ADD"])
        if self.chance(0.3):
            return f"{keyword} <<A <<B /{self.word()}/\n{self.word()}\nA\n$E {self.word()}\nB"
        if not path.endswith("/"):
            s.files.append(os.path.normpath(os.path.join(s.cwd, path)))
        return (
            " ".join([keyword, *self.flags(s, add=keyword == "ADD"), f"<<{quote}", path])
            + f"\n{self.word()} $LA \\$x\n\ttabbed\nEOT"
        )

    # -------------------------------------------------------------------------------------------- RUN
    def place(self, s: _Stage) -> str:
        """A new path to write to, which the user of the stage may."""
        if s.user not in ("", "root", "0"):
            return f"/tmp/{self.word()}"
        folders = [f for f in s.folders if f not in ("/", "/tmp")]
        return f"{self.r.choice(folders)}/{self.word()}" if folders and self.chance(0.4) else f"/{self.word()}"

    def command(self, s: _Stage) -> str | None:
        """A command that leaves a trace in the file system, the same every time."""
        q = shlex.quote
        new, word = self.place(s), self.word()
        parent = os.path.dirname(new)
        old_file = self.r.choice(s.files) if s.files else None
        old_folder = self.r.choice([f for f in s.folders if f not in ("/", "/etc", "/tmp")] or ["/nothing"])
        root = s.user in ("", "root", "0")
        # overlayfs renames no folder of a lower layer and mv copies it, with other times of links than a rename leaves.
        timed = "find {} -exec touch -h -d @1234567890 {{}} +"
        made_file = f"mkdir -p {q(parent)} && echo {word} > {q(new)}"
        forms: list[Callable[[], str]] = []

        def form(text: str, *, file: str = "", folder: str = "", gone: str = "", link: str = "", weight: int = 1) -> None:
            def use() -> str:
                if gone:
                    s.files[:] = [f for f in s.files if f != gone and not f.startswith(gone + "/")]
                    s.folders[:] = [f for f in s.folders if f != gone and not f.startswith(gone + "/")]
                    s.links[:] = [f for f in s.links if f != gone and not f.startswith(gone + "/")]
                s.files.extend([file] if file else [])
                s.folders.extend([folder] if folder else [])
                s.links.extend([link] if link else [])
                return text

            forms.extend([use] * weight)

        form(made_file, file=new, weight=3)
        form(
            f"mkdir -p {q(new)}/in/side && echo {word} > {q(new)}/f && echo {word} > {q(new)}/in/g",
            file=f"{new}/f",
            folder=new,
            weight=2,
        )
        form(f"mkdir -p {q(parent)} && pwd > {q(new)}; id -u >> {q(new)}; id -G >> {q(new)}; umask >> {q(new)}", file=new)
        form(f'mkdir -p {q(parent)} && echo "$LA ${{LB:-none}} $E $GA" > {q(new)}', file=new, weight=2)
        form("true")
        form(
            f"mkdir -p {q(new)} && ln -s nowhere {q(new)}/dangling && ln -s . {q(new)}/loop && ln -s /etc {q(new)}/abs",
            folder=new,
            link=f"{new}/abs",
        )
        # Nothing later is told of these: overlayfs parts the names of a lower file when one of them changes, native does not.
        form(f"mkdir -p {q(new)} && echo {word} > {q(new)}/h1 && ln {q(new)}/h1 {q(new)}/h2")
        form(f"mkdir -p {q(parent)} && truncate -s 50000 {q(new)} && echo {word} >> {q(new)}", file=new)
        form(f"mkdir -p {q(parent)} && echo {word} > {q(new)} && touch -d @1234567890 {q(new)} && chmod 4711 {q(new)}", file=new)
        if self.has("fifo"):
            form(f"mkdir -p {q(parent)} && mkfifo {q(new)}")
        if not root:
            return self.r.choice(forms)()
        # Not of /etc: what is mounted there is as large as a builder makes it.
        watched = " ".join(q(f) for f in dict.fromkeys(f for f in s.folders if f not in ("/", "/etc")))
        if watched:
            form(
                f"find {watched} -exec stat -c '{_LINES}' {{}} + 2>/dev/null | grep -v ' directory ' | sort -u > {q('/' + word)}",
                file=f"/{word}",
            )
        if old_file is not None and old_file != "/etc/passwd":
            f = q(old_file)
            form(f"rm -rf {f}", gone=old_file)
            form(f"rm -rf {f} && echo {word} > {f}", file=old_file)
            form(f"rm -rf {f} && mkdir {f} && echo {word} > {f}/x", folder=old_file, file=f"{old_file}/x", gone=old_file)
            form(f"chmod 0751 {f}")
            form(f"chown 77:88 {f}")
            form(f"mkdir -p {q(parent)} && mv {f} {q(new)}", gone=old_file, file=new)
            form(f"mkdir -p {q(parent)} && cp -a {f} {q(new)}", file=new)
            form(f"cp {f} {f}.new && rm -rf {f} && mv {f}.new {f}")
        if old_folder != "/nothing":
            d = q(old_folder)
            form(f"rm -rf {d}", gone=old_folder)
            form(
                f"rm -rf {d} && mkdir -p {d} && echo {word} > {d}/new",
                gone=old_folder,
                folder=old_folder,
                file=f"{old_folder}/new",
                weight=2,
            )
            form(f"rm -rf {d} && mkdir -p {q(os.path.dirname(old_folder))} && echo {word} > {d}", gone=old_folder, file=old_folder)
            form(
                f"mkdir -p {q(parent)} && mv {d} {q(new)}.moved && {timed.format(q(new) + '.moved')}",
                gone=old_folder,
                folder=f"{new}.moved",
            )
            form(f"chmod 2750 {d}")
            form(f"chown -R 1000:1001 {d}")
            form(f"rm -rf {d} && ln -s /etc {d}", gone=old_folder, link=old_folder)
            form(f"mkdir -p {d} && rm -rf {d}/* && echo {word} > {d}/only", folder=old_folder, file=f"{old_folder}/only")
            form(
                f"mv {d} {d}.aside && mkdir {d} && mv {d}.aside {d}/in && {timed.format(d)}",
                gone=old_folder,
                folder=f"{old_folder}/in",
            )
        if self.chance(0.02):
            return "echo it fails; exit 3"
        return self.r.choice(forms)()

    def run(self, s: _Stage) -> str | None:
        if not s.shell:
            return None
        command = self.command(s)
        if command is None:
            return None
        more = self.command(s) if self.chance(0.3) else None
        if more:
            command = f"{command} ;{self.r.choice([' ', ' ' + chr(92) + chr(10) + '  '])}{more}"
        if self.chance(0.85):
            command += " || true"  # what is thought to be there may not be
        if self.chance(0.12) and "\n" not in command:
            return "RUN " + json.dumps(["sh", "-c", command], ensure_ascii=False)
        if self.has("expand") and self.chance(0.05):
            return f"RUN --network=none {command}"
        return f"RUN {command}"

    def run_heredoc(self, s: _Stage) -> str | None:
        if not s.shell or not self.has("heredoc"):
            return None
        first = self.command(s)
        if self.chance(0.3):
            return f"RUN <<EOT cat > /tmp/{self.word()}\n{self.word()} $LA\nEOT"
        shebang = "#!/bin/sh\n" if self.chance(0.3) else ""
        return f'RUN <<EOT\n{shebang}{first}\necho "$0" > /dev/null\nEOT'

    def run_mount(self, s: _Stage) -> str | None:
        if not s.shell:
            return None
        new = self.place(s)
        out = f"mkdir -p {shlex.quote(os.path.dirname(new))} && "
        others = [o for o in self.stages if o.files]
        folder = next(
            (p for p, n in self.context.items() if n.kind == "dir" and n.mode & 0o5 == 0o5 and not set(p) & set(" ,'\"=")), None
        )
        target = f"/mnt/{self.word()}"
        listing = "-exec stat -c '%F %a %s' {} + | grep -v directory | sort"
        forms = [
            f"RUN --mount=type=cache,target={target} touch {target}/x; {out}echo cached > {new}",
            f"RUN --mount=type=cache,id=shared,target={target},uid=1000,mode=0770 ls -d {target} > /dev/null; {out}echo c > {new}",
            f"RUN --mount=type=tmpfs,target={target} echo x > {target}/gone; {out}stat -c '%a %u:%g' {target} > {new}",
            f"RUN --mount=type=secret,id=tok test -s /run/secrets/tok; {out}stat -c '%a %u:%g %s' /run/secrets/tok > {new}",
            f"RUN --mount=type=secret,id=tok,target={target},mode=0444,uid=5 {out}stat -c '%a %u:%g' {target} > {new}",
            f"RUN --mount=type=bind,target={target} {out}(find {target} -type f {listing}) > {new} 2>/dev/null",
        ]
        if folder is not None:
            forms.append(f"RUN --mount=source={folder},target={target} {out}ls -A {target} > {new}; echo x > {target}/ro || true")
            forms.append(
                f"RUN --mount=type=bind,source={folder},target={target},rw echo x > {target}/rw; {out}(ls -A {target}) > {new}"
            )
        if others:
            other = self.r.choice(others)
            seen = f"--mount=type=bind,from={other.name},target={target}"
            forms.append(f"RUN {seen} {out}(ls -A {target}/etc {target} | sort) > {new} 2>/dev/null")
            filled = f"--mount=type=cache,from={other.name},source=/,target={target},sharing=private"
            forms.append(f"RUN {filled} ls {target} >/dev/null; {out}echo {self.word()} > {new}")
        s.files.append(new)
        return self.r.choice(forms)

    # -------------------------------------------------------------------------------------------- the rest
    def workdir(self, s: _Stage) -> str:
        pool = [f"/w/{self.word()}", self.word(), f"{self.word()}/sub", "..", "/", f"/w/../{self.word()}"]
        if s.links:
            pool += [self.r.choice(s.links), self.r.choice(s.links) + "/" + self.word()]
        if s.folders:
            pool.append(self.r.choice(s.folders))
        path = self.r.choice(pool)
        s.cwd = os.path.normpath(os.path.join(s.cwd, path))
        if s.cwd != "/":
            s.folders.append(s.cwd)
        text = self.expanding(s, path)
        if text != path:
            s.cwd = "/nothing"
        return f"WORKDIR {text}"

    def env(self, s: _Stage) -> str:
        name = self.r.choice(["E", "F", "G"])
        s.vars.append(name)
        value = self.r.choice(
            [self.word(), f'"{self.word()} quoted"', f"${{E:-{self.word()}}}x", f"a$LA{self.word()}", f"'{self.word()} $E'"]
        )
        return self.r.choice([f"ENV {name}={value}", f"ENV {name}={value} H={self.word()}", f"ENV {name} {self.word()} and more"])

    def arg(self, s: _Stage) -> str:
        if self.global_args and self.chance(0.4):
            name = self.r.choice(self.global_args)
            s.vars.append(name)
            return f"ARG {name}"
        name = self.r.choice(["LA", "LB"])
        s.vars.append(name)
        return self.r.choice([f"ARG {name}", f"ARG {name}={self.word()}", f"ARG {name}=${{E}}x", f"ARG {name}={self.word()} LB=z"])

    def user(self, s: _Stage) -> str | None:
        if not s.shell:
            return None
        s.user = self.r.choice(["app", "root", "1000:1001", "app:root", "0", "1234", "root"])
        return f"USER {s.user}"

    def metadata(self, s: _Stage) -> str:
        return self.r.choice(
            [
                f"LABEL {self.word()}={self.word()}",
                'LABEL "a b"="c d" x="$E"',
                f"EXPOSE {self.r.randint(1, 65535)}/{self.r.choice(['tcp', 'udp'])} 80",
                f"VOLUME /vol/{self.word()}",
                'VOLUME ["/v1", "/v2"]',
                f"CMD echo {self.word()}",
                f'CMD ["x", "{self.word()}"]',
                f'ENTRYPOINT ["/{self.word()}"]',
                "STOPSIGNAL SIGUSR1",
                "HEALTHCHECK NONE",
                f"HEALTHCHECK --interval=5s --retries=3 CMD test -f /{self.word()}",
                "MAINTAINER somebody",
            ]
        )

    def shell(self, s: _Stage) -> str | None:
        return self.r.choice(['SHELL ["/bin/sh", "-ec"]', 'SHELL ["/bin/busybox", "sh", "-c"]']) if s.shell else None

    def onbuild(self, s: _Stage) -> str | None:
        if not self.has("onbuild"):
            return None
        run = [f"ONBUILD RUN echo {self.word()} > /tmp/{self.word()}"] if s.shell else []
        return self.r.choice(
            [*run, f"ONBUILD ENV OB={self.word()}", f"ONBUILD LABEL ob={self.word()}", f"ONBUILD WORKDIR /{self.word()}"]
        )

    def comment(self, s: _Stage) -> str:
        return f"# {self.word()}"


def _pattern(path: str) -> str:
    """A pattern of COPY that means this path and nothing else (Dockerfile reference: ``COPY arr[[]0].txt``).

    Not ``[*]``: BuildKit's client looks for files by moby's patternmatcher, in which a star is none of a class.
    """
    return "".join({"[": "[[]", "*": "\\*", "?": "\\?", "\\": "\\\\"}.get(c, c) for c in path)


def _word(text: str) -> str:
    """What expands to ``text``: words are expanded in the JSON form too."""
    return "".join("\\" + c if c in "\\'\"$" else c for c in text)


def _leads_somewhere(path: str, tree: dict[str, Node]) -> bool:
    """Whether a path is no link, or one to a file; what is below a folder's name is not looked at."""
    for _ in range(5):
        node = tree.get(path)
        if node is None or node.kind != "symlink":
            return node is not None
        target = node.link
        path = target.strip("/") if target.startswith("/") else os.path.normpath(os.path.join(os.path.dirname(path), target))
    return False


def _first(name: str) -> str:
    """A first character for a pattern that is none itself."""
    return "?" if name[:1] in "\\*?[" or not name else name[0]
