"""FileOp: COPY, ADD, WORKDIR and their kin. ``FileOp`` is the operation; what it does to a root is in ``actions`` and ``copy``."""
