"""Alerts: from findings to few, explained alerts, and to what is done about them."""
