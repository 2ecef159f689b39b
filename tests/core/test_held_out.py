import numpy as np
import pytest
from scipy import ndimage

from napari_unet.core.annotations import Annotations, class_table
from napari_unet.core.held_out import EVERY, FIRST, Strokes, all_learnt, parted

CLASSES = class_table(["background", "membrane", "vesicle"])


class Painter:
    """Paints rectangles, and has each parted as it comes."""

    def __init__(self) -> None:
        self.annotations = Annotations(CLASSES)
        self.strokes: Strokes = parted(self.annotations)

    def paint(self, z: int, rows: slice, columns: slice, number: int) -> Strokes:
        section = self.annotations.sections.get((z,), np.zeros((200, 200), np.uint8)).copy()
        section[rows, columns] = number
        self.annotations = self.annotations.with_sections({(z,): section}, CLASSES)
        self.strokes = parted(self.annotations, self.strokes)
        return self.strokes

    def stroke(self, place: int, number: int, z: int = 0) -> Strokes:
        """Paint the stroke of a place, which touches those of no other place."""
        return self.paint(z, *rectangle(place), number)


def rectangle(place: int) -> tuple[slice, slice]:
    row, column = divmod(place, 8)
    return slice(20 * row + 2, 20 * row + 8), slice(20 * column + 2, 20 * column + 12)


def side(strokes: Strokes, place: int, z: int = 0) -> str:
    found = []
    for name in ("learnt", "held_out"):
        section = getattr(strokes, name).sections.get((z,))
        if section is not None and section[rectangle(place)].any():
            found.append(name)
    return " ".join(found)


def test_the_third_piece_of_a_class_is_held_out_and_every_fifth_after_it() -> None:
    painter = Painter()
    for place in range(14):
        strokes = painter.stroke(place, 2)
    sides = [side(strokes, place) for place in range(14)]
    assert (EVERY, FIRST) == (5, 3)
    assert [n for n, each in enumerate(sides, start=1) if each == "held_out"] == [3, 8, 13]
    assert sides.count("learnt") == 11
    assert strokes.held_out_pieces == 3


def test_pieces_are_counted_for_each_class_by_itself() -> None:
    painter = Painter()
    for place in range(6):
        strokes = painter.stroke(place, 1 + place % 2)
    assert [side(strokes, place) for place in range(6)] == ["learnt"] * 4 + ["held_out"] * 2


def test_pieces_are_counted_over_all_sections() -> None:
    painter = Painter()
    for z in range(4):
        strokes = painter.stroke(0, 2, z)
    assert [side(strokes, 0, z) for z in range(4)] == ["learnt", "learnt", "held_out", "learnt"]


def test_every_painted_pixel_is_on_one_side_with_its_class() -> None:
    chance = np.random.default_rng(0)
    painter = Painter()
    for _ in range(40):
        row, column = chance.integers(0, 180, 2)
        strokes = painter.paint(
            int(chance.integers(2)), slice(row, row + 9), slice(column, column + 15),
            int(chance.integers(0, 4)),
        )  # fmt: skip
    assert strokes.held_out.sections
    for index, painted in painter.annotations.sections.items():
        none = np.zeros_like(painted)
        learnt = strokes.learnt.sections.get(index, none)
        held_out = strokes.held_out.sections.get(index, none)
        assert not ((learnt > 0) & (held_out > 0)).any()
        np.testing.assert_array_equal(learnt + held_out, painted)


def test_paint_that_touches_a_piece_goes_with_it() -> None:
    painter = Painter()
    for place in range(3):
        painter.stroke(place, 2)
    rows, columns = rectangle(2)
    strokes = painter.paint(0, rows, slice(columns.stop, columns.stop + 5), 2)
    assert (strokes.held_out.sections[0,][rows, columns.stop : columns.stop + 5] == 2).all()
    rows, columns = rectangle(0)
    strokes = painter.paint(0, rows, slice(columns.stop, columns.stop + 5), 2)
    assert (strokes.learnt.sections[0,][rows, columns.stop : columns.stop + 5] == 2).all()


def test_paint_between_two_pieces_is_learnt_and_leaves_them_what_they_were() -> None:
    painter = Painter()
    for place in range(3):
        painter.stroke(place, 2)
    rows, columns = rectangle(1)
    strokes = painter.paint(0, rows, slice(columns.stop, rectangle(2)[1].start), 2)
    assert (side(strokes, 1), side(strokes, 2)) == ("learnt", "held_out")
    assert (strokes.learnt.sections[0,][rows, columns.stop] == 2).all()


@pytest.mark.parametrize(("place", "expected"), [(0, "learnt"), (2, "held_out")])
def test_paint_that_was_undone_comes_back_on_the_same_side(place: int, expected: str) -> None:
    painter = Painter()
    for each in range(3):
        painter.stroke(each, 2)
    assert side(painter.stroke(place, 0), place) == ""
    assert side(painter.stroke(place, 2), place) == expected


