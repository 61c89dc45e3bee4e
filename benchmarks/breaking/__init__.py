"""Workers and a broker that are broken on purpose, at stated points."""
