import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real microscopy data; tests that need it are skipped where it is absent."""
    folder = REPOSITORY / os.environ.get("NAPARI_UNET_DATA", "../shared/data")
    if not folder.is_dir():
        pytest.skip(f"there is no real data at {folder}; set NAPARI_UNET_DATA")
    return folder


@pytest.fixture(scope="session", autouse=True)
def _one_thread():
    """Tiny networks are quickest in one thread, above all while other programs compute."""
    import torch

    torch.set_num_threads(1)


class _CapabilityHeader(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("process", ctypes.c_int))


class _Capabilities(ctypes.Structure):
    _fields_ = (
        ("effective", ctypes.c_uint32),
        ("permitted", ctypes.c_uint32),
        ("inheritable", ctypes.c_uint32),
    )


PASSES_OVER_PERMISSIONS = 1 << 1 | 1 << 2
"""Of root: CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH (capabilities(7))."""


@pytest.fixture
def permissions_count() -> Iterator[None]:
    """Let the permissions of files hold for this thread, also where it is root's."""
    if not hasattr(os, "geteuid"):
        pytest.skip("this system has no permissions of that kind")
    if os.geteuid():
        yield
        return
    if sys.platform != "linux":
        pytest.skip("nothing is forbidden to root")
    library = ctypes.CDLL(None, use_errno=True)
    header = _CapabilityHeader(0x20080522, 0)
    before, wanted = ((_Capabilities * 2)() for _ in range(2))
    assert library.capget(ctypes.byref(header), before) == 0
    assert library.capget(ctypes.byref(header), wanted) == 0
    wanted[0].effective &= ~PASSES_OVER_PERMISSIONS
    assert library.capset(ctypes.byref(header), wanted) == 0
    yield
    assert library.capset(ctypes.byref(header), before) == 0
