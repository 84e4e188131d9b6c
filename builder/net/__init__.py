"""The way to registries and web servers: one HTTP transport, authentication, and the distribution-spec client."""
