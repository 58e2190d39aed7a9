"""SIGTERM is a Stop with little time."""

import signal

import pytest

from transformer_foundry.console.sigterm import GRACE_S, is_terminated, shutdown_timeout_s, stop_at_termination


def test_sigterm_is_a_stop_that_leaves_little_time():
    with pytest.raises(KeyboardInterrupt), stop_at_termination():
        signal.raise_signal(signal.SIGTERM)
    assert is_terminated()
    assert shutdown_timeout_s(600.0) == GRACE_S


def test_without_it_there_is_all_the_time():
    with stop_at_termination():
        assert not is_terminated()
        assert shutdown_timeout_s(600.0) == 600.0


def test_the_handler_is_put_back():
    before = signal.getsignal(signal.SIGTERM)
    with stop_at_termination():
        pass
    assert signal.getsignal(signal.SIGTERM) == before
