"""The image formats that are read: their suffixes, their marks, and what is known of each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from napari_unet.core.image import ImageArray
from napari_unet.io import zarrs
from napari_unet.io.contents import StoredImage
from napari_unet.io.dm import read_dm
from napari_unet.io.files import reading
from napari_unet.io.hdf5 import hdf5_images, read_hdf5
from napari_unet.io.mrc import read_mrc
from napari_unet.io.nrrd import read_nrrd
from napari_unet.io.sections import read_picture
from napari_unet.io.ser import read_emi, read_ser
from napari_unet.io.tiff import read_tiff

HEAD = 4096
"""Bytes at the beginning of a file in which marks are looked for."""


@dataclass(frozen=True)
class Format:
    """A file format that is read.

    Parameters
    ----------
    name
        What people call it.
    suffixes
        Endings of its files' names, in lower case.
    read
        Returns the image in a file, or raises `FileReadError`.
    marked
        Whether a file that begins with these bytes is certainly of this format, whatever it is
        called.
    lazy, spacing, refused
        For people: what stays on disk, where the pixel size comes from, and what is not read.
    images
        Lists the images of which one may be named after the path of a file.
    """

    name: str
    suffixes: tuple[str, ...]
    read: Callable[[Path], ImageArray]
    marked: Callable[[bytes], bool]
    lazy: str
    spacing: str
    refused: str
    images: Callable[[Path], list[StoredImage]] = lambda path: []


FORMATS = (
    Format(
        "TIFF, BigTIFF, OME-TIFF, ImageJ",
        (".tif", ".tiff"),
        read_tiff,
        lambda head: head[:4] in (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"),
        "large ones: by row where they are uncompressed, else by page",
        "OME, Thermo Fisher (FEI), Zeiss, TVIPS, Olympus SIS, DigitalMicrograph, ImageJ, else the "
        "resolution tags if they are not a printer's",
        "more axes than time, channel, Z, Y, X and colours",
    ),
    Format(
        "MRC, CCP4",
        tuple(
            f"{suffix}{packed}"
            for suffix in (".mrc", ".mrcs", ".rec", ".st", ".ali", ".map", ".ccp4")
            for packed in ("", ".gz", ".bz2")
        ),
        read_mrc,
        lambda head: head[208:211] == b"MAP",
        "large ones by row; compressed files are read at once",
        "cell size, else the extended header of FEI; 0 is unknown",
        "complex numbers (modes 3, 4), colours (16), 4 bits (101)",
    ),
    Format(
        "DigitalMicrograph (DM3, DM4)",
        (".dm3", ".dm4"),
        read_dm,
        lambda head: (
            head[:4] in (b"\0\0\0\3", b"\0\0\0\4") and b"\0\0\0\1" in (head[8:12], head[12:16])
        ),
        "large ones by row",
        "calibration of each axis; none for reciprocal units",
        "spectra, complex numbers, files in the byte order of old Macs",
    ),
    Format(
        "TIA series (SER)",
        (".ser",),
        read_ser,
        lambda head: head[:4] == b"II\x97\x01",
        "by image",
        "calibration of the first image; none for diffraction patterns",
        "spectra, complex numbers, images of different sizes",
    ),
    Format(
        "TIA (EMI)",
        (".emi",),
        read_emi,
        lambda head: False,
        "by image, from the SER files beside it",
        "as SER",
        "files whose SER files are missing",
    ),
    Format(
        "HDF5, ilastik, plantseg, CREMI, EMD (Velox, Berkeley)",
        (".h5", ".hdf5", ".hdf", ".emd"),
        read_hdf5,
        lambda head: any(
            head[start:].startswith(b"\x89HDF\r\n\x1a\n") for start in (0, 512, 1024, 2048)
        ),
        "by stored piece",
        "element_size_um, resolution, voxel_size; ilastik's axis tags; Velox's metadata; EMD's "
        "coordinates",
        "spectra, complex numbers, files without a data set of two axes",
        hdf5_images,
    ),
    Format(
        "NRRD",
        (".nrrd", ".nhdr"),
        read_nrrd,
        lambda head: head[:4] == b"NRRD",
        "raw: large ones by row; gzip, bzip2, text and hex are read at once",
        "space directions or spacings, with their units if they are told",
        "data in several files, blocks of bytes",
    ),
    Format(
        "PNG, JPEG",
        (".png", ".jpg", ".jpeg"),
        read_picture,
        lambda head: head[:8] == b"\x89PNG\r\n\x1a\n" or head[:3] == b"\xff\xd8\xff",
        "read at once; by section where a folder or a pattern is opened",
        "none",
        "animations; folders of sections of different size or type",
    ),
    Format(
        "Zarr 2 and 3, OME-Zarr 0.1 to 0.5, N5",
        zarrs.SUFFIXES,
        zarrs.read_zarr,
        lambda head: False,
        "by chunk; of several resolutions the full one is the image",
        "OME-Zarr's transformations; resolution, element_size_um, transform or pixelResolution",
        "text and records; stores without an array of two axes",
        zarrs.zarr_images,
    ),
)


def format_of(path: Path) -> Format | None:
    """Return the format of a file: that of its mark, else that of its suffix; None if unknown."""
    named = _by_suffix(path)
    if named is None:
        return None
    with reading(path), path.open("rb") as file:
        head = file.read(HEAD)
    if named.marked(head):
        return named
    return next((each for each in FORMATS if each.marked(head)), named)


def _by_suffix(path: Path) -> Format | None:
    name = path.name.lower()
    return next((each for each in FORMATS if name.endswith(each.suffixes)), None)
