"""Every rule by its code: what it is about, how grave, why, and where that is known from."""

from __future__ import annotations

from archsearch.diagnosis.network_rules import NETWORK_RULES
from archsearch.diagnosis.rule import LEVELS, Level, Measured, Rule
from archsearch.diagnosis.training_rules import TRAINING_RULES

__all__ = ["LEVELS", "RULES", "Level", "Measured", "Rule"]

RULES: dict[str, Rule] = {**NETWORK_RULES, **TRAINING_RULES}
