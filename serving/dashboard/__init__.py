"""The dashboard: one page that shows the whole pipeline."""
