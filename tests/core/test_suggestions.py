"""Places worth painting: where a model is unsure of a region, spread out, and not done yet."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from napari_unet.core import suggestions
from napari_unet.core.annotations import class_table
from napari_unet.core.features import feature_space, tile_features
from napari_unet.core.image import ImageArray, grey_statistics, image_from_array
from napari_unet.core.live import LiveHead, LiveModel
from napari_unet.core.prediction import finish
from napari_unet.core.suggestions import (
    BORDER,
    DONE_RADIUS,
    MOST_PLACES,
    PER_SECTION,
    SPREAD,
    Doubt,
    Place,
    far_from,
    most_worth,
    part_around,
    places_in,
    section_doubt,
    section_spacing,
    sections_to_search,
    suggest,
    two_likeliest,
    uncertainty,
)
from napari_unet.core.tiling import Tile
from tests.examples import tiny_model


def doubt_of(unsure: np.ndarray, top: int = 0, left: int = 0) -> Doubt:
    """Doubt between class 2 and, less probable, class 1."""
    likeliest = np.stack([np.full(unsure.shape, 2), np.full(unsure.shape, 1)]).astype(np.uint8)
    return Doubt(Tile(top, left, *unsure.shape), unsure.astype(np.float32), likeliest)


def blobs(*centres: tuple[int, int], side: int = 256, height: float = 0.8) -> np.ndarray:
    """Discs of doubt with a radius of 10 pixels."""
    rows, columns = np.ogrid[:side, :side]
    unsure = np.zeros((side, side), np.float32)
    for row, column in centres:
        unsure[(rows - row) ** 2 + (columns - column) ** 2 < 100] = height
    return unsure


def place(section: int, row: int, column: int, doubt: float = 0.5) -> Place:
    return Place((section,), row, column, doubt, (1, 2))


def pixels(places: list[Place]) -> list[tuple[int, int]]:
    return [(each.row, each.column) for each in places]


@pytest.fixture(scope="module")
def stack() -> ImageArray:
    grey = np.random.default_rng(1).random((5, 128, 160), np.float32)
    return ImageArray(grey, "ZYX", (50.0, 1.0, 1.0), ("nm",) * 3)


# --- uncertainty -------------------------------------------------------------------------


def test_uncertainty_is_0_for_a_certain_class_and_1_where_all_are_alike() -> None:
    probabilities = np.array([[[1.0, 0.25]], [[0, 0.25]], [[0, 0.25]], [[0, 0.25]]], np.float32)
    np.testing.assert_allclose(uncertainty(probabilities), [[0, 1]], atol=1e-6)


def test_uncertainty_is_the_entropy_in_units_of_the_greatest() -> None:
    p = np.array([0.7, 0.2, 0.1])
    expected = -(p * np.log(p)).sum() / np.log(3)
    found = uncertainty(p.astype(np.float32)[:, None, None])
    np.testing.assert_allclose(found, [[expected]], rtol=1e-5)
    assert found.dtype == np.float32


def test_two_likeliest_classes_are_numbered_from_1_the_more_probable_first() -> None:
    probabilities = np.array([[[0.1, 0.6]], [[0.5, 0.1]], [[0.4, 0.3]]], np.float32)
    np.testing.assert_array_equal(two_likeliest(probabilities), [[[2, 1]], [[3, 3]]])


# --- places of a section -----------------------------------------------------------------


def test_region_in_doubt_goes_before_a_thin_border_that_is_more_uncertain() -> None:
    unsure = blobs((200, 128), height=0.6)
    unsure[58:60] = 1.0  # the border between two structures
    best = places_in((0,), doubt_of(unsure))[0]
    assert abs(best.row - 200) <= 2
    assert abs(best.column - 128) <= 2


def test_places_lie_in_the_pixels_of_the_section_not_of_the_part() -> None:
    (found,) = places_in((3,), doubt_of(blobs((60, 80)), top=1000, left=500))
    assert (found.section, found.row, found.column) == ((3,), 1060, 580)


def test_nothing_is_suggested_where_the_model_is_sure() -> None:
    assert places_in((0,), doubt_of(np.full((128, 128), 0.01))) == []


def test_nothing_is_suggested_near_the_border() -> None:
    unsure = blobs((BORDER - 4, 128), (128, 256 - BORDER + 4), (128, 128))
    assert pixels(places_in((0,), doubt_of(unsure))) == [(128, 128)]


def test_small_image_is_not_all_border() -> None:
    unsure = blobs((16, 16), side=32)
    assert len(places_in((0,), doubt_of(unsure))) == 1


@pytest.mark.parametrize(("away", "suggested"), [(DONE_RADIUS - 2, False), (60, True)])
def test_place_near_paint_is_done(away: int, suggested: bool) -> None:
    painted = np.zeros((256, 256), np.uint8)
    painted[128, 128 + away] = 1
    found = places_in((0,), doubt_of(blobs((128, 128))), painted)
    assert pixels(found) == ([(128, 128)] if suggested else [])


def test_paint_is_looked_up_in_the_section_not_in_the_part() -> None:
    painted = np.zeros((400, 400), np.uint8)
    painted[128, 128] = 1  # nothing to do with the blob at (228, 228)
    doubt = doubt_of(blobs((128, 128)), top=100, left=100)
    assert pixels(places_in((0,), doubt, painted)) == [(228, 228)]
    painted[228, 228] = 1
    assert places_in((0,), doubt, painted) == []


def test_place_says_between_which_classes_the_doubt_is() -> None:
    unsure = blobs((128, 128))
    likeliest = np.zeros((2, 256, 256), np.uint8)
    likeliest[0], likeliest[1] = 1, 2  # of the sure pixels around
    inside = unsure > 0
    likeliest[0][inside], likeliest[1][inside] = 3, 2
    (found,) = places_in((0,), Doubt(Tile(0, 0, 256, 256), unsure, likeliest))
    assert found.between == (3, 2)


# --- spread ------------------------------------------------------------------------------


def test_most_doubtful_place_comes_first_and_neighbours_are_left_out() -> None:
    near, best = place(0, 100, 100 + SPREAD - 1, 0.8), place(0, 100, 100, 0.9)
    far = place(0, 100, 100 + SPREAD, 0.3)
    assert most_worth([far, near, best], [1.0]) == [best, far]


def test_places_do_not_all_lie_in_the_section_with_most_doubt() -> None:
    full = [place(0, 100 * n, 0, 0.5) for n in range(10)]
    others = [place(z, 1000, 1000, 0.3) for z in range(1, 4)]
    taken = most_worth(full + others, [100.0])
    assert {each.section for each in taken[:6]} == {(0,), (1,), (2,), (3,)}


def test_same_place_in_the_next_thin_section_is_left_out() -> None:
    one, same = place(0, 100, 100, 0.9), place(4, 100, 100, 0.8)
    assert most_worth([one, same], [1.0]) == [one]
    assert most_worth([one, same], [12.5]) == [one, same]


def test_places_near_others_are_left_out_across_sections_too() -> None:
    places = [place(0, 100, 119), place(0, 100, 120), place(1, 100, 100), place(2, 100, 100)]
    assert far_from([place(0, 100, 100)], places, 20, [12.5]) == [places[1], places[3]]


def test_no_more_places_are_suggested_than_somebody_would_step_through() -> None:
    many = [place(0, 100 * r, 100 * c) for r in range(10) for c in range(10)]
    assert len(most_worth(many, [1.0])) == MOST_PLACES


def test_spacing_of_sections_is_measured_in_pixels() -> None:
    data = np.zeros((2, 3, 8, 8), np.uint8)
    image = ImageArray(data, "TZYX", (0.5, 50, 4, 4), ("s", "nm", "nm", "nm"))
    assert section_spacing(image) == (1.0, 12.5)


# --- which sections ----------------------------------------------------------------------


def stack_of(sections: int, thickness: float) -> ImageArray:
    data = np.broadcast_to(np.uint8(0), (sections, 8, 8))
    return ImageArray(data, "ZYX", (thickness, 4.0, 4.0), ("nm",) * 3)


def test_section_in_view_is_searched_first_then_outwards() -> None:
    assert sections_to_search(stack_of(100, 80), (40,), 5) == [(40,), (39,), (41,), (38,), (42,)]


def test_thin_sections_are_searched_a_stroke_apart() -> None:
    assert sections_to_search(stack_of(1000, 4), (100,), 3) == [(100,), (80,), (120,)]


def test_shallow_stack_of_thin_sections_is_searched_nevertheless() -> None:
    found = sections_to_search(stack_of(4, 4), (2,))
    assert sorted(found) == [(0,), (1,), (2,), (3,)]


def test_single_image_is_one_section() -> None:
    assert sections_to_search(image_from_array(np.zeros((8, 8), np.uint8)), ()) == [()]


# --- the search --------------------------------------------------------------------------


def test_doubt_is_the_entropy_of_what_the_model_predicts(stack: ImageArray) -> None:
    model = tiny_model("a", "b", "c")
    doubt = finish(section_doubt(model, stack, (2,)))
    tile = next(suggestions.predict(model, stack, sections=[(2,)]))
    assert doubt is not None
    np.testing.assert_allclose(doubt.uncertainty, uncertainty(tile.probabilities), atol=1e-3)


def test_doubt_is_that_of_the_live_head(stack: ImageArray) -> None:
    model = tiny_model("a", "b")
    features = tile_features(
        model.folded,
        stack.data[0],
        Tile(0, 0, 128, 160),
        grey_statistics(stack),
        device=torch.device("cpu"),
    )
    space = feature_space(features)
    dimensions = sum(basis.shape[1] for basis in space.bases)
    sure = LiveHead(torch.zeros(dimensions, 3), torch.tensor([0.0, 0.0, 50.0]))
    live = LiveModel(model, class_table(["a", "b", "new"]), space, sure)
    doubt = finish(section_doubt(live, stack, (0,)))
    assert doubt is not None
    assert doubt.uncertainty.max() < 1e-3
    assert (doubt.likeliest[0] == 3).all()
    # Of what it says itself, not of what was painted over it.
    painted = {(0,): np.ones(stack.shape[-2:], np.uint8), (): np.ones((1, 1), np.uint8)}
    again = finish(section_doubt(replace(live, painted=painted), stack, (0,)))
    assert again is not None
    np.testing.assert_array_equal(again.likeliest, doubt.likeliest)


def test_of_large_sections_the_part_around_the_view_is_looked_at(
    stack: ImageArray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(suggestions, "LARGEST", 64)
    doubt = finish(section_doubt(tiny_model(), stack, (0,), centre=(100.0, 20.0)))
    assert doubt is not None
    assert doubt.tile == Tile(64, 0, 64, 64)
    assert part_around(128, 160, None) == Tile(32, 48, 64, 64)


def test_places_come_after_every_section_and_the_last_ones_are_returned(stack: ImageArray) -> None:
    sections = [(2,), (0,), (4,)]
    steps = []
    result = finish(suggest(tiny_model(), stack, sections=sections), steps.append)
    assert result == steps[-1]
    assert (result.done, result.total) == (3, 3)
    whole = [step for step in steps if step.places]
    assert {each.section for each in whole[0].places} == {(2,)}
    assert {each.section for each in result.places} == set(sections)
    for section in sections:
        assert sum(each.section == section for each in result.places) <= PER_SECTION


def test_same_search_finds_the_same_places(stack: ImageArray) -> None:
    one, other = (
        finish(suggest(tiny_model(), stack, sections=[(0,), (1,)])).places for _ in range(2)
    )
    assert one == other
    assert one


def test_second_search_leads_to_other_places(stack: ImageArray) -> None:
    first = finish(suggest(tiny_model(), stack, sections=[(0,)])).places
    second = finish(suggest(tiny_model(), stack, sections=[(0,)], seen=first)).places
    for one in first:
        for other in second:
            assert np.hypot(one.row - other.row, one.column - other.column) > DONE_RADIUS


def test_painted_sections_are_looked_up_by_their_index(stack: ImageArray) -> None:
    painted = {(1,): np.ones(stack.shape[-2:], np.uint8)}
    found = finish(suggest(tiny_model(), stack, sections=[(0,), (1,)], painted=painted)).places
    assert {each.section for each in found} == {(0,)}


def test_search_can_be_stopped_in_the_middle(stack: ImageArray) -> None:
    steps: list[object] = []
    sections = list(stack.sections())
    result = finish(
        suggest(tiny_model(), stack, sections=sections, should_stop=lambda: bool(steps)),
        steps.append,
    )
    assert result.done < len(sections)
    assert {each.section for each in result.places} == {(0,)}


def test_places_stay_away_from_the_border_of_a_small_section(stack: ImageArray) -> None:
    for each in finish(suggest(tiny_model(), stack, sections=[(0,)])).places:
        assert 16 <= each.row < 128 - 16  # an eighth, since the section is small
        assert 20 <= each.column < 160 - 20
