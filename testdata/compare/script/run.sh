set -e
mkdir -p /made/a/b
for i in 1 2 3; do echo $i > /made/a/$i; done
ln /made/a/1 /made/a/b/hard
