"""The one tar reader and the one tar writer: layers, archives to ADD, exports. Nothing of ``tarfile`` is used.

``reader`` is hardened against hostile archives and never touches a disk; ``writer`` gives the bytes Go's archive/tar gives.
"""

from builder.files.tar.entry import BLOCK, CHAR, DIR, FIFO, LINK, REG, SYMLINK, Entry
from builder.files.tar.reader import Limits, TarReader
from builder.files.tar.writer import TarWriter

__all__ = ["BLOCK", "CHAR", "DIR", "FIFO", "LINK", "REG", "SYMLINK", "Entry", "Limits", "TarReader", "TarWriter"]
