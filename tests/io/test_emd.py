import json

import h5py
import numpy as np
import pytest

from napari_unet.io.files import FileReadError
from napari_unet.io.images import read_image

FRAMES = np.random.default_rng(0).integers(0, 99, (4, 5, 3)).astype(np.uint16)  # Y, X, frame


def velox_image(file, name, data, **scan):
    group = file.create_group(f"Data/Image/{name}")
    group["Data"] = data
    pixels = {"PixelSize": {"width": "2e-9", "height": "3e-9"}}
    told = {"BinaryResult": {**pixels, "PixelUnitX": "m", "PixelUnitY": "m"}, "Scan": scan}
    content = np.zeros((2000, data.shape[2]), np.uint8)
    text = np.frombuffer(json.dumps(told).encode(), np.uint8)
    content[: len(text)] = text[:, None]
    group["Metadata"] = content


def test_frames_of_velox_come_first_with_pixel_size_and_time(tmp_path):
    with h5py.File(tmp_path / "a.emd", "w") as file:
        velox_image(file, "00", FRAMES, FrameTime="0.5")
        file["Data/SpectrumStream/01/Data"] = np.zeros((100, 1), np.uint16)

    found = read_image(tmp_path / "a.emd")

    assert (found.axes, found.units) == ("TYX", ("s", "nm", "nm"))
    assert found.scale == pytest.approx((0.5, 3, 2))
    assert np.array_equal(np.asarray(found.data), np.moveaxis(FRAMES, -1, 0))


def test_a_single_frame_is_a_single_image(tmp_path):
    with h5py.File(tmp_path / "a.emd", "w") as file:
        velox_image(file, "00", FRAMES[..., :1])

    found = read_image(tmp_path / "a.emd")

    assert found.axes == "YX"
    assert np.array_equal(np.asarray(found.data), FRAMES[..., 0])


def test_only_spectra_are_refused(tmp_path):
    with h5py.File(tmp_path / "a.emd", "w") as file:
        file["Data/SpectrumStream/01/Data"] = np.zeros((100, 50), np.uint16)

    with pytest.raises(FileReadError, match="1 SpectrumStream; a spectrum is not an image"):
        read_image(tmp_path / "a.emd")


@pytest.mark.parametrize("suffix", [".emd", ".h5"])
def test_coordinates_of_the_berkeley_layout_give_the_spacing(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    with h5py.File(path, "w") as file:
        group = file.create_group("data/stack")
        group.attrs["emd_group_type"] = 1
        group["data"] = FRAMES
        for axis, (step, unit) in enumerate([(5.0, "[n_m]"), (0.2, "[n_m]"), (0.1, "[n_m]")], 1):
            group[f"dim{axis}"] = np.arange(FRAMES.shape[axis - 1]) * step
            group[f"dim{axis}"].attrs["units"] = np.bytes_(unit)

    found = read_image(path)

    assert (found.axes, found.units) == ("ZYX", ("nm",) * 3)
    assert found.scale == pytest.approx((5, 0.2, 0.1))


@pytest.mark.parametrize("place", [0, 1, 2])
def test_sections_of_a_spectrum_image_are_images_at_one_energy(tmp_path, place):
    data = np.moveaxis(FRAMES, -1, place)
    steps = [(5.0, "[n_m]"), (0.2, "[n_m]")]
    steps.insert(place, (0.5, "[eV]"))
    with h5py.File(tmp_path / "a.emd", "w") as file:
        group = file.create_group("data/spectra")
        group.attrs["emd_group_type"] = 1
        group["data"] = data
        for axis, (step, unit) in enumerate(steps, 1):
            group[f"dim{axis}"] = np.arange(data.shape[axis - 1]) * step
            group[f"dim{axis}"].attrs["units"] = np.bytes_(unit)

    found = read_image(tmp_path / "a.emd")

    assert (found.axes, found.units[1:]) == ("ZYX", ("nm",) * 2)
    assert found.scale[1:] == pytest.approx((5, 0.2))
    assert np.array_equal(np.asarray(found.data), np.moveaxis(FRAMES, -1, 0))
