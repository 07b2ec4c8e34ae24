"""Leaderboards read back, queried, shown and compared."""
