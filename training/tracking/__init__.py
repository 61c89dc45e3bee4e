"""Runs, model cards and the registry in MLflow, beside the log."""
