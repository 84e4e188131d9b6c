"""A build from its request to its outputs, as a library: it knows no terminal, no flags and no exit codes."""
