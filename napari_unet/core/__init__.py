"""The method: arrays in, arrays out. Knows no napari, no Qt and no files."""
