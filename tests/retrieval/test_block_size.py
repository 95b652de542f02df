"""How many requests are scored at once."""

from bowerbird.retrieval import block_size


def test_small_catalogues_are_bounded_by_requests_and_large_ones_by_scores() -> None:
    assert block_size(1_000) == 512
    assert block_size(100_000) == 27
    assert block_size(10**9) == 1
    assert block_size(0) == 512
