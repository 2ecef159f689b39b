from concurrent.futures import ThreadPoolExecutor

import torch

from napari_unet.core.devices import in_one_thread


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
