"""The napari side: the only place that knows layers, widgets and threads."""
