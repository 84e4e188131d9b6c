"""Answers the conformance suite's ``parse`` and ``table`` requests: one JSON request a line in, one JSON answer a line out.

{"op": "parse", "dockerfile": TEXT}                                  -> {"result": [line of the tree, ...]}
{"op": "shell-word" | "shell-words", "word": W, "env": [...], "escape": E} -> {"result": string | [string, ...]}
An error is {"error": TEXT}.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))

from frontend.errors import FrontendError
from frontend.parser import dump, parse
from frontend.shell import Lex, envs_from_list


def answer(request: dict[str, Any]) -> Any:
    """The result of one request. Raises ``FrontendError`` where BuildKit has an error."""
    operation = request["op"]
    if operation == "parse":
        return dump(parse(request["dockerfile"]))
    lexer = Lex(request.get("escape", "\\"))
    env = envs_from_list(request.get("env", ()))
    if operation == "shell-word":
        return lexer.process_word(request["word"], env)
    if operation == "shell-words":
        return list(lexer.process_words(request["word"], env))
    raise FrontendError(f"unknown operation {operation}")


def main() -> None:
    for line in sys.stdin:
        try:
            reply: dict[str, Any] = {"result": answer(json.loads(line))}
        except FrontendError as e:
            reply = {"error": str(e)}
        print(json.dumps(reply), flush=True)


if __name__ == "__main__":
    main()
