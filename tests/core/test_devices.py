from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
import torch
from threadpoolctl import threadpool_info, threadpool_limits

from napari_unet.core.devices import choose_device, in_one_thread, training_layout


def test_in_one_thread_holds_for_the_thread_that_asks_and_only_meanwhile():
    usual = torch.get_num_threads()

    def meanwhile() -> tuple[int, int, int]:
        with in_one_thread():
            torch.ones(300, 300) @ torch.ones(300, 300)
            inside = torch.get_num_threads()
            with ThreadPoolExecutor(1) as another:
                beside = another.submit(torch.get_num_threads).result()
        return inside, beside, torch.get_num_threads()

    with ThreadPoolExecutor(1) as thread:
        assert thread.submit(meanwhile).result() == (1, usual, usual)
    assert torch.get_num_threads() == usual


def blas_threads() -> list[int]:
    return [each["num_threads"] for each in threadpool_info() if each["user_api"] == "blas"]


def set_blas_threads(number: int) -> None:
    # A thread that sets them keeps others from it while it lives.
    with ThreadPoolExecutor(1) as thread:
        thread.submit(threadpool_limits, number, "blas").result()


@pytest.fixture
def two_blas_threads() -> Iterator[None]:
    if not blas_threads():
        pytest.skip("the threads of this BLAS cannot be counted")
    usual = max(blas_threads())
    set_blas_threads(2)
    yield
    set_blas_threads(usual)


def test_in_one_thread_takes_the_threads_of_blas_until_the_last_one_has_left(two_blas_threads):
    first_leaves, both_are_in = Barrier(2, timeout=60), Barrier(2, timeout=60)

    def first() -> None:
        with in_one_thread():
            both_are_in.wait()
        first_leaves.wait()

    def second() -> set[int]:
        with in_one_thread():
            both_are_in.wait()
            first_leaves.wait()
            return set(blas_threads())

    with ThreadPoolExecutor(2) as threads:
        threads.submit(first)
        assert threads.submit(second).result() == {1}
    assert set(blas_threads()) == {2}


@pytest.mark.parametrize(
    ("processor", "layout"),
    [
        ({"architecture": "x86_64", "avx2": True, "avx512_f": False}, torch.contiguous_format),
        ({"architecture": "x86_64", "avx2": True, "avx512_f": True}, torch.channels_last),
        ({"architecture": "arm64"}, torch.channels_last),
    ],
)
def test_a_processor_without_avx512_learns_with_the_channels_first(monkeypatch, processor, layout):
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: processor)
    assert training_layout(choose_device("cpu")) == layout
