import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from bowerbird.features import Content, Context, FeatureBatch, FeatureTable, Pairs, Ragged, Windows, join

TABLE = FeatureTable(
    user={"age": torch.tensor([10, 20, -1])},  # users 0 and 1, then the unknown one
    item={"price": torch.tensor([1.0, 2.0, 3.0, 0.0]), "tags": torch.tensor([[1, 0], [0, 1], [1, 1], [0, 0]])},
)


def asking(users: list[int], **features: torch.Tensor) -> Context:
    return Context(torch.tensor(users), Ragged.empty(len(users)), features=features)


def test_user_item_and_request_columns_meet_request_after_request() -> None:
    batch = join(asking([1, 0], hour=torch.tensor([8, 9])), torch.tensor([[0, 2], [1, 0]]), TABLE)
    assert batch.columns["user.age"].tolist() == [20, 20, 10, 10]
    assert batch.columns["item.price"].tolist() == [1.0, 3.0, 2.0, 1.0]
    assert batch.columns["item.tags"].tolist() == [[1, 0], [1, 1], [0, 1], [1, 0]]
    assert batch.columns["request.hour"].tolist() == [8, 8, 9, 9]
    assert batch.user is not None
    assert batch.user.tolist() == [1, 1, 0, 0]
    assert len(batch) == 4


def test_unknown_users_and_items_take_the_last_row() -> None:
    batch = join(asking([-1]), torch.tensor([[-1, 1]]), TABLE)
    assert batch.columns["user.age"].tolist() == [-1, -1]
    assert batch.columns["item.price"].tolist() == [0.0, 2.0]


def test_a_row_without_labels_has_none() -> None:
    batch = join(asking([0]), torch.tensor([[1]]), TABLE)
    assert batch.label is None
    assert batch.weight is None


def test_an_item_beyond_the_table_is_an_error_not_another_item() -> None:
    with pytest.raises(IndexError):
        join(asking([0]), torch.tensor([[4]]), TABLE)


@given(
    st.integers(1, 4).flatmap(
        lambda width: st.lists(
            st.tuples(st.integers(-1, 1), st.lists(st.integers(-1, 2), min_size=width, max_size=width)), min_size=1
        )
    )
)
def test_joining_at_once_is_joining_one_by_one(requests: list[tuple[int, list[int]]]) -> None:
    users, candidates = zip(*requests, strict=True)
    together = join(asking(list(users)), torch.tensor(candidates), TABLE)
    singly = [join(asking([user]), torch.tensor([items]), TABLE) for user, items in requests]
    for name, column in together.columns.items():
        assert torch.equal(column, torch.cat([one.columns[name] for one in singly]))


def test_a_batch_is_as_long_as_its_rows() -> None:
    three, none = torch.arange(3), torch.zeros(0, dtype=torch.int64)
    assert len(Pairs(three, three, torch.ones(3), none)) == 3
    assert len(Windows(three[:2], torch.tensor([0, 1, 3]), three, three, torch.ones(2), none)) == 2
    assert len(FeatureBatch({"a": torch.zeros(3, 5)})) == 3
    assert len(Content(three, {"text": torch.zeros(3, 5)}, torch.ones(3))) == 3