def test_what_was_learnt_as_another_class_is_not_held_out() -> None:
    painter = Painter()
    for each in range(3):
        painter.stroke(each, 1)
    for each in (4, 5):
        painter.stroke(each, 2)
    assert side(painter.stroke(0, 2), 0) == "learnt"  # it would have been the third


def test_a_section_without_paint_is_on_neither_side() -> None:
    painter = Painter()
    for z in range(3):
        painter.stroke(0, 2, z)
    strokes = painter.stroke(0, 0, 2)
    assert set(strokes.learnt.sections) == {(0,), (1,)}
    assert not strokes.held_out.sections


def test_sections_that_did_not_change_are_the_same_arrays() -> None:
    painter = Painter()
    before = painter.stroke(0, 2, 0).learnt.sections[0,]
    assert painter.stroke(0, 2, 1).learnt.sections[0,] is before


def test_a_stroke_that_is_learnt_leaves_what_is_held_out_the_same_object() -> None:
    painter = Painter()
    for place in range(3):
        strokes = painter.stroke(place, 2)
    assert painter.stroke(4, 2).held_out is strokes.held_out
    assert painter.strokes.learnt is not strokes.learnt


def test_classes_are_those_of_the_annotations() -> None:
    painter = Painter()
    painter.stroke(0, 2)
    renamed = class_table(["background", "wall", "vesicle"])
    strokes = parted(painter.annotations.with_sections({}, renamed), painter.strokes)
    assert strokes.learnt.classes == strokes.held_out.classes == renamed
    assert side(strokes, 0) == "learnt"


def test_all_can_be_learnt_from() -> None:
    painter = Painter()
    for place in range(4):
        painter.stroke(place, 2)
    strokes = all_learnt(painter.annotations)
    assert strokes.learnt is painter.annotations
    assert not strokes.held_out.sections
    assert strokes.held_out_pieces == 0


def test_what_all_is_learnt_from_is_not_held_out_afterwards() -> None:
    painter = Painter()
    for place in range(4):
        painter.stroke(place, 2)
    painter.strokes = all_learnt(painter.annotations, painter.strokes)
    strokes = painter.stroke(4, 2)
    assert not strokes.held_out.sections
    assert [side(strokes, place) for place in range(5)] == ["learnt"] * 5
    for place in range(5, 8):
        strokes = painter.stroke(place, 2)
    assert side(strokes, 7) == "held_out"  # the eighth


def test_parts_are_together_what_is_painted_after_any_strokes_and_erasures() -> None:
    chance = np.random.default_rng(1)
    painter = Painter()
    for _ in range(60):
        row, column = chance.integers(0, 190, 2)
        height, width = chance.integers(1, 30, 2)
        rows, columns = slice(row, row + height), slice(column, column + width)
        strokes = painter.paint(int(chance.integers(3)), rows, columns, int(chance.integers(4)))
        nothing = np.zeros((200, 200), np.uint8)
        pieces = 0
        for index in strokes.sides:
            painted = painter.annotations.sections.get(index, nothing)
            learnt = strokes.learnt.sections.get(index, nothing)
            held_out = strokes.held_out.sections.get(index, nothing)
            np.testing.assert_array_equal(learnt, np.where(strokes.sides[index] == 1, painted, 0))
            np.testing.assert_array_equal(held_out, np.where(strokes.sides[index] == 2, painted, 0))
            np.testing.assert_array_equal(learnt + held_out, painted)
            for number in (1, 2, 3):
                pieces += ndimage.label(held_out == number, np.ones((3, 3)))[1]
        assert strokes.held_out_pieces == pieces
    assert pieces > 1


def test_sections_without_new_paint_are_not_parted_again() -> None:
    painter = Painter()
    for place in range(3):
        painter.stroke(place, 2, z=0)
    before = painter.strokes
    after = painter.stroke(0, 1, z=1)
    for name in ("learnt", "held_out"):
        assert getattr(after, name).sections[0,] is getattr(before, name).sections[0,]
    assert after.sides[0,] is before.sides[0,]


def test_nothing_is_held_out_any_more_in_any_section_when_that_is_switched_off() -> None:
    painter = Painter()
    for z in (0, 1):
        for place in range(3):
            painter.stroke(place, 1 + z, z=z)
    assert painter.strokes.held_out_pieces == 2
    strokes = all_learnt(painter.annotations, painter.strokes)
    assert strokes.held_out_pieces == 0
    for z in (0, 1):
        np.testing.assert_array_equal(strokes.sides[z,] == 1, painter.annotations.sections[z,] > 0)
