# A base image out of one static binary: no registry, no download.
FROM scratch
COPY busybox /bin/busybox
RUN ["/bin/busybox", "sh", "-c", "/bin/busybox mkdir -p /tmp /root /usr/bin /usr/sbin /sbin && /bin/busybox --install -s"]
COPY <<EOT /etc/passwd
root:x:0:0:root:/root:/bin/sh
nobody:x:65534:65534:nobody:/nonexistent:/bin/false
EOT
COPY <<EOT /etc/group
root:x:0:
nogroup:x:65534:
EOT
ENV PATH=/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin
CMD ["sh"]
