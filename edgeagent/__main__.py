"""``python -m edgeagent``."""

import sys

from edgeagent.cli.main import main

sys.exit(main())
