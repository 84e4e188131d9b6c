"""Resource limits by the names of ``docker build --ulimit``."""

from __future__ import annotations

# Numbers of setrlimit(2): the same on all architectures that pybuild knows.
NUMBERS = {
    "cpu": 0, "fsize": 1, "data": 2, "stack": 3, "core": 4, "rss": 5, "nproc": 6, "nofile": 7, "memlock": 8, "locks": 10,
    "sigpending": 11, "msgqueue": 12, "nice": 13, "rtprio": 14, "rttime": 15,
}  # fmt: skip
