"""The lesson's exercises: commands that measure and report."""
