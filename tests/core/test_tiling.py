import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from napari_unet.core.tiling import mirrored_indices, plan_tiles, read_mirrored

SIDES = st.integers(1, 90)


@given(SIDES, SIDES, st.integers(1, 70), st.sampled_from([1, 2, 4, 8, 16]))
def test_tiles_cover_every_pixel_once(height, width, size, multiple):
    if size < multiple:
        with pytest.raises(ValueError, match=f"must be at least {multiple}"):
            plan_tiles(height, width, size, multiple)
        return
    covered = np.zeros((height, width), int)

    for tile in plan_tiles(height, width, size, multiple):
        assert tile.top % multiple == tile.left % multiple == 0
        assert 0 < tile.height <= size
        assert 0 < tile.width <= size
        assert tile.top + tile.height <= height
        assert tile.left + tile.width <= width
        covered[tile.slices] += 1

    assert (covered == 1).all()


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 20), st.integers(0, 2**31))
def test_tiles_put_back_together_give_the_image(height, width, size, seed):
    image = np.random.default_rng(seed).integers(0, 256, (height, width))
    found = np.full_like(image, -1)

    for tile in plan_tiles(height, width, size, 1):
        found[tile.slices] = image[tile.slices]

    assert np.array_equal(found, image)


def test_the_documented_example_of_mirroring_holds():
    assert mirrored_indices(-2, 6, 4).tolist() == [2, 1, 0, 1, 2, 3, 2, 1]


@given(st.integers(1, 20), st.integers(0, 70), st.integers(0, 70))
def test_mirrored_indices_are_those_of_numpy_reflect(length, before, after):
    expected = np.pad(np.arange(length), (before, after), mode="reflect")

    assert np.array_equal(mirrored_indices(-before, length + after, length), expected)


@given(
    st.tuples(st.integers(1, 12), st.integers(1, 12)),
    st.tuples(st.integers(-30, 30), st.integers(-30, 30)),
    st.tuples(st.integers(1, 30), st.integers(1, 30)),
)
def test_read_mirrored_equals_a_cut_from_the_padded_section(shape, corner, sides):
    section = np.arange(np.prod(shape)).reshape(shape)
    padded = np.pad(section, 60, mode="reflect")
    top, left = (n + 60 for n in corner)

    found = read_mirrored(section, *corner, *sides)

    assert np.array_equal(found, padded[top : top + sides[0], left : left + sides[1]])


def test_only_the_needed_part_of_a_section_is_read():
    class Watched:
        shape = (1000, 2000)
        read = None

        def __getitem__(self, where):
            self.read = where
            return np.zeros(self.shape, np.uint8)[where]

    section = Watched()

    assert read_mirrored(section, -3, 100, 20, 30).shape == (20, 30)
    assert section.read == (..., slice(0, 17), slice(100, 130))
