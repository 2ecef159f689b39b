import dask.array
import numpy as np
import pytest
from dask.callbacks import Callback

from napari_unet.core.image import ImageArray, grey_statistics
from napari_unet.core.reading import read
from napari_unet.core.tiling import read_mirrored

VALUES = np.random.default_rng(0).integers(0, 256, (3, 20, 24)).astype(np.uint8)


@pytest.mark.parametrize("data", [VALUES, dask.array.from_array(VALUES, (1, 10, 10))])
def test_a_part_is_read_as_it_is(data):
    found = read(data[1, 3:9])

    assert isinstance(found, np.ndarray)
    np.testing.assert_array_equal(found, VALUES[1, 3:9])


def test_nothing_is_read_with_the_callbacks_of_others():
    called = []
    lazy = dask.array.from_array(VALUES, (1, 10, 10))
    image = ImageArray(lazy, "ZYX", (1.0, 1.0, 1.0), ("pixel",) * 3)
    with Callback(pretask=lambda *_: called.append(True)):
        np.asarray(lazy[0])
        assert called  # so they are in force
        called.clear()

        read(lazy[0])
        read_mirrored(lazy[0], -4, -4, 12, 12)
        grey_statistics(image)

    assert not called
