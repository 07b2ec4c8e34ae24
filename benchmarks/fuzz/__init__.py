"""A fuzzer of the whole tool: hostile files, folders, arguments and terminals; see `run.py`."""
