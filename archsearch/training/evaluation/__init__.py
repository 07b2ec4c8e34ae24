"""A trained run, read back, scored, shown and drawn."""
