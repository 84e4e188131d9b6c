"""What one build may use of the caller: folders, secrets, ssh agents, entitlements (BuildKit's session, without a wire)."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping, Sequence

from builder.oci.digest import Digest
from builder.values import dataclass, field


@dataclass(frozen=True, slots=True)
class Session:
    """``locals``: context name -> folder, read in place. ``oci_layouts``: build context name -> layout folder.

    ``secret`` gives the value of a secret or None; it is asked when a step runs, and nothing keeps the answer.
    ``ssh`` maps an agent id to the socket that --ssh named. ``allow`` holds the entitlements that were granted
    (``network.host``, ``security.insecure``, ``device``). ``id`` is random: part of the key of every local source, because what a
    folder holds is known only while this session looks at it. ``runs``: see ``builder.ops.ahead``.
    """

    locals: Mapping[str, str] = field(default_factory=dict)
    oci_layouts: Mapping[str, str] = field(default_factory=dict)
    secret: Callable[[str], bytes | None] = lambda _: None
    ssh: Mapping[str, str] = field(default_factory=dict)
    allow: frozenset[str] = frozenset()
    id: bytes = field(default_factory=lambda: os.urandom(16))
    runs: dict[Digest, Callable[[], None]] = field(default_factory=dict)

    @classmethod
    def of(
        cls, *, locals: Mapping[str, str] | None = None, secrets: Mapping[str, bytes] | None = None, allow: Sequence[str] = ()
    ) -> Session:
        """For graphs made by hand: folders by context name, values of secrets by id, entitlements."""
        folders = {name: os.path.abspath(folder) for name, folder in (locals or {}).items()}
        return cls(folders, {}, dict(secrets or {}).get, {}, frozenset(allow))
