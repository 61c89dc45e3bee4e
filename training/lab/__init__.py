"""The lesson's exercises: measured on this machine, beside what theory says, as a report."""
