"""Parsing, files that survive crashes, the console, the machine; nothing of networks."""
