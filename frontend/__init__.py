"""The Dockerfile frontend: text in, graph out. Imports nothing of the engine but ``builder.graph``."""
