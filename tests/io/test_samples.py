import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

import pytest

from napari_unet.io.files import FileReadError
from napari_unet.io.samples import isbi2012


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path):
    """A web server on this machine, and the folder that it serves."""
    folder = tmp_path / "served"
    folder.mkdir()
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(QuietHandler, directory=folder)) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/", folder
        server.shutdown()
        thread.join()


def closed_address():
    """An address of this machine where nobody listens."""
    with ThreadingHTTPServer(("127.0.0.1", 0), QuietHandler) as server:
        return f"http://127.0.0.1:{server.server_port}/"


def downloaded(folder):
    return [p for p in folder.rglob("*") if p.is_file()]


def test_without_a_connection_the_message_says_so(tmp_path):
    with pytest.raises(FileReadError, match=r"could not be downloaded .* needs a connection"):
        isbi2012(tmp_path, closed_address())

    assert downloaded(tmp_path) == []


def test_a_file_with_another_checksum_is_refused(tmp_path, server):
    source, served = server
    first = served / "data/train/image/0.tif"
    first.parent.mkdir(parents=True)
    first.write_bytes(b"II*\0 something else")

    with pytest.raises(FileReadError, match=r"data/train/image/0\.tif"):
        isbi2012(tmp_path / "kept", source)

    assert downloaded(tmp_path / "kept") == []


def test_a_file_that_is_not_there_is_named(tmp_path, server):
    with pytest.raises(FileReadError, match=r"HTTPError at data/train/image/0\.tif"):
        isbi2012(tmp_path / "kept", server[0])
