"""``python -m builder`` is ``pybuild``: of this very package, wherever the path leads. See pybuild_main."""

import os
import sys

sys.path.insert(0, os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
from pybuild_main import main

del sys.path[0]
sys.exit(main())
