"""A graph without a Dockerfile: two branches that are built side by side, and merged: python graph.py BASE FOLDER."""

import os
import sys

from builder import Root, Session, VertexCompleted, llb


def main(base: str, folder: str) -> int:
    source = llb.local("source")
    root_fs = llb.image(base)
    words = root_fs.mkdir("/out").copy(source, "/", "/in").run("cat /in/* | wc -w > /out/words")
    lines = root_fs.mkdir("/out").copy(source, "/", "/in").run("cat /in/* | wc -l > /out/lines")
    both = llb.merge([llb.diff(root_fs, words), llb.diff(root_fs, lines)])

    def show(event: object) -> None:
        if isinstance(event, VertexCompleted):
            print("cached" if event.cached else "done  ", event.name)

    with Root.open() as root:
        (record,) = root.solve([both], Session.of(locals={"source": folder}), show)
        with root.mount(record) as files:
            for name in sorted(os.listdir(f"{files}/out")):
                with open(f"{files}/out/{name}", encoding="ascii") as file:
                    print(name, file.read().strip())
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
