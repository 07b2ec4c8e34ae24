"""Optuna: proposals within the limits, the driver, its database, its records."""
