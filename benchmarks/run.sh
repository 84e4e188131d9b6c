#!/bin/sh
# Wall times with hyperfine (medians): start-up, the demo cold and cached, import time of a cached build.
# With BUILDER="docker build ..." in the environment the cached build is measured beside it.
set -eu
cd "$(dirname "$0")/../examples/demo"
command -v hyperfine >/dev/null || { echo "hyperfine is missing: apt-get install hyperfine" >&2; exit 1; }
work=$(mktemp -d /tmp/pybuild-bench.XXXXXX)
trap 'rm -rf "$work"' EXIT
mkdir "$work/context"
cp "$(command -v busybox)" "$work/context/busybox"
PYBUILD_ROOT="$work/base-root" pybuild -q -f base.Dockerfile --output "type=oci,tar=false,dest=$work/base" "$work/context" >/dev/null

export PYBUILD_ROOT="$work/root"
build="pybuild -q -t demo --build-context base=oci-layout://$work/base ."
hyperfine -N --warmup 3 --export-json "$work/version.json" "pybuild --version"
hyperfine -N --runs 5 --prepare "rm -rf $PYBUILD_ROOT" --export-json "$work/cold.json" "$build"
$build >/dev/null
if [ -n "${BUILDER:-}" ]; then
    hyperfine -N --warmup 3 --export-json "$work/cached.json" "$build" "$BUILDER"
else
    hyperfine -N --warmup 3 --export-json "$work/cached.json" "$build"
fi
python3 - "$work" <<'PY'
import json, sys
for name in ("version", "cold", "cached"):
    for r in json.load(open(f"{sys.argv[1]}/{name}.json"))["results"]:
        print(f"{name:8} median {r['median'] * 1000:7.1f} ms   {r['command'][:60]}")
PY
python3 -X importtime -c "import sys; sys.argv = '$build'.split()[0:]; from builder.cli.main import main; main(sys.argv[1:])" 2>&1 >/dev/null |
    awk -F'[:|]' '/import time/ && $2 + 0 > 0 {sum += $2} END {printf "imports  sum    %7.1f ms   of a cached build\n", sum / 1000}'
