"""Retraining jobs: from a command to a judged and registered model."""
