mkdir -p t/d; echo 1 > t/one; echo 2 > t/d/two; chmod 640 t/one; ln -s one t/link; ln t/one t/hard; mkfifo t/fifo
touch -h -d '2005-05-05 05:05:05 UTC' t/one t/link t/fifo t/d/two t/d t
tar --owner=0 --group=0 --numeric-owner --sort=name -cf plain.tar -C t .
tar --owner=7 --group=8 --numeric-owner --sort=name -cf tree.tar -C t d one link hard fifo
gzip -nk tree.tar; xz -k tree.tar; bzip2 -k tree.tar; rm -r t tree.tar
printf 'no gzip' > not-an-archive.gz
