import sys

import pytest

from transformer_foundry.core.system.memory import PeakMemory


def take_and_free(kept):
    """Take 100 MB in small pieces, free all but one, so that the allocator keeps them, and return the peak in GB."""
    memory = PeakMemory("cpu")
    pieces = [bytes(2000) for _ in range(50_000)]
    peak = memory.gigabytes()
    kept.append(pieces[-1])
    del pieces
    return peak


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux reports the peak of a process")
def test_a_second_training_counts_memory_that_the_first_had_freed():
    kept = []
    first, second = take_and_free(kept), take_and_free(kept)
    if first is None:
        pytest.skip("this system cannot reset the peak")
    assert first == pytest.approx(0.1, rel=0.3)
    assert second == pytest.approx(first, rel=0.3)
