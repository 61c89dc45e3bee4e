"""The networks and the tasks they learn."""
