"""Build a Dockerfile from Python, watching it: python build.py CONTEXT [ARCHIVE]."""

import sys

from builder import BuildError, BuildRequest, Log, OutputSpec, Root, VertexCompleted


def main(context: str, archive: str = "") -> int:
    outputs = (OutputSpec.parse(f"type=oci,dest={archive}"),) if archive else ()
    with Root.open() as root:
        build = root.build(BuildRequest(context=context, outputs=outputs))
        for event in build.events():
            if isinstance(event, VertexCompleted):
                print("cached" if event.cached else "failed" if event.error else "done  ", event.name)
            elif isinstance(event, Log):
                print(event.data.decode(errors="replace"), end="")
        try:
            result = build.result()
        except BuildError as e:
            print(f"the build failed: {e}")
            return 1
        for target in result.targets:
            print(target.platform, result.digest or "(no image was asked for)")
            if target.record is not None:
                with root.mount(target.record) as folder:
                    print("its files can be read at", folder)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
