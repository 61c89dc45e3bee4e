"""Statistics of drift: two distributions compared, and how sure one may be. Pure."""
