#!/bin/sh
# The demo of `make demo`: a base image from busybox-static, a multi-stage build on it, the same build again from the cache.
set -eu
cd "$(dirname "$0")"
busybox=$(command -v busybox)
work=${DEMO_DIR:-$(mktemp -d /tmp/pybuild-demo.XXXXXX)}
export PYBUILD_ROOT="$work/root"
mkdir -p "$work/base-context"
cp "$busybox" "$work/base-context/busybox"

echo "== 1. A base image from $busybox, as an OCI layout in $work/base"
pybuild -f base.Dockerfile --output "type=oci,tar=false,dest=$work/base" "$work/base-context"

echo
echo "== 2. A multi-stage build on it"
pybuild -f Dockerfile -t demo --build-context "base=oci-layout://$work/base" .

echo
echo "== 3. The same again: every step comes from the cache"
pybuild -f Dockerfile -t demo --build-context "base=oci-layout://$work/base" .

echo
echo "== 4. The image"
pybuild images
pybuild save -o "$work/demo.tar" demo
cat <<EOT

The image is \`demo\` in pybuild's store ($PYBUILD_ROOT), and as an archive in $work/demo.tar.
Run it with docker:   docker load -i $work/demo.tar && docker run --rm -p 8080:8080 demo
or with podman:       podman load -i $work/demo.tar && podman run --rm -p 8080:8080 demo
or look inside:       PYBUILD_ROOT=$PYBUILD_ROOT pybuild images
EOT
