"""BERT4Rec: what is masked is not seen, both sides are, and the answer stands at a mask behind the history."""

import torch
from torch import nn

from bowerbird.data import Schema
from bowerbird.features import Windows
from bowerbird.models.sequential.bert4rec import BERT4Rec, BERT4RecConfig, _whole


def made(**settings: float) -> BERT4Rec:
    model = BERT4Rec(BERT4RecConfig(dim=8, history_len=6, dropout=0.0, **settings), Schema(3, 20))  # type: ignore[arg-type]
    for parameter in model.parameters():
        nn.init.normal_(parameter, std=0.5)
    return model.eval()


def test_a_masked_item_is_hidden_and_both_sides_are_seen() -> None:
    model, hidden = made(), torch.tensor([[False, True, False]])
    before = model.filled(torch.tensor([[1, 2, 3]]), hidden, None)
    assert torch.equal(model.filled(torch.tensor([[1, 9, 3]]), hidden, None), before)
    for other in ([9, 2, 3], [1, 2, 9]):
        after = model.filled(torch.tensor([other]), hidden, None)
        assert not torch.isclose(after[0, 1], before[0, 1]).all()


def test_windows_get_their_last_target_back() -> None:
    item = torch.tensor([[1, 2, 3], [4, 5, -1], [6, -1, -1]])
    target = torch.tensor([[2, 3, 7], [5, 8, -1], [-1, -1, -1]])  # what follows 6 is not to be foreseen
    batch = Windows(torch.arange(3), item, target, torch.ones(3), torch.empty(0, dtype=torch.int64))
    assert _whole(batch)[0].tolist() == [[1, 2, 3, 7], [4, 5, 8, -1], [6, -1, -1, -1]]


def test_every_row_teaches_and_padding_does_not() -> None:
    model = made(masked=1e-6)
    item, target = torch.tensor([[1, 2, 3], [4, -1, -1]]), torch.tensor([[2, 3, 7], [5, -1, -1]])
    batch = Windows(torch.arange(2), item, target, torch.ones(2), torch.empty(0, dtype=torch.int64))
    found = model.loss(batch)  # nothing is drawn, so the last item of each row is masked
    whole, hidden = torch.tensor([[4, 5]]), torch.tensor([[False, True]])
    log = torch.log_softmax(model.filled(whole, hidden, None)[0, 1] @ model.item.T, dim=0)
    torch.testing.assert_close(found[1], -log[5])


def test_the_answer_is_that_of_a_mask_behind_the_end() -> None:
    model = made()
    found = model.answer(torch.tensor([[1, 2, 3], [4, -1, -1]]), None)
    hidden = torch.tensor([[False, True]])
    torch.testing.assert_close(found[1], model.filled(torch.tensor([[4, -1]]), hidden, None)[0, 1])
