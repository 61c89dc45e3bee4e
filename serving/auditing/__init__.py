"""What is checked against the log: answers counted, features computed a second time."""
