"""A model that goes on learning from the outcomes."""
