import numpy as np
import torch
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.core import derive, numpy_stream, torch_stream

NAMES = st.text(st.characters(exclude_characters="/", exclude_categories=["Cs"]), max_size=8)


def test_a_seed_is_derived_the_same_on_every_machine() -> None:
    assert derive(0, "init") == 1519069808562059438  # half of the first 8 bytes of `printf 0/init | sha256sum`


@given(st.integers(0, 2**31), NAMES)
def test_a_seed_fits_63_bits(seed: int, name: str) -> None:
    assert 0 <= derive(seed, name) < 2**63


@given(st.integers(0, 1000), NAMES, NAMES)
def test_streams_differ_by_name(seed: int, one: str, other: str) -> None:
    assert (derive(seed, one) == derive(seed, other)) == (one == other)


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_streams_differ_by_seed(one: int, other: int) -> None:
    assert (derive(one, "init") == derive(other, "init")) == (one == other)


def test_a_draw_in_one_place_changes_no_other_place() -> None:
    quiet = numpy_stream(5, "negatives").random(4)
    numpy_stream(5, "shuffle").random(1000)
    assert np.array_equal(numpy_stream(5, "negatives").random(4), quiet)
    assert not np.array_equal(numpy_stream(5, "shuffle").random(4), quiet)


def test_torch_streams_repeat_and_differ_by_name() -> None:
    def draw(name: str) -> torch.Tensor:
        return torch.rand(4, generator=torch_stream(5, name))

    assert torch.equal(draw("init"), draw("init"))
    assert not torch.equal(draw("init"), draw("dropout"))
