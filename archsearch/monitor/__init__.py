"""A search seen from outside, or live."""
