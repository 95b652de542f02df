"""BSARec: its filter against the Fourier transform of the paper, and its block by hand."""

import pytest
import torch

from bowerbird.models.sequential.bsarec import BSABlock, BSARecConfig, Filter, slow


@pytest.mark.parametrize("length", [1, 2, 5, 8, 50])
@pytest.mark.parametrize("frequencies", [1, 3, 100])
def test_at_the_last_position_it_is_the_papers(length: int, frequencies: int) -> None:
    x = torch.randn(length, 3, dtype=torch.float64)
    spectrum = torch.fft.rfft(x, dim=0, norm="ortho")
    spectrum[frequencies:] = 0
    low = torch.fft.irfft(spectrum, n=length, dim=0, norm="ortho")
    torch.testing.assert_close((slow(length, frequencies).double() @ x)[-1], low[-1], rtol=1e-5, atol=1e-5)


def test_the_rest_is_weighed_by_a_square() -> None:
    filter = Filter(BSARecConfig(dim=2, heads=1, history_len=4, frequencies=1))
    filter.root.data = torch.tensor([0.0, 2.0])
    found = filter(torch.tensor([[[4.0, 4.0], [8.0, 8.0]]]))[0]
    # the constant part of 4 positions that are 0 before: 1, then 3; the rest, 3 and 5, is dropped or counts fourfold
    torch.testing.assert_close(found, torch.tensor([[1.0, 1 + 4 * 3.0], [3.0, 3 + 4 * 5.0]]))


@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_alpha_is_the_share_of_the_filter(alpha: float) -> None:
    block = BSABlock(BSARecConfig(dim=4, heads=1, history_len=6, alpha=alpha)).eval()
    x = torch.randn(2, 6, 4)
    before = block(x)
    ignored = block.attention.out if alpha == 1 else block.filter
    for parameter in ignored.parameters():
        parameter.data.add_(torch.randn_like(parameter))
    assert torch.equal(block(x), before)
