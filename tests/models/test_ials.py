import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from bowerbird.core import ConfigError, numpy_stream
from bowerbird.data import Schema
from bowerbird.features import Context, Ragged
from bowerbird.models.baselines.ials import IALS, IALSConfig
from bowerbird.nn import factors


def slow_half_step(matrix: np.ndarray, table: np.ndarray, config: IALSConfig, alpha: float) -> np.ndarray:
    """Return each row's vector by equations 3 and 4 of the paper, one by one, in double precision."""
    counted = int((matrix.sum(axis=0) > 0).sum())
    solved = np.zeros((len(matrix), config.dim))
    for row, chosen in enumerate(matrix.astype(bool)):
        if chosen.any():
            strength = config.l2 * (chosen.sum() + alpha * counted) ** config.exponent
            left = alpha * table.T @ table + table[chosen].T @ table[chosen]
            solved[row] = np.linalg.solve(left + strength * np.eye(config.dim), table[chosen].sum(axis=0))
    return solved


def objective(matrix: np.ndarray, users: np.ndarray, items: np.ndarray, config: IALSConfig, alpha: float) -> float:
    """Return what the paper minimises, equation 1."""
    score, chosen = users @ items.T, matrix.astype(bool)
    penalty = 0.0
    for vectors, counts, others in (
        (users, chosen.sum(1), chosen.any(0).sum()),
        (items, chosen.sum(0), chosen.any(1).sum()),
    ):
        penalty += ((counts + alpha * others) ** config.exponent * (vectors**2).sum(1)).sum()
    return float(((score - 1)[chosen] ** 2).sum() + alpha * (score**2).sum() + config.l2 * penalty)


def of_rows(matrix: np.ndarray) -> Context:
    return Context.of_histories([np.flatnonzero(row) for row in matrix])


def by_hand(**options) -> IALS:
    """Return a model of two items with the vectors (1, 0) and (1, 1)."""
    model = IALS(IALSConfig(dim=2, **options), Schema(1, 2))
    model.item = torch.tensor([[1.0, 0.0], [1.0, 1.0]])
    model.gram = model.item.T @ model.item
    model.shaped_item.fill_(True)
    return model


def test_a_half_step_by_hand() -> None:
    # V'V = [[2, 1], [1, 1]]; half of it, plus (1, 0)(1, 0)', plus 0.5 (1 + 0.5 · 2) = 1 on the diagonal:
    # [[3, 0.5], [0.5, 1.5]] u = (1, 0) has the solution (1.5, -0.5) / 4.25
    model = by_hand(l2=0.5, unobserved=1.0)  # of two items: a half for each
    assert model.query(Context.of_histories([[0]]))[0].tolist() == pytest.approx([1.5 / 4.25, -0.5 / 4.25])
    assert model.scores(Context.of_histories([[0]]))[0].tolist() == pytest.approx([1.5 / 4.25, 1.0 / 4.25])


def test_the_exponent_decides_how_the_penalty_grows_with_choices() -> None:
    # without it, 0.5 on the diagonal: [[2.5, 0.5], [0.5, 1]] u = (1, 0) has the solution (1, -0.5) / 2.25
    model = by_hand(l2=0.5, unobserved=1.0, exponent=0.0)
    assert model.query(Context.of_histories([[0]]))[0].tolist() == pytest.approx([1 / 2.25, -0.5 / 2.25])


@settings(max_examples=25, deadline=None)
@given(
    matrix=arrays(bool, (9, 6)),
    l2=st.sampled_from([0.1, 1.0]),
    unobserved=st.sampled_from([0.3, 3.0, 30.0]),
    exponent=st.sampled_from([0.0, 0.5, 1.0]),
)
def test_one_epoch_agrees_with_a_slow_solver(
    table, closed, matrix: np.ndarray, l2: float, unobserved: float, exponent: float
) -> None:
    config = IALSConfig(dim=3, l2=l2, unobserved=unobserved, exponent=exponent, epochs=1)
    past = table(np.argwhere(matrix), 9, 6)
    model = closed(config, past)
    rng = numpy_stream(0, "fit")
    rng.integers(1 << 40, size=6)  # the order of users, which changes nothing but rounding
    alpha = min(1.0, unobserved / max(matrix.any(axis=0).sum(), 1))
    start = rng.normal(0.0, factors.START / 3**0.5, (6, 3)).astype(np.float32).astype(float)
    start *= matrix.any(axis=0)[:, None]
    users = slow_half_step(matrix, start, config, alpha)
    items = slow_half_step(matrix.T, users, config, alpha)
    assert np.allclose(model.item.numpy(), items, rtol=1e-3, atol=1e-4)
    assert np.allclose(
        model.query(of_rows(matrix)).numpy(), slow_half_step(matrix, items, config, alpha), rtol=1e-3, atol=1e-4
    )


def test_blocks_of_any_size_solve_alike(table, closed, monkeypatch: pytest.MonkeyPatch) -> None:
    matrix = np.random.default_rng(0).random((50, 30)) < np.linspace(0.02, 0.9, 50)[:, None]
    past, config = table(np.argwhere(matrix), 50, 30), IALSConfig(dim=4, epochs=2)
    whole = closed(config, past)
    monkeypatch.setattr(factors, "BLOCK_NUMBERS", 1)
    assert torch.allclose(closed(config, past).item, whole.item, atol=1e-5)


