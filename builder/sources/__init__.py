"""Where builds start: images, OCI layouts, local contexts, git repositories and http files, each as a ref."""
