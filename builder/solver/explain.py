from __future__ import annotations


class Explanations:
    def executed(self, *a: object) -> None: ...
