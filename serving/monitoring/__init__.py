"""What is watched: joined answers and labels, windows, figures, alerts."""
