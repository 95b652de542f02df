"""BERT4Rec: what is masked is not seen, both sides are, and the answer stands at a mask behind the history."""

import torch
from torch import nn

from bowerbird.data import Schema
from bowerbird.features import Context, Ragged, Windows
from bowerbird.models.sequential.bert4rec import BERT4Rec, BERT4RecConfig, behind


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
    time = torch.tensor([[10, 20, 30], [40, 50, 99], [60, 99, 99]])
    last = torch.tensor([[7], [8], [-1]])  # what follows 6 is not to be foreseen
    whole, moments, length = behind(item, time, last)
    assert whole.tolist() == [[1, 2, 3, 7], [4, 5, 8, -1], [6, -1, -1, -1]]
    assert moments is not None
    assert [row[int(end)] for row, end in zip(moments.tolist(), length, strict=True)] == [30, 50, 60]


def test_a_neighbours_times_change_nothing() -> None:
    model = made(time_gaps=True, time_of_day=True)
    item, time = torch.tensor([1, 2, 3, 4, 5]), torch.tensor([0, 7_000, 90_000, 5_000, 400_000])
    both = Context(torch.tensor([-1, -1]), Ragged(torch.tensor([0, 2, 5]), item, time=time))
    alone = Context(torch.tensor([-1]), Ragged(torch.tensor([0, 2]), item[:2], time=time[:2]))
    torch.testing.assert_close(model.query(both)[:1], model.query(alone))


def test_every_row_teaches_and_padding_does_not() -> None:
    model = made(masked=1e-6, last=0.0)
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


def test_rows_whose_last_item_alone_is_masked_are_told_nothing_else() -> None:
    item, target = torch.tensor([[1, 2, 3]]), torch.tensor([[2, 3, 7]])
    batch = Windows(torch.arange(1), item, target, torch.ones(1), torch.empty(0, dtype=torch.int64))
    model = made(masked=0.9, last=1.0)
    hidden = torch.tensor([[False, False, False, True]])
    log = torch.log_softmax(model.filled(torch.tensor([[1, 2, 3, 7]]), hidden, None)[0, 3] @ model.item.T, dim=0)
    torch.testing.assert_close(model.loss(batch)[0], -log[7])
