"""`python -m fault_drill`: see `run.py`."""

import sys

from fault_drill.run import main

if __name__ == "__main__":
    sys.exit(main())
