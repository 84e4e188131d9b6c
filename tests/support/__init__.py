"""What integration tests stand on: real registries, daemons and base images, and ways to look at what a build made."""
