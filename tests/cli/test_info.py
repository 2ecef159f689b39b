import json

import numpy as np
import tifffile

from napari_unet.cli import main
from tests.cli.conftest import answer


def test_info_prints_one_json_object(folder, capsys):
    assert json.loads(answer(capsys, "info", "image.tif")) == {
        "shape": [3, 48, 48],
        "dtype": "uint8",
        "axes": "ZYX",
        "scale": [50.0, 4.0, 4.0],
        "units": ["nm", "nm", "nm"],
    }


def test_info_of_an_image_of_unknown_spacing_has_one_scale_and_unit_per_axis(folder, capsys):
    tifffile.imwrite("plain.tif", np.zeros((2, 3, 5, 6), np.uint16), photometric="minisblack")

    found = json.loads(answer(capsys, "info", "plain.tif"))

    assert found["shape"] == [2, 3, 5, 6]
    assert found["dtype"] == "uint16"
    assert found["scale"] == [1.0] * 4
    assert found["units"] == ["pixel"] * 4
    assert len(found["axes"]) == 4


def test_a_name_that_is_too_long_for_a_file_gets_a_message(capsys):
    assert main(["info", "a" * 300 + ".tif"]) == 1
    assert "Traceback" not in capsys.readouterr().err
