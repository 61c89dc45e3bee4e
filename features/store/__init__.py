"""The feature store: Feast's online and offline stores, filled from the log."""
