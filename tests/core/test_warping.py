import numpy as np
import pytest
from scipy import ndimage

from napari_unet.core.warping import splits_and_mergers, warped_truth


def cells(*rows):
    """A section from a drawing: # is membrane, anything else is cell."""
    return np.array([[pixel != "#" for pixel in row] for row in rows])


def left_wrong(truth, proposal):
    """Pixels that stay wrong, and how many of them split or merge cells."""
    warped = warped_truth(truth, proposal)
    return int((warped != proposal).sum()), splits_and_mergers(warped, proposal)


TWO_CELLS = cells("...#...", "...#...", "...#...", "...#...", "...#...")
ONE_CELL = cells(*["......."] * 5)


@pytest.mark.parametrize(
    "proposal",
    [
        TWO_CELLS,
        cells("....#..", "....#..", "....#..", "....#..", "....#.."),  # shifted
        cells("..#....", "...#...", "....#..", "...#...", "..#...."),  # bent
        cells(".#####.", ".#####.", ".#####.", ".#####.", ".#####."),  # thickened
        cells("...#...", "...###.", "...#...", "...#...", "...#..."),  # with a spur
    ],
)
def test_a_boundary_that_lies_elsewhere_costs_nothing(proposal):
    assert left_wrong(TWO_CELLS, proposal) == (0, 0)
    assert left_wrong(proposal, TWO_CELLS) == (0, 0)


def test_a_gap_in_a_membrane_costs_its_pixels():
    one = cells("...#...", "...#...", ".......", "...#...", "...#...")
    two = cells("...#...", "...#...", ".......", ".......", "...#...")

    # The pixels of the gap are all that parts the cells, so none of them may be flipped.
    assert left_wrong(TWO_CELLS, one) == (1, 1)
    assert left_wrong(TWO_CELLS, two) == (2, 2)


def test_a_membrane_through_a_cell_costs_one_pixel():
    # From both ends of the line, membrane grows into the cell; the last pixel would split it.
    assert left_wrong(ONE_CELL, TWO_CELLS) == (1, 1)


def test_a_hole_costs_its_pixels_and_is_no_split():
    one = cells(".......", ".......", "...#...", ".......", ".......")
    four = cells(".......", "..##...", "..##...", ".......", ".......")

    # No pixel of a hole touches membrane, so no flip can begin it.
    assert left_wrong(ONE_CELL, one) == (1, 0)
    assert left_wrong(ONE_CELL, four) == (4, 0)


def test_a_hole_that_is_filled_costs_one_pixel():
    # Three of the four pixels of the hole are simple, one after the other; the last one is not.
    hole = cells(".......", "..##...", "..##...", ".......", ".......")

    assert left_wrong(hole, ONE_CELL) == (1, 0)


def test_a_cell_that_is_missed_costs_one_pixel():
    # It shrinks to a pixel, but cannot vanish.
    truth = cells("#######", "#...###", "#...###", "#...###", "#######")

    assert left_wrong(truth, cells(*["#######"] * 5)) == (1, 0)


def test_a_cell_that_is_made_up_costs_its_pixels():
    proposal = cells("#######", "#..####", "#..####", "#######", "#######")

    assert left_wrong(cells(*["#######"] * 5), proposal) == (4, 0)


def test_cells_that_touch_at_a_corner_are_two():
    touching = cells("..##", "..##", "##..", "##..")
    joined = cells("..##", "...#", "##..", "##..")

    # The pixel between their sides would join them.
    assert left_wrong(touching, joined) == (1, 1)


def test_a_ring_that_is_opened_is_no_split_and_a_long_corridor_is():
    ring = np.zeros((9, 9), bool)
    ring[1:8, 1:8] = True
    ring[2:7, 2:7] = False
    opened = ring.copy()
    opened[4, 1] = False
    corridor = np.zeros((9, 9), bool)
    corridor[1] = True
    cut = corridor.copy()
    cut[1, 4] = False

    assert left_wrong(ring, opened) == (1, 0)
    assert left_wrong(corridor, cut) == (1, 1)


def test_the_surest_pixel_is_flipped_first():
    # A wall through a corridor two pixels wide: one of its pixels can be flipped, then the other
    # would split the cell.
    truth = cells("#####", ".....", ".....", "#####")
    proposal = cells("#####", "..#..", "..#..", "#####")
    for sure, unsure in ((1, 2), (2, 1)):
        confidence = np.zeros((4, 5))
        confidence[sure, 2] = 0.4

        wrong = warped_truth(truth, proposal, confidence) != proposal

        assert np.argwhere(wrong).tolist() == [[unsure, 2]]


@pytest.mark.parametrize("seed", range(20))
def test_warping_keeps_the_number_of_cells_and_of_pieces_of_membrane(seed):
    chance = np.random.default_rng(seed)
    truth, proposal = (
        ndimage.uniform_filter(chance.random((24, 24)), 3) > 0.5 for _ in ("truth", "proposal")
    )

    warped = warped_truth(truth, proposal)

    assert pieces(warped) == pieces(truth)
    assert (warped != proposal).sum() <= (truth != proposal).sum()
    assert ((warped == truth) | (warped == proposal)).all()


def pieces(section):
    """Cells (over sides) and pieces of membrane (over corners, too) with membrane outside."""
    padded = np.pad(section, 1)
    return ndimage.label(padded)[1], ndimage.label(~padded, np.ones((3, 3)))[1]
