"""``python -m builder`` is ``pybuild``."""

import sys

from builder.cli.main import main

sys.exit(main())
