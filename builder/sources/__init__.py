"""Where root filesystems and files come from: images, local folders, git, http(s), OCI layouts."""
