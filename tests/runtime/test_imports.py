"""The runtime stands alone, and loads little until it is used."""

from __future__ import annotations

import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def test_no_module_imports_builder_or_frontend() -> None:
    for folder, _, names in os.walk(f"{ROOT}/runtime"):
        for name in (name for name in names if name.endswith(".py")):
            with open(os.path.join(folder, name)) as file:
                assert not re.search(r"^\s*(from|import) (builder|frontend)\b", file.read(), re.MULTILINE), name


def test_the_door_to_the_kernel_loads_no_ctypes_and_the_interface_no_subprocess() -> None:
    code = (
        "import sys, runtime.linux.mounts, runtime.linux.safepath, runtime.linux.namespaces, runtime.executor, runtime.spec;"
        "print(sorted({'ctypes', 'json', 'subprocess', 'asyncio', 'tempfile', 'pathlib'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code], env={**os.environ, "PYTHONPATH": ROOT}, capture_output=True, text=True, check=True
    )
    assert done.stdout == "[]\n"
