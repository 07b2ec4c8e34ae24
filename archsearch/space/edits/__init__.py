"""A spec's knobs, and how edits are made."""
