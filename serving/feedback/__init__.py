"""What turned out: predictions joined with their labels, as a log."""
