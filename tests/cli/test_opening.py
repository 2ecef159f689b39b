from napari_unet.cli import main
from tests.cli.conftest import complaint


def test_open_names_a_file_that_is_not_there(folder, capsys):
    assert "There is no file gone.tif" in complaint(capsys, "open", "gone.tif")


def test_opening_without_a_display_gets_a_message(tmp_path, capsys, monkeypatch):
    for name in ("DISPLAY", "WAYLAND_DISPLAY", "QT_QPA_PLATFORM"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr("sys.platform", "linux")
    assert main(["open"]) == 1
    assert "no display" in capsys.readouterr().err
