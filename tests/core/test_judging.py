import numpy as np
import pytest

from napari_unet.core import judging
from napari_unet.core.annotations import Annotations, SegmentationClass
from napari_unet.core.config import LiveConfig
from napari_unet.core.held_out import Strokes
from napari_unet.core.image import grey_statistics
from napari_unet.core.judging import NetworkJudge, ShownJudge
from napari_unet.core.live import LiveModel
from napari_unet.core.metrics import mean_iou
from napari_unet.core.network import StoppedError
from napari_unet.core.prediction import predict
from napari_unet.plugin.answering import Basis, Paint, Question, answer, compute
from tests.core.test_learning import LEARNING, halves, turned_round
from tests.core.test_training import trained
from tests.examples import disc_image, noise_image, short_of_memory, tiny_model


@pytest.fixture(scope="module")
def able():
    """A model that knows discs."""
    image, annotations = disc_image(1, seed=5)
    return trained(tiny_model(), image, annotations, LEARNING.replace(steps=60))


@pytest.fixture
def discs():
    """Two sections: strokes in the first are learnt from, those in the second held out."""
    image, annotations = disc_image(2)
    return image, halves(annotations, annotations)


def judge(image, kind=ShownJudge, **options):
    return kind(image, grey_statistics(image), "cpu", **options)


@pytest.fixture
def looked_at(monkeypatch):
    """The section of each tile whose features were computed."""
    sections = []

    def noted(network, section, tile, *arguments, **more):
        sections.append(section)
        return tile_features(network, section, tile, *arguments, **more)

    tile_features = judging.tile_features
    monkeypatch.setattr(judging, "tile_features", noted)
    return sections


def test_a_network_that_finds_nothing_itself_is_judged_by_what_the_head_makes_of_it(discs) -> None:
    image, strokes = discs
    untrained = tiny_model()
    alone = mean_iou(judge(image, NetworkJudge).scores(untrained, strokes))
    assert mean_iou(judge(image).scores(untrained, strokes)) > alone + 0.3


def test_scores_are_those_of_the_answer_to_the_same_strokes(discs) -> None:
    image, strokes = discs
    model, config, statistics = tiny_model(), LiveConfig(), grey_statistics(image)
    basis = Basis(model, judging.choose_device("cpu"))
    changed = {}
    for index, section in strokes.learnt.sections.items():
        (tile,) = judging.plan_tiles(*section.shape, judging.TILE, 4)
        paint = Paint(section, None)
        done = compute(basis, image, statistics, (index, tile), paint, config)
        basis.space = done.space
        changed[index, tile] = paint, done.features
    for index, section in strokes.held_out.sections.items():
        (tile,) = judging.plan_tiles(*section.shape, judging.TILE, 4)
        paint = Paint(None, section)
        done = compute(basis, image, statistics, (index, tile), paint, config)
        changed[index, tile] = paint, done.features
    rivals = answer(Question(basis, model.classes, changed, {}, {}, {}, True), config).rivals
    found = judge(image).scores(model, strokes)
    # The feature space is made of another of the two sections.
    assert mean_iou(found) == pytest.approx(rivals.head_iou, abs=0.03)


def test_a_network_that_does_clearly_better_than_its_head_is_judged_alone(able) -> None:
    image, annotations = disc_image(2)
    strokes = halves(turned_round(annotations), annotations)
    alone = judge(image, NetworkJudge).scores(able, strokes)
    found = judge(image).scores(able, strokes)
    # Of held-out paint that is much, a sample is looked at.
    assert mean_iou(found) == pytest.approx(mean_iou(alone), abs=0.03)
    assert mean_iou(found) > 0.5


def test_what_is_shown_obeys_all_paint_but_is_judged_without_it() -> None:
    image, annotations = disc_image(2)
    learnt, held_out = ({(z,): annotations.sections[z,]} for z in (0, 1))
    strokes = Strokes(
        *(Annotations(annotations.classes, part) for part in (learnt, held_out)),
        painted=annotations.sections,
    )
    model = tiny_model()
    shown, scores = judge(image).shown(model, strokes)
    assert isinstance(shown, LiveModel)
    assert mean_iou(scores) < 1
    for done in predict(shown, image):
        painted = annotations.sections[done.section][done.tile.slices]
        assert (done.classes == painted)[painted > 0].all()


def test_a_class_that_the_network_does_not_know_is_judged(able) -> None:
    image, annotations = disc_image(2)
    classes = (*annotations.classes, annotations.classes[1].__class__("half", "#00ff00"))
    sections = {}
    for index, section in annotations.sections.items():
        sections[index] = np.where((section == 2) & (np.arange(64) > 31), 3, section)
    strokes = halves(
        *[Annotations(classes, {k: v.astype(np.uint8) for k, v in sections.items()})] * 2
    )
    assert judge(image).scores(able, strokes).keys() == {"background", "disc", "half"}


