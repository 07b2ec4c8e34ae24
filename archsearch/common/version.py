"""The version of archsearch."""

__version__ = "0.1.0"
