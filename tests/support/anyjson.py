"""JSON documents that somebody else wrote: whatever they liked."""

from __future__ import annotations

import copy
import json
from typing import Any

from hypothesis import strategies as st

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@st.composite
def spoilt(draw: st.DrawFn, document: dict[str, Any]) -> bytes:
    """``document`` with something in it that is another thing, or nothing of it."""
    root: list[Any] = [copy.deepcopy(document)]
    at: Any = root
    while True:
        key = draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
        if isinstance(at[key], dict | list) and at[key] and draw(st.integers(0, 5)):
            at = at[key]
            continue
        at[key] = draw(VALUES)
        return json.dumps(root[0]).encode()
