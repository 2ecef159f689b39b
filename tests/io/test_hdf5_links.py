import h5py
import numpy as np
import pytest

from napari_unet.io.files import FileReadError
from napari_unet.io.images import images_in, read_image

DATA = np.random.default_rng(0).integers(0, 200, (6, 20, 30), np.uint8)


@pytest.fixture
def source(tmp_path):
    with h5py.File(tmp_path / "source.h5", "w") as file:
        file["volume/em"] = DATA
    return tmp_path / "source.h5"


def linked(folder, **links):
    with h5py.File(folder / "a.h5", "w") as file:
        for name, link in links.items():
            file[name] = link
    return folder / "a.h5"


def gathered(folder, data_set="volume/em", source="source.h5"):
    layout = h5py.VirtualLayout(DATA.shape, DATA.dtype)
    layout[...] = h5py.VirtualSource(source, data_set, DATA.shape)
    with h5py.File(folder / "a.h5", "w") as file:
        file.create_virtual_dataset("raw", layout, fillvalue=7)
    return folder / "a.h5"


def test_a_link_into_another_file_is_followed(tmp_path, source):
    path = linked(tmp_path, raw=h5py.ExternalLink("source.h5", "/volume/em"))

    found = read_image(path)

    assert (found.name, [each.name for each in images_in(path)]) == ("a", ["raw"])
    assert np.array_equal(np.asarray(found.data), DATA)
    assert np.array_equal(np.asarray(read_image(path / "raw").data), DATA)


def test_a_link_to_a_group_of_another_file_is_followed(tmp_path, source):
    path = linked(tmp_path, there=h5py.ExternalLink("source.h5", "/"))

    assert [each.name for each in images_in(path)] == ["there/volume/em"]
    assert np.array_equal(np.asarray(read_image(path).data), DATA)


def test_a_link_of_a_usual_name_says_which_data_set_is_meant_and_that_is_listed_once(tmp_path):
    path = linked(tmp_path, large=np.zeros((10, 50, 50)), meant=DATA, raw=h5py.SoftLink("/meant"))

    assert np.array_equal(np.asarray(read_image(path).data), DATA)
    assert [each.name for each in images_in(path)] == ["raw", "large"]


def test_links_that_lead_in_a_circle_end(tmp_path):
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["group/em"] = DATA
        file["group/up"] = h5py.SoftLink("/")
        file["group/out"] = h5py.ExternalLink("b.h5", "/")
        file["self"] = h5py.SoftLink("/self")
        file["group/hard"] = file["/"]
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file["back"] = h5py.ExternalLink("a.h5", "/")

    assert [each.name for each in images_in(tmp_path / "a.h5")] == ["group/em"]


@pytest.mark.parametrize("within", ["", "raw"])
@pytest.mark.parametrize("over", [False, True])
def test_a_link_into_a_missing_file_is_told_with_that_file(tmp_path, over, within):
    link = h5py.ExternalLink("gone.h5", "/em")
    path = linked(tmp_path, **({"b": link, "raw": h5py.SoftLink("/b")} if over else {"raw": link}))

    with pytest.raises(FileReadError, match=r"another file, .*gone\.h5, which is not there"):
        read_image(path / within)


def test_a_link_to_what_another_file_does_not_hold_is_told(tmp_path, source):
    path = linked(tmp_path, raw=h5py.ExternalLink("source.h5", "/rew"))

    with pytest.raises(FileReadError, match=r"source\.h5, which holds no '/rew' or cannot be"):
        read_image(path)


@pytest.mark.parametrize("target", ["/gone", "/raw"])
def test_a_link_to_nothing_is_told(tmp_path, target):
    path = linked(tmp_path, raw=h5py.SoftLink(target))

    with pytest.raises(FileReadError, match=f"'raw' of .* it is a link to '{target}', where no"):
        read_image(path)


def test_labels_do_not_stand_in_for_an_image_whose_link_is_broken(tmp_path):
    path = linked(tmp_path, labels=DATA, raw=h5py.ExternalLink("gone.h5", "/raw"))

    with pytest.raises(FileReadError, match=r"gone\.h5"):
        read_image(path)
    assert read_image(path / "labels").shape == DATA.shape


def test_a_broken_link_beside_an_image_of_a_usual_name_is_no_matter(tmp_path):
    path = linked(tmp_path, raw=DATA, labels=h5py.ExternalLink("gone.h5", "/raw"))

    assert np.array_equal(np.asarray(read_image(path).data), DATA)


def test_a_file_behind_a_link_that_goes_away_later_is_told(tmp_path, source):
    found = read_image(linked(tmp_path, raw=h5py.ExternalLink("source.h5", "/volume/em")))
    source.unlink()

    with pytest.raises(FileReadError, match=r"source\.h5, which is not there"):
        np.asarray(found.data)


def test_a_virtual_data_set_is_read_from_its_sources(tmp_path, source):
    assert np.array_equal(np.asarray(read_image(gathered(tmp_path)).data), DATA)


@pytest.mark.parametrize("folder", ["elsewhere", "/nowhere at all"])
def test_a_source_is_found_by_its_name_where_the_library_finds_it(tmp_path, source, folder):
    """A whole path that leads nowhere is looked for beside the file, a relative one is not."""
    path = gathered(tmp_path, source=f"{folder}/source.h5")
    with h5py.File(path) as file:
        is_found = bool(file["raw"][0, 0, 0] == DATA[0, 0, 0])

    if is_found:
        assert np.array_equal(np.asarray(read_image(path).data), DATA)
    else:
        with pytest.raises(FileReadError, match=r"elsewhere/source\.h5 is not there"):
            read_image(path)


def test_a_virtual_data_set_whose_source_is_missing_is_refused_before_and_after(tmp_path, source):
    path = gathered(tmp_path)
    found = read_image(path)
    source.unlink()

    for look in (lambda: read_image(path), lambda: np.asarray(found.data)):
        with pytest.raises(FileReadError, match=r"gathered from .* of which .*source\.h5 is not"):
            look()


def test_a_virtual_data_set_whose_source_lacks_its_data_is_refused(tmp_path, source):
    with pytest.raises(FileReadError, match=r"source\.h5 holds no data set 'volume/rew'"):
        read_image(gathered(tmp_path, "volume/rew"))


def test_a_source_that_is_gathered_itself_is_refused_if_its_source_is_missing(tmp_path, source):
    gathered(tmp_path).rename(tmp_path / "middle.h5")
    path = gathered(tmp_path, "raw", "middle.h5")
    assert np.array_equal(np.asarray(read_image(path).data), DATA)
    source.unlink()

    with pytest.raises(FileReadError, match=r"source\.h5 is not there"):
        read_image(path)


def test_a_damaged_source_is_told(tmp_path, source):
    source.write_bytes(source.read_bytes()[:300])

    with pytest.raises(FileReadError, match=r"Cannot read .*source\.h5"):
        read_image(gathered(tmp_path))
