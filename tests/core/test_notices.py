import threading

import pytest

from napari_unet.core.notices import listening, tell


def test_without_a_listener_it_is_a_warning_of_the_caller():
    with pytest.warns(UserWarning, match="Memory ran short") as told:
        tell("Memory ran short")
    assert told[0].filename == __file__


def test_each_thread_hears_what_is_told_in_it_however_they_overlap():
    heard = {"first": [], "second": []}
    both, first_ended = threading.Barrier(2, timeout=20), threading.Event()

    def work(name):
        with listening(heard[name].append):
            both.wait()
            if name == "second":
                first_ended.wait(20)
            tell(f"from {name}")

    threads = [threading.Thread(target=work, args=(name,)) for name in heard]
    for thread in threads:
        thread.start()
    threads[0].join(20)
    first_ended.set()
    threads[1].join(20)

    assert heard == {"first": ["from first"], "second": ["from second"]}


def test_a_generator_that_listened_may_end_in_another_thread():
    def work():
        with listening(lambda message: None):
            yield

    dropped = work()
    thread = threading.Thread(target=next, args=(dropped,))
    thread.start()
    thread.join(20)
    dropped.close()
    with pytest.warns(UserWarning, match="Memory ran short"):
        tell("Memory ran short")


def test_after_listening_it_is_a_warning_again():
    with listening(lambda message: None):
        pass
    with pytest.warns(UserWarning, match="Memory ran short"):
        tell("Memory ran short")
