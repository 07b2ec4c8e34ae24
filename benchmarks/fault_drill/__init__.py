"""A search that is killed, stopped and cut off again and again, and what must be true at its end.

Run from `benchmarks/`: python -m fault_drill --help
"""
