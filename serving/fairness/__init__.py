"""Fairness: rates by group, with intervals."""
