"""What all models of histories have in common: causality, neighbours, the loss, odd histories, hidden repeats."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

import bowerbird.models  # noqa: F401  fills the registry
from bowerbird.core import ConfigError, RunOptions, build, entries, lookup
from bowerbird.data import Schema
from bowerbird.features import Context, Ragged, Windows
from bowerbird.nn.sequences import SequenceModel
from bowerbird.recommender import Recommender

NAMES = [one.name for one in entries() if "sequential" in one.tags]
FORWARD = [name for name in NAMES if name != "bert4rec"]  # which read from left to right
ITEMS = 30


@pytest.fixture
def model(request: pytest.FixtureRequest) -> SequenceModel:
    return made(request.param)


def made(name: str, **settings: object) -> SequenceModel:
    """Return a model with large random weights, in evaluation mode, all items shaped."""
    entry = lookup(name)
    found: SequenceModel = entry.model(build(entry.config, {"dim": 8, "history_len": 12, **settings}), Schema(5, ITEMS))
    for parameter in found.parameters():
        nn.init.normal_(parameter, std=0.5)
    found.shaped_item.fill_(True)
    found.eval().freeze()
    return found


def windows(item: torch.Tensor, target: torch.Tensor) -> Windows:
    weight = (target >= 0).sum(dim=1).float()
    return Windows(torch.arange(len(item)), item, target, weight, torch.empty(0, dtype=torch.int64))


@pytest.mark.parametrize("model", FORWARD, indirect=True)
def test_the_future_and_neighbours_change_nothing(model: SequenceModel) -> None:
    item = torch.randint(ITEMS, (3, 9))
    time = torch.randint(1000, (3, 9)).cumsum(dim=1)
    before = model.encode(item, time)
    other, later = item.clone(), time.clone()
    other[:, 5:] = (other[:, 5:] + 1) % ITEMS
    later[:, 5:] += 50_000
    other[2] = (other[2] + 7) % ITEMS
    after = model.encode(other, later)
    assert torch.equal(after[:2, :5], before[:2, :5])
    assert not torch.isclose(after[:2, 5:], before[:2, 5:]).all(dim=2).any()


@pytest.mark.parametrize("model", NAMES, indirect=True)
def test_a_longer_neighbour_changes_nothing(model: SequenceModel) -> None:
    short = [3, 1, 4]
    alone = model.query(Context.of_histories([short]))
    among = model.query(Context.of_histories([list(range(11)), short, [7]]))
    torch.testing.assert_close(among[1], alone[0])


@pytest.mark.parametrize("model", NAMES, indirect=True)
def test_only_the_latest_events_are_read(model: SequenceModel) -> None:
    rows = [np.arange(40) % ITEMS, np.arange(40)[-12:] % ITEMS]
    long, short = model.query(Context.of_histories(rows))
    torch.testing.assert_close(long, short)


@pytest.mark.parametrize("model", NAMES, indirect=True)
@pytest.mark.parametrize(
    "rows", [[], [5], [5] * 200, list(range(ITEMS)) * 334], ids=["none", "one", "one 200 times", "ten thousand"]
)
def test_odd_histories(model: SequenceModel, rows: list[int]) -> None:
    context = Context.of_histories([rows, [1, 2]])
    assert model.can(context).tolist() == [bool(rows), True]
    scores = model.scores(context)
    assert scores.shape == (2, ITEMS)
    assert bool(scores.isfinite().all())


@pytest.mark.parametrize("model", NAMES, indirect=True)
def test_times_out_of_order_are_no_error(model: SequenceModel) -> None:
    history = Ragged(torch.tensor([0, 3]), torch.tensor([1, 2, 3]), time=torch.tensor([900, 5, 700]))
    context = Context(torch.tensor([-1]), history)
    assert bool(model.scores(context).isfinite().all())


@pytest.mark.parametrize("model", FORWARD, indirect=True)
def test_the_loss_is_that_of_each_position(model: SequenceModel) -> None:
    item = torch.tensor([[1, 2, 3], [4, 5, -1], [6, -1, -1]])
    target = torch.tensor([[2, 3, 9], [5, -1, -1], [-1, -1, -1]])  # 4's next is asked for, 5's and 6's are not
    found = model.loss_of(model.encode(item), windows(item, target), target)
    log = torch.log_softmax(model.encode(item) @ model.item.T, dim=2)
    first = -(log[0, 0, 2] + log[0, 1, 3] + log[0, 2, 9]) / 3
    torch.testing.assert_close(found, torch.stack([first, -log[1, 0, 5], torch.zeros(())]))


@pytest.mark.parametrize("name", NAMES)
def test_wrong_settings_are_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="history_len is 0; it must be 1 or more"):
        made(name, history_len=0)
    with pytest.raises(ConfigError, match=r"dropout is 1\.0; it must be 0 or more and below 1"):
        made(name, dropout=1.0)


def test_heads_must_divide_the_embedding_size() -> None:
    with pytest.raises(ConfigError, match=r"heads is 3; it must divide dim \(8\)"):
        made("sasrec", heads=3)


@pytest.mark.parametrize("name", FORWARD)
def test_a_change_of_items_is_learnt(name: str, table: Callable[..., object]) -> None:
    """Items follow one another round a circle: what comes next is a matter of order, not of taste."""
    pairs = [(user, (user + step) % 12) for user in range(60) for step in range(6)]
    past = table(pairs, 60, 12)
    config = build(lookup(name).config, {"dim": 16, "epochs": 60, "batch_size": 64, "learning_rate": 0.01})
    rec = Recommender(config, past, run=RunOptions(progress=False))  # type: ignore[arg-type]
    rec.learn(epochs=60)
    best = rec.model.scores(Context.of_histories([[2, 3, 4], [10, 11], [7]])).argmax(dim=1)
    assert best.tolist() == [5, 0, 8]


@pytest.mark.parametrize("name", ["sasrec", "gru4rec"])
@pytest.mark.parametrize("settings", [{}, {"time_gaps": True}, {"cosine": True}])
def test_one_event_more_is_read_on_from_what_was_read_before(
    name: str, settings: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = made(name, **settings)
    item, time = torch.randint(ITEMS, (11,)), torch.randint(90_000, (11,)).cumsum(0)

    def told(n: int) -> torch.Tensor:
        offsets = torch.tensor([0, n])
        with torch.no_grad():
            return model.query(Context(torch.tensor([-1]), Ragged(offsets, item[:n], time=time[:n])))

    with monkeypatch.context() as patch:
        patch.setattr(model, "further", lambda *_: None)
        whole = {n: told(n) for n in (4, 5, 8, 11)}
    read: list[int] = []
    usual = model.further
    monkeypatch.setattr(
        model, "further", lambda x, done, state: (read.append(x.shape[1] - done), usual(x, done, state))[1]
    )
    for n in (4, 5, 5, 8, 11):
        torch.testing.assert_close(told(n), whole[n])
    assert read == [4, 1, 3, 3]  # the second 5 was known
    model.load_state_dict(model.state_dict())
    told(11)
    assert read[-1] == 11  # other weights have read nothing


def test_other_events_or_times_are_another_history() -> None:
    model = made("sasrec", time_gaps=True)

    def told(item: list[int], time: list[int]) -> torch.Tensor:
        offsets = torch.tensor([0, len(item)])
        with torch.no_grad():
            return model.query(
                Context(torch.tensor([-1]), Ragged(offsets, torch.tensor(item), time=torch.tensor(time)))
            )

    first = told([1, 2, 3], [10, 20, 5000])
    assert not torch.isclose(told([1, 2, 3], [10, 4900, 5000]), first).all()
    assert not torch.isclose(told([2, 1, 3], [10, 20, 5000]), first).all()
    assert torch.equal(told([1, 2, 3], [10, 20, 5000]), first)
