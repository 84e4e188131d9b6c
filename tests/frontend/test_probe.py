"""The program that answers questions about the language runs as the suite that asks runs it."""

from __future__ import annotations

import json
import os
import subprocess
import sys

PROBE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "probe.py")


def test_each_kind_of_question_is_answered() -> None:
    asked = [
        {"op": "parse", "dockerfile": "FROM a\nRUN b\n"},
        {"op": "shell-word", "word": "${A:-x}y", "env": ["A=1", "A=2"]},
        {"op": "shell-words", "word": "a 'b c'", "env": []},
        {"op": "shell-word", "word": "${", "env": []},
    ]
    lines = "".join(json.dumps(request) + "\n" for request in asked)
    done = subprocess.run([sys.executable, PROBE], input=lines, capture_output=True, text=True, timeout=60, check=True)
    first, second, third, fourth = map(json.loads, done.stdout.splitlines())
    assert len(first["result"]) == 2
    assert second == {"result": "2y"}
    assert third == {"result": ["a", "b c"]}
    assert fourth.keys() == {"error"}
