"""Segment electron-microscopy stacks in napari with a U-Net that learns from your corrections.

``core`` is the method (arrays in, arrays out), ``io`` reads and writes files, ``plugin`` is
the napari side and ``cli`` the command line. Importing this package loads neither torch nor
napari.
"""

__version__ = "0.1.0"
