"""Build caches that travel: written to and read from registries, folders and images in BuildKit's format (cache/remotecache).

``config`` and ``manifest`` are the documents, ``chains`` makes them of the solver's records, ``imported`` makes stores of them for
the solver, ``places`` are where they lie, and ``session`` is what a build uses.
"""
