"""A version answers the past again, beside what answered then."""
