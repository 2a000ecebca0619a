"""The review's own rules, one file for each pillar; importing this package registers them all."""
from __future__ import annotations

from lamina_review.rules import (
    access_control,
    calculation,
    coding_standards,
    comparison,
    control_flow,
    exceptional_conditions,
    interaction,
    lifetime,
    neutralization,
    protection,
)
from lamina_review.rules.rule import RULES, Rule, Site

__all__ = [
    "RULES", "Rule", "Site", "access_control", "calculation", "coding_standards", "comparison", "control_flow", "exceptional_conditions",
    "interaction", "lifetime", "neutralization", "protection",
]