def test_every_epoch_lowers_what_the_paper_minimises(table, closed) -> None:
    matrix = np.random.default_rng(3).random((40, 20)) < 0.2
    past = table(np.argwhere(matrix), 40, 20)
    values = []
    for epochs in (1, 2, 4, 8):
        config = IALSConfig(dim=5, l2=0.05, unobserved=4.0, epochs=epochs)
        model = closed(config, past)
        users = slow_half_step(matrix, model.item.double().numpy(), config, 0.2)
        values.append(objective(matrix, users, model.item.double().numpy(), config, 0.2))
    assert values == sorted(values, reverse=True)
    assert values[-1] < 0.99 * values[0]


def test_a_known_user_and_a_stranger_with_the_same_past_are_told_the_same(table, closed) -> None:
    matrix = np.random.default_rng(1).random((30, 12)) < 0.3
    past = table(np.argwhere(matrix), 30, 12)
    model = closed(IALSConfig(dim=4), past)
    known = model.scores(Context.of_users(np.arange(30, dtype=np.int32), past))
    assert torch.equal(known, model.scores(of_rows(matrix)))


def test_a_setting_means_the_same_for_any_size_of_catalogue(table, closed) -> None:
    # the same choices beside items that nobody chose: nothing is spread over those
    matrix = np.random.default_rng(6).random((30, 12)) < 0.3
    small, large = (table(np.argwhere(matrix), 30, n_items) for n_items in (12, 40))
    models = [closed(IALSConfig(dim=4, unobserved=6.0), past) for past in (small, large)]
    assert [one.squares.alpha(int(one.shaped_item.sum())) for one in models] == [0.5, 0.5]
    assert models[0].squares.alpha(3) == 1.0  # no more than a choice adds


def test_permuting_users_changes_nothing(table, closed) -> None:
    past = table(np.argwhere(np.random.default_rng(2).random((30, 12)) < 0.3), 30, 12)
    moved = past.reorder_ids(np.random.default_rng(0).permutation(30), np.arange(12))
    assert torch.equal(closed(IALSConfig(dim=4), moved).item, closed(IALSConfig(dim=4), past).item)


def test_threads_change_nothing_that_matters(table, closed) -> None:
    past = table(np.argwhere(np.random.default_rng(4).random((60, 40)) < 0.3), 60, 40)
    threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        one = closed(IALSConfig(dim=8), past).item
        torch.set_num_threads(2)
        assert torch.allclose(closed(IALSConfig(dim=8), past).item, one, atol=1e-4)
    finally:
        torch.set_num_threads(threads)


def test_a_dislike_says_nothing(table, closed) -> None:
    model = closed(IALSConfig(dim=4), table(np.argwhere(np.random.default_rng(5).random((20, 5)) < 0.5), 20, 5))
    mixed = Context.of_histories([[0, 1, 2]]).history
    signed = Ragged(mixed.offsets, mixed.item, weight=torch.tensor([1.0, -1.0, 1.0]))
    asked = Context(torch.tensor([-1]), signed)
    assert torch.equal(model.scores(asked), model.scores(Context.of_histories([[0, 2]])))


def test_an_item_that_nobody_chose_is_not_scored(table, closed) -> None:
    model = closed(IALSConfig(dim=2), table([(0, 0), (1, 0), (1, 1)], 2, 3))
    assert model.scores(Context.of_histories([[0]]))[0].isneginf().tolist() == [False, False, True]


def test_growing_keeps_every_answer(table, closed) -> None:
    model = closed(IALSConfig(dim=2), table([(0, 0), (1, 0), (1, 1)], 2, 2))
    before = model.scores(Context.of_histories([[0], [0, 1]]))
    model.grow(5, 4)
    after = model.scores(Context.of_histories([[0], [0, 1]]))
    assert torch.equal(after[:, :2], before)
    assert bool(after[:, 2:].isneginf().all())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"dim": 0}, "dim is 0; it must be 1 or more. Try dim = 64."),
        ({"l2": 0.0}, "l2 is 0.0; it must be above 0. Try l2 = 0.006."),
        ({"unobserved": -1.0}, "unobserved is -1.0; it must be above 0. Try unobserved = 1000.0."),
        ({"exponent": 1.5}, "exponent is 1.5; it must be 0 to 1. Try exponent = 1.0."),
        ({"epochs": 0}, "epochs is 0; it must be 1 or more. Try epochs = 10."),
    ],
)
def test_a_setting_that_makes_no_sense_is_refused(options: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        IALSConfig(**options)
    assert str(caught.value) == message


def test_without_each_item_in_one_go_is_asked_again_one_by_one() -> None:
    rng = numpy_stream(0, "t")
    model = IALS(IALSConfig(dim=6, l2=0.05, unobserved=3.0, exponent=0.7), Schema(1, 30))
    model.item = torch.from_numpy(rng.normal(size=(30, 6)).astype(np.float32))
    model.gram = model.item.T @ model.item
    model.shaped_item.fill_(True)
    history = rng.permutation(30)[:9]
    asked = model.query(Context.of_histories([np.delete(history, one) for one in range(9)]))
    torch.testing.assert_close(model.queries_without_each(Context.of_histories([history])), asked)
