"""One page that tells who serves it."""

import os
import platform

from flask import Flask

app = Flask(__name__)


@app.get("/")
def index() -> str:
    return f"Hello from pybuild: uid {os.getuid()}, Python {platform.python_version()}\n"


if __name__ == "__main__":
    app.run(host="127.0.0.1", port=int(os.environ.get("PORT", "5000")))
