"""The engine: graph, solver, operations, cache, content, snapshots, exporters and the command line.

Import the subpackages you need; nothing is loaded from here, because start-up time is a feature.
"""
