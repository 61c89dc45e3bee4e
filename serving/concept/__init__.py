"""Concept drift: change of the loss, its estimate without labels, the delay of labels."""