def test_features_of_a_network_are_computed_once_however_often_it_is_judged(
    discs, looked_at
) -> None:
    image, strokes = discs
    model, tells = tiny_model(), judge(image)
    first = tells.scores(model, strokes)
    fewer = strokes.learnt.sections[0,].copy()
    fewer[20:] = 0
    again = Strokes(Annotations(strokes.learnt.classes, {(0,): fewer}), strokes.held_out)
    assert tells.scores(model, again) != first  # the head has learnt from fewer
    assert len(looked_at) == 2
    other = tiny_model(seed=1)
    tells.scores(other, strokes)
    assert len(looked_at) == 4
    tells.keep_only([other])
    tells.scores(other, strokes)
    assert len(looked_at) == 4
    tells.scores(model, strokes)
    assert len(looked_at) == 6


def test_many_painted_sections_are_learnt_from_evenly_but_all_held_out_paint_is_measured(
    looked_at,
) -> None:
    image, annotations = disc_image(33)
    held_out = {(z,): annotations.sections[z,] for z in (3, 10, 30)}
    learnt = {index: s for index, s in annotations.sections.items() if index not in held_out}
    strokes = Strokes(
        Annotations(annotations.classes, learnt), Annotations(annotations.classes, held_out)
    )
    found = judge(image).scores(tiny_model(), strokes)
    assert sum(each.pixels for each in found.values()) == pytest.approx(3 * 64 * 64, abs=3)
    assert 3 < len(looked_at) <= 3 + judging.MOST_LEARNT


def test_of_many_painted_sections_all_are_learnt_from_where_all_is_to_be_as_it_is_answered(
    looked_at,
) -> None:
    image, annotations = disc_image(12)
    strokes = Strokes(annotations, Annotations(annotations.classes))
    ShownJudge(image, grey_statistics(image), "cpu", in_full=True).shown(tiny_model(), strokes)
    assert len(looked_at) == 12


def test_a_class_that_is_painted_on_a_single_one_of_many_sections_is_learnt(looked_at) -> None:
    image, annotations = disc_image(12)
    classes = (*annotations.classes, SegmentationClass("corner", "#00ff00"))
    for rare in range(1, 12):
        sections = {index: section.copy() for index, section in annotations.sections.items()}
        held_out = {(0,): sections.pop((0,))}
        for section in (held_out[0,], sections[rare,]):
            section[:16, :16] = 3
        strokes = Strokes(Annotations(classes, sections), Annotations(classes, held_out))
        looked_at.clear()
        judge(image).scores(tiny_model(), strokes)
        assert any(np.array_equal(each, image.data[rare]) for each in looked_at)
        assert len(looked_at) <= 1 + judging.MOST_LEARNT + 1


def test_of_features_that_do_not_fit_into_memory_some_are_kept(looked_at, monkeypatch) -> None:
    image, annotations = disc_image(8)
    held_out = {(z,): annotations.sections[z,] for z in range(4)}
    learnt = {(z,): annotations.sections[z,] for z in range(4, 8)}
    strokes = Strokes(
        Annotations(annotations.classes, learnt), Annotations(annotations.classes, held_out)
    )
    model, tells = tiny_model(), judge(image)
    monkeypatch.setattr(judging, "MEMORY", 2**19)  # three tiles
    for _ in range(2):
        tells.scores(model, strokes)
    assert len(looked_at) == 8 + 5


def test_nothing_is_computed_while_nothing_is_held_out(looked_at) -> None:
    image, annotations = disc_image(2)
    strokes = Strokes(annotations, Annotations(annotations.classes))
    assert judge(image).scores(tiny_model(), strokes) == {}
    assert not looked_at


def test_where_all_paint_that_was_learnt_from_is_erased_the_network_is_judged_alone(able) -> None:
    image, annotations = disc_image(2)
    strokes = halves(annotations, annotations)
    erased = Annotations(annotations.classes, {(0,): np.zeros((64, 64), np.uint8)})
    for learnt in (erased, Annotations(annotations.classes)):
        left = Strokes(learnt, strokes.held_out)
        assert judge(image).scores(able, left) == judge(image, NetworkJudge).scores(able, left)


@pytest.mark.parametrize("kind", [NetworkJudge, ShownJudge])
def test_judging_can_be_stopped_also_where_features_are_kept(discs, kind) -> None:
    image, strokes = discs
    model, tells = tiny_model(), judge(image, kind)
    tells.scores(model, strokes)
    with pytest.raises(StoppedError):
        tells.scores(model, strokes, lambda: True)


def test_short_memory_is_answered_with_smaller_tiles() -> None:
    image = noise_image(2, 300, 300)
    sections = {}
    for z in range(2):
        section = np.zeros((300, 300), np.uint8)
        section[z::4], section[:, z::5] = 1, 2
        sections[z,] = section
    annotations = Annotations(tiny_model().classes, sections)
    strokes, model = halves(annotations, annotations), tiny_model()
    enough = judge(image).scores(model, strokes)
    found = judge(image).scores(short_of_memory(model, 160 * 160), strokes)
    assert found["disc"].pixels == enough["disc"].pixels
    with pytest.raises(RuntimeError, match="memory"):
        judge(image).scores(short_of_memory(model, 100), strokes)
