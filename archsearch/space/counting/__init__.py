"""How large a space is, and how much of it is within the limits."""
