"""SIGTERM: it ends a block once, or waits for the block's end; it is never lost, and never takes what is another's."""

import signal
import threading

import pytest

from rest_jax.core.termination import Terminated, postponed, terminable


def terminate():
    signal.raise_signal(signal.SIGTERM)


def test_it_ends_a_block_as_ctrl_c_does_and_does_not_interrupt_what_ends():
    before, ended = signal.getsignal(signal.SIGTERM), []

    def work():
        try:
            terminate()
        finally:
            terminate()
            ended.append(True)

    with pytest.raises(KeyboardInterrupt) as caught, terminable():
        work()
    assert caught.type is Terminated
    assert ended
    assert signal.getsignal(signal.SIGTERM) is before


def test_postponed_it_comes_at_the_end_of_the_block():
    done = []

    def work():
        with postponed() as terminated:
            assert not terminated()
            terminate()
            assert terminated()
            done.append("inside")
        done.append("after")

    with pytest.raises(Terminated), terminable():
        work()
    assert done == ["inside"]


def test_a_block_that_ends_by_itself_says_why():
    def work():
        with postponed() as terminated:
            terminate()
            if terminated():
                raise Terminated("what was kept")

    with pytest.raises(Terminated, match="what was kept"), terminable():
        work()


def test_who_ignores_it_goes_on_ignoring_it():
    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        with terminable(), postponed() as terminated:
            terminate()
            assert not terminated()
    finally:
        signal.signal(signal.SIGTERM, before)


def test_another_thread_leaves_it_to_the_main_one():
    before, told = signal.getsignal(signal.SIGTERM), []

    def work():
        with terminable(), postponed() as terminated:
            told.append((signal.getsignal(signal.SIGTERM), terminated()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert told == [(before, False)]
