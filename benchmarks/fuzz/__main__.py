"""`python -m fuzz`: see `run.py`."""

import os
import sys

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ[_name] = "1"  # before torch and numpy are loaded: a fork takes one thread along
os.environ["MPLBACKEND"] = "agg"

from fuzz.fork import InChildError, become  # noqa: E402
from fuzz.run import main  # noqa: E402

if __name__ == "__main__":
    try:
        sys.exit(main())
    except InChildError as child:
        _command = child.command
    become(_command)
