"""Models go to other programs from the dock, and come from them; code is asked about first."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from napari.layers import Image
from napari.viewer import Viewer
from qtpy.QtWidgets import QMessageBox

from demo.mouse import wait_until
from napari_unet.core.annotations import annotations_from_array
from napari_unet.core.foreign import ForeignModel
from napari_unet.core.held_out import all_learnt
from napari_unet.core.image import image_from_array
from napari_unet.io.images import write_image
from napari_unet.io.model_files import find_model
from napari_unet.plugin.dock import UNetDock
from napari_unet.plugin.exporting import MODEL
from tests.io.foreign import save_foreign
from tests.plugin.conftest import SECTIONS, SIZE, await_view, messages
from tests.plugin.test_exporting import export

pytest.importorskip("bioimageio.spec")
pytest.importorskip("onnxruntime")


def await_model(dock: UNetDock, name: str) -> None:
    def there() -> bool:
        model = dock.session.model
        return model is not None and model.name == name

    wait_until(there, 60, f"the model {name}")


def test_a_foreign_model_predicts_but_neither_learns_nor_is_exported(
    viewer: Viewer, dock: UNetDock, image_layer: Image, tmp_path: Path
) -> None:
    dock.image_group.load(save_foreign(tmp_path / "blobs.zip", ("onnx",)))

    await_model(dock, "blobs of another program")
    await_view(viewer, dock)
    assert isinstance(dock.session.model, ForeignModel)
    assert set(viewer.layers["mask"].data[0].ravel().tolist()) <= {0, 1, 2}
    assert "cannot learn here" in dock.image_group.known.text()

    painted = np.zeros((SECTIONS, SIZE, SIZE), np.uint8)
    painted[0, : SIZE // 2], painted[0, SIZE // 2 :] = 1, 2
    annotations = annotations_from_array(painted, dock.session.classes)
    dock.session.paint(annotations, all_learnt(annotations))
    dock.learn_group.start.click()
    assert dock.trainer.state == "idle"
    assert any("cannot learn here" in m for m in messages())
    assert dock.session.live is None

    dock.export_group.kind.value = MODEL
    dock.export_group.export_to(tmp_path / "again.safetensors")
    wait_until(lambda: any("Copy that file instead" in m for m in messages()), 60, "a message")
    assert not (tmp_path / "again.safetensors").exists()


def test_code_of_a_model_is_run_only_when_somebody_says_so(
    viewer: Viewer, dock: UNetDock, image_layer: Image, tmp_path: Path, monkeypatch
) -> None:
    path = save_foreign(tmp_path / "blobs.zip", ("torchscript",))
    asked: list[str] = []
    answers = [QMessageBox.No, QMessageBox.Yes]

    def question(parent, title, text, *buttons):
        asked.append(text)
        return answers[len(asked) - 1]

    monkeypatch.setattr(QMessageBox, "question", question)
    dock.image_group.load(path)
    wait_until(lambda: bool(asked), 60, "the question")
    wait_until(lambda: dock.image_group.model.value == "em-lite", 60, "the model as it was")
    assert "Nothing of it was run" in asked[0]
    assert dock.session.model is not None
    assert dock.session.model.name != "blobs of another program"

    dock.image_group.load(path)
    await_model(dock, "blobs of another program")
    await_view(viewer, dock)
    assert len(asked) == 2


def test_a_model_is_exported_for_other_programs(
    dock: UNetDock, image_layer: Image, tmp_path: Path
) -> None:
    assert dock.session.model is not None
    for name in ("mine.zip", "mine.onnx"):
        found = find_model(str(export(dock, MODEL, tmp_path / name)))
        assert found.classes == dock.session.model.classes


def test_a_project_opens_with_the_network_of_another_program_while_its_file_is_there(
    viewer: Viewer, dock: UNetDock, stack, tmp_path: Path
) -> None:
    write_image(tmp_path / "em.tif", image_from_array(stack[0], "em", 4.0))
    viewer.open(str(tmp_path / "em.tif"), plugin="napari-unet-em")
    await_view(viewer, dock)
    file = save_foreign(tmp_path / "blobs.zip", ("onnx",))
    dock.image_group.load(file)
    await_model(dock, "blobs of another program")
    dock.project_group.save_to(tmp_path / "em.unet")
    dock.projects.close()

    def opened() -> None:
        dock.image_group.model.value = "em-lite"
        await_model(dock, "em-lite")
        dock.projects.open(tmp_path / "em.unet")
        wait_until(lambda: dock.session.project is not None, 60, "the project")

    opened()
    await_model(dock, "blobs of another program")
    assert isinstance(dock.session.model, ForeignModel)
    assert dock.image_group.model.value == "blobs.zip"
    assert messages() == []
    dock.projects.close()

    file.rename(tmp_path / "elsewhere.zip")
    opened()
    assert dock.session.model.name == "em-lite"
    (said,) = messages()
    assert "was saved with the network" in said
    assert "blobs.zip" in said
