"""Analyze networks without building them, and check them against limits."""
