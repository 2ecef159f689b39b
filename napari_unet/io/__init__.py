"""Files: images, models and samples, to and from disk. Knows ``core`` only."""
