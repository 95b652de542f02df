"""evaluate(): who is asked for what, what may stand in a list, and agreement with a slow, obvious version."""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

import bowerbird as bb
from bowerbird.core import ConfigError, ScoreError
from bowerbird.core.ids import Ids
from bowerbird.data import EventType, Holdout, Interactions
from bowerbird.evaluation import evaluate
from bowerbird.evaluation import report as report_module

Build = Callable[..., Any]


def slow_metrics(ranked: list[Any], targets: set[Any], k: int) -> dict[str, float]:
    """Return the metrics of one user's list, written for reading."""
    places = [place for place, item in enumerate(ranked[:k], start=1) if item in targets]
    ideal = sum(1 / math.log2(place + 1) for place in range(1, min(k, len(targets)) + 1))
    return {
        f"ndcg@{k}": sum(1 / math.log2(place + 1) for place in places) / ideal,
        f"recall@{k}": len(places) / len(targets),
        f"hit@{k}": float(len(places) > 0),
        f"mrr@{k}": 1 / places[0] if places else 0.0,
        f"precision@{k}": len(places) / k,
        f"map@{k}": sum((nth + 1) / place for nth, place in enumerate(places)) / len(targets),
    }


def slow_evaluate(score: dict[Any, dict[Any, float]], cut: Holdout, k: int) -> dict[Any, dict[str, float]]:
    """Return the metrics of each user id; `score[user id][item id]` may lack items."""

    def pairs(part: Interactions) -> list[tuple[Any, Any]]:
        return list(zip(part.user_ids.names(part.user), part.item_ids.names(part.item), strict=True))

    known = set(cut.known.item_ids.values.to_list())
    past, later = pairs(cut.history), pairs(cut.targets)
    result = {}
    for user in {user for user, _ in later}:
        seen = {item for who, item in past if who == user}
        targets = {item for who, item in later if who == user} & known - seen
        if not targets:
            continue
        open_items = [item for item in known - seen if item in score[user]]
        result[user] = slow_metrics(sorted(open_items, key=lambda item: -score[user][item]), targets, k)
    return result


def random_cut(seed: int = 0) -> Holdout:
    rng = np.random.default_rng(seed)
    user, item = rng.integers(0, 60, 1500), rng.integers(0, 45, 1500)
    early = np.arange(1500) < 1350  # some users and items only come after the second cut
    user[early], item[early] = user[early] % 45, item[early] % 40
    frame = pl.DataFrame({"user": [f"u{row}" for row in user], "item": item, "time": np.arange(1500)})
    return bb.split(Interactions.of(frame["user"], frame["item"], time=frame["time"].to_numpy()), warmup=2).test


def scores_by_id(cut: Holdout, table: np.ndarray) -> dict[Any, dict[Any, float]]:
    users, items = cut.targets.user_ids.values.to_list(), cut.targets.item_ids.values.to_list()
    return {user: dict(zip(items, map(float, row), strict=True)) for user, row in zip(users, table, strict=True)}


def distinct_scores(cut: Holdout, seed: int = 1) -> np.ndarray:
    shape = (cut.targets.n_users, cut.targets.n_items)
    return np.random.default_rng(seed).permutation(math.prod(shape)).reshape(shape).astype(np.float32)


@pytest.mark.parametrize("k", [1, 5, 50])
def test_figures_agree_with_the_slow_version_user_by_user(fixed_scorer: Build, k: int) -> None:
    cut = random_cut()
    table = distinct_scores(cut)
    report = evaluate(fixed_scorer(table, cut), cut, k=k)
    expected = slow_evaluate(scores_by_id(cut, table), cut, k)
    assert report.n_users == len(expected) > 20
    assert {user for user in expected if user in cut.targets.user_ids.names(cut.strangers).to_list()}
    for row in report.per_user.to_dicts():
        assert {name: row[name] for name in row if name != "user_id"} == pytest.approx(expected[row["user_id"]])


def test_blocks_of_users_give_the_same_figures_as_one_block(
    fixed_scorer: Build, monkeypatch: pytest.MonkeyPatch
) -> None:
    cut = random_cut()
    scorer = fixed_scorer(distinct_scores(cut), cut)
    whole = evaluate(scorer, cut)
    sampled = evaluate(fixed_scorer(target_table(cut), cut), cut, sampled=3, k=20)
    monkeypatch.setattr(report_module, "block_size", lambda n_items: 3)
    assert evaluate(scorer, cut).per_user.equals(whole.per_user)
    blocked = evaluate(fixed_scorer(target_table(cut), cut), cut, sampled=3, k=20)
    assert blocked.metrics["recall@20"] == sampled.metrics["recall@20"] == 1.0


def target_table(cut: Holdout) -> torch.Tensor:
    """Return scores that are 1 for what the user chooses later and 0 for all else."""
    table = torch.zeros(cut.targets.n_users, cut.targets.n_items)
    table[cut.targets.user.astype(np.int64), cut.targets.item.astype(np.int64)] = 1.0
    return table


def test_a_scorer_that_knows_the_future_is_perfect(fixed_scorer: Build) -> None:
    cut = random_cut()
    metrics = evaluate(fixed_scorer(target_table(cut), cut), cut, k=9).metrics
    assert [metrics[name] for name in ("ndcg@9", "recall@9", "mrr@9", "hit@9", "map@9")] == pytest.approx([1] * 5)


def test_means_are_those_of_the_per_user_frame_and_lie_in_their_intervals(fixed_scorer: Build) -> None:
    cut = random_cut()
    report = evaluate(fixed_scorer(distinct_scores(cut), cut), cut, k=[5, 10])
    columns = [name for name in report.per_user.columns if name != "user_id"]
    assert len(columns) == 12
    for name in columns:
        assert report.metrics[name] == pytest.approx(report.per_user[name].mean())
        low, high = report.intervals[name]
        assert low < report.metrics[name] < high


def test_a_constant_scorer_gets_k_over_the_number_of_unseen_items(holdout_of: Build, fixed_scorer: Build) -> None:
    n_users, n_items, n_seen, k = 3000, 40, 10, 6
    rng = np.random.default_rng(3)
    past = [(user, int(item)) for user in range(n_users) for item in rng.permutation(n_items - 1)[:n_seen]]
    past.append((0, n_items - 1))
    later = [(user, n_items - 1) for user in range(1, n_users)]  # the last row: no order of ids may help or hurt
    cut = holdout_of(past, later)
    report = evaluate(fixed_scorer(np.zeros((n_users, n_items)), cut), cut, k=k, intervals=False)
    expected = k / (n_items - n_seen)
    error = math.sqrt(expected * (1 - expected) / n_users)
    assert report.metrics[f"recall@{k}"] == pytest.approx(expected, abs=4 * error)
    every_place = sum(1 / math.log2(place + 1) for place in range(1, k + 1)) / (n_items - n_seen)
    assert report.metrics[f"ndcg@{k}"] == pytest.approx(every_place, abs=4 * error)


def test_ties_depend_on_the_seed_alone(fixed_scorer: Build) -> None:
    cut = random_cut()
    scorer = fixed_scorer(np.zeros((cut.targets.n_users, cut.targets.n_items)), cut)
    one, again, other = (evaluate(scorer, cut, seed=seed).per_user for seed in (4, 4, 5))
    assert one.equals(again)
    assert not one.equals(other)


def test_items_of_the_history_are_left_out_of_the_list(holdout_of: Build, fixed_scorer: Build) -> None:
    cut = holdout_of(past=[(0, 0), (0, 1), (1, 2), (1, 3)], later=[(0, 3)])
    report = evaluate(fixed_scorer([[9.0, 8.0, 1.0, 2.0], [0.0] * 4], cut), cut, k=1)
    assert report.metrics["recall@1"] == 1.0  # items 0 and 1 scored higher, but were seen


def test_what_a_stranger_posted_is_left_out_too(holdout_of: Build, fixed_scorer: Build) -> None:
    cut = holdout_of(past=[(0, 0), (0, 1), (0, 2)], posted=[(1, 0)], later=[(1, 2)])
    report = evaluate(fixed_scorer([[0.0] * 3, [9.0, 1.0, 2.0]], cut), cut, k=1)
    assert report.metrics["recall@1"] == 1.0


def test_masked_items_never_fill_a_short_list(holdout_of: Build, fixed_scorer: Build) -> None:
    cut = holdout_of(past=[(0, 0), (0, 1), (1, 2)], later=[(0, 2)])
    report = evaluate(fixed_scorer([[3.0, 2.0, 1.0], [0.0] * 3], cut), cut, k=3)
    assert report.metrics["coverage@3"] == pytest.approx(1 / 3)  # one item is left to show, not three
    assert report.metrics["precision@3"] == pytest.approx(1 / 3)


def test_an_event_that_hides_nothing_leaves_its_item_in_the_list(holdout_of: Build, fixed_scorer: Build) -> None:
    kinds = (EventType("buy"), EventType("view", sign="neutral", hides=False))
    cut = holdout_of(past=[(0, 0, 0), (0, 1, 1), (1, 2, 0)], later=[(0, 1, 0)], kinds=kinds)
    report = evaluate(fixed_scorer([[9.0, 5.0, 1.0], [0.0] * 3], cut), cut, k=1)
    assert report.metrics["recall@1"] == 1.0


@pytest.mark.parametrize("sign", ["positive", "neutral", "negative"])
def test_a_target_that_the_history_hides_is_not_asked_for(holdout_of: Build, fixed_scorer: Build, sign: str) -> None:
    kinds = (EventType("buy"), EventType("old", sign=sign))
    cut = holdout_of(past=[(0, 0, 1), (1, 1, 0), (1, 2, 0)], later=[(0, 0, 0), (0, 1, 0)], kinds=kinds)
    report = evaluate(fixed_scorer([[9.0, 5.0, 1.0], [0.0] * 3], cut), cut, k=1)
    assert report.metrics["recall@1"] == 1.0  # item 1 is the only question; item 0 could not be shown


def test_repeats_are_left_out_and_a_user_with_nothing_else_is_not_asked(holdout_of: Build, fixed_scorer: Build) -> None:
    cut = holdout_of(past=[(0, 0), (1, 1), (2, 2)], later=[(0, 0), (0, 1), (1, 1)])
    report = evaluate(fixed_scorer([[0, 5, 1], [0] * 3, [0] * 3], cut), cut, k=1)
    assert report.per_user["user_id"].to_list() == ["u0"]
    assert report.metrics["recall@1"] == 1.0  # one target is left, not two


def test_a_target_chosen_twice_counts_once(holdout_of: Build, fixed_scorer: Build) -> None:
    cut = holdout_of(past=[(0, 0), (0, 1), (0, 2), (1, 3)], later=[(1, 1), (1, 1), (1, 2)])
    report = evaluate(fixed_scorer([[0.0] * 4, [0.0, 9.0, 0.0, 0.0]], cut), cut, k=1)
    assert report.metrics["recall@1"] == pytest.approx(1 / 2)


def test_disliked_items_are_no_targets(holdout_of: Build, fixed_scorer: Build) -> None:
    kinds = (EventType("like"), EventType("dislike", sign="negative"))
    cut = holdout_of(past=[(0, 0), (0, 1), (1, 2)], later=[(1, 0, 1), (1, 1, 0)], kinds=kinds)
    report = evaluate(fixed_scorer([[0.0] * 3, [0.0, 5.0, 0.0]], cut), cut, k=1)
    assert report.metrics["recall@1"] == 1.0


def test_cold_items_are_neither_asked_for_nor_shown(holdout_of: Build, fixed_scorer: Build) -> None:
    cut = holdout_of(past=[(0, 0), (1, 1), (1, 2)], later=[(0, 3), (0, 1), (1, 3)])  # item 3 came after the cut
    report = evaluate(fixed_scorer([[0.0, 5.0, 1.0, 9.0], [0.0, 0.0, 0.0, 9.0]], cut), cut, k=1)
    assert report.per_user["user_id"].to_list() == ["u0"]  # user 1 chose nothing but the cold item
    assert report.metrics["recall@1"] == 1.0  # item 3 scored highest and is not in the list
    assert report.n_items == 3


@pytest.fixture
def mixed(holdout_of: Build) -> Holdout:
    """Two warm users and one stranger, all of whom choose item 2."""
    return holdout_of(past=[(0, 0), (1, 1), (1, 3), (0, 2)], later=[(0, 1), (1, 2), (2, 2)])  # type: ignore[no-any-return]


@pytest.mark.parametrize(("who", "users"), [("all", ["u0", "u1", "u2"]), ("warm", ["u0", "u1"]), ("strangers", ["u2"])])
def test_who_chooses_the_users_and_the_protocol_says_so(
    mixed: Holdout, fixed_scorer: Build, who: str, users: list[str]
) -> None:
    report = evaluate(fixed_scorer(np.arange(12).reshape(3, 4), mixed), mixed, who=who)
    assert report.per_user["user_id"].to_list() == users
    assert f"users={len(users)} ({who})" in report.protocol


def test_the_mean_over_all_is_that_of_warm_users_and_strangers_together(fixed_scorer: Build) -> None:
    cut = random_cut()
    scorer = fixed_scorer(distinct_scores(cut), cut)
    everyone, warm, strangers = (
        evaluate(scorer, cut, who=who, intervals=False) for who in ("all", "warm", "strangers")
    )
    assert everyone.n_users == warm.n_users + strangers.n_users
    parts = warm.metrics["ndcg@10"] * warm.n_users + strangers.metrics["ndcg@10"] * strangers.n_users
    assert everyone.metrics["ndcg@10"] == pytest.approx(parts / everyone.n_users)


def test_a_user_whom_the_scorer_does_not_know_comes_with_a_history(holdout_of: Build, fixed_scorer: Build) -> None:
    cut = holdout_of(past=[(0, 0), (0, 1)], posted=[(1, 1)], later=[(1, 0)])
    scorer = fixed_scorer([[0.0, 0.0], [0.0, 0.0]], cut)
    scorer.user_ids = Ids.of(["u0"])
    asked = []
    plain = scorer.scores
    scorer.scores = lambda context: (asked.append(context), plain(context))[1]
    evaluate(scorer, cut)
    assert asked[0].user.tolist() == [-1]
    assert asked[0].history.item.tolist() == [1]


def test_the_order_of_the_scorers_own_ids_changes_nothing(fixed_scorer: Build) -> None:
    cut = random_cut()
    table = distinct_scores(cut)
    straight = evaluate(fixed_scorer(table, cut), cut)
    order = np.random.default_rng(8).permutation(cut.targets.n_items)
    names = cut.targets.item_ids.values
    shuffled = fixed_scorer(table[:, order], cut, items=Ids(names[order]))
    users = np.random.default_rng(9).permutation(cut.targets.n_users)
    shuffled.table = shuffled.table[torch.from_numpy(np.append(users, len(users)))]
    shuffled.user_ids = Ids(shuffled.user_ids.values[users])
    report = evaluate(shuffled, cut)
    assert report.per_user.equals(straight.per_user)
    assert report.metrics == straight.metrics


def test_a_scorer_may_know_more_items_than_the_holdout(fixed_scorer: Build) -> None:
    cut = random_cut()
    table = distinct_scores(cut)
    names = [999, *cut.targets.item_ids.values.to_list(), 998]
    wide = np.pad(table, ((0, 0), (1, 1)), constant_values=1e9)
    report = evaluate(fixed_scorer(wide, cut, items=Ids.of(names)), cut)
    assert report.per_user.equals(evaluate(fixed_scorer(table, cut), cut).per_user)


def test_targets_that_the_scorer_does_not_know_are_misses(holdout_of: Build, fixed_scorer: Build) -> None:
    cut = holdout_of(past=[(0, 0), (1, 1), (1, 2), (1, 3)], later=[(0, 1), (0, 2)])
    scorer = fixed_scorer([[1.0, 5.0], [0.0, 0.0]], cut, items=Ids.of(["i3", "i1"]))
    report = evaluate(scorer, cut, k=2)
    assert report.metrics["recall@2"] == pytest.approx(1 / 2)
    assert report.metrics["ndcg@2"] == pytest.approx(1 / (1 + 1 / math.log2(3)))


def test_an_empty_place_is_never_a_hit_even_beside_a_user_whose_target_is_unknown(
    holdout_of: Build, fixed_scorer: Build
) -> None:
    cut = holdout_of(past=[(0, 0), (1, 0), (1, 1)], later=[(0, 1), (1, 2)], n_items=3)
    scorer = fixed_scorer([[1.0], [1.0]], cut, items=Ids.of(["i0"]))  # nothing is left to show anyone
    assert evaluate(scorer, cut, k=2).metrics["hit@2"] == 0.0


def test_unknown_items_agree_with_the_slow_version(fixed_scorer: Build) -> None:
    cut = random_cut()
    table = distinct_scores(cut)
    some = np.arange(0, cut.targets.n_items, 2)
    report = evaluate(fixed_scorer(table[:, some], cut, items=Ids(cut.targets.item_ids.values[some])), cut, k=5)
    known = set(cut.targets.item_ids.values[some].to_list())
    by_id = {
        user: {item: score for item, score in row.items() if item in known}
        for user, row in scores_by_id(cut, table).items()
    }
    expected = slow_evaluate(by_id, cut, 5)
    assert report.per_user["recall@5"].to_list() == pytest.approx(
        [expected[user]["recall@5"] for user in report.per_user["user_id"]]
    )


def test_minus_infinity_is_an_item_that_cannot_be_shown(holdout_of: Build, fixed_scorer: Build) -> None:
    cut = holdout_of(past=[(0, 0), (1, 1), (1, 2)], later=[(0, 1)])
    report = evaluate(fixed_scorer([[0.0, -math.inf, 1.0], [0.0] * 3], cut), cut, k=3)
    assert report.metrics["hit@3"] == 0.0


@pytest.mark.parametrize("sampled", [None, 5])
def test_a_score_that_is_not_a_number_is_an_error(holdout_of: Build, fixed_scorer: Build, sampled: int | None) -> None:
    cut = holdout_of(past=[(0, 0), (1, 1), (1, 2)], later=[(0, 1)])
    with pytest.raises(ScoreError, match="the score of item row 1 is not a number"):
        evaluate(fixed_scorer([[0.0, math.nan, 1.0], [0.0] * 3], cut), cut, sampled=sampled)


def test_sampled_ranking_is_named_in_the_protocol_and_has_no_catalogue_figures(fixed_scorer: Build) -> None:
    cut = random_cut()
    scorer = fixed_scorer(target_table(cut), cut)
    sampled, full = evaluate(scorer, cut, sampled=9), evaluate(scorer, cut)
    assert "ranking=uniform-9 " in sampled.protocol
    assert "ranking=full " in full.protocol
    assert "coverage@10" in full.metrics
    assert "coverage@10" not in sampled.metrics


def test_sampled_ranking_of_a_perfect_scorer_is_perfect(fixed_scorer: Build) -> None:
    cut = random_cut()
    metrics = evaluate(fixed_scorer(target_table(cut), cut), cut, sampled=4, k=20).metrics
    assert metrics["ndcg@20"] == pytest.approx(1.0)
    assert metrics["recall@20"] == pytest.approx(1.0)


@pytest.mark.parametrize("n_negatives", [9, 200])  # 200 is more than there are: all 28 unseen others
def test_sampled_ranking_of_a_random_scorer_is_k_over_the_candidates(
    holdout_of: Build, fixed_scorer: Build, n_negatives: int
) -> None:
    n_users, n_items, k = 3000, 30, 3
    past = [(user, user % (n_items - 1)) for user in range(n_users)] + [(0, n_items - 1)]
    cut = holdout_of(past, [(user, n_items - 1) for user in range(1, n_users)])
    scores = np.random.default_rng(11).random((n_users, n_items))
    report = evaluate(fixed_scorer(scores, cut), cut, k=k, sampled=n_negatives, intervals=False)
    expected = k / (min(n_negatives, n_items - 2) + 1)
    error = math.sqrt(expected * (1 - expected) / n_users)
    assert report.metrics[f"recall@{k}"] == pytest.approx(expected, abs=4 * error)


def test_sampled_negatives_exclude_seen_items_and_targets(holdout_of: Build, fixed_scorer: Build) -> None:
    # the user saw 0 and 1, chooses 2 and 3, so 4 and 5 are the only negatives there are
    cut = holdout_of(past=[(0, 0), (0, 1), *[(1, item) for item in range(2, 6)]], later=[(0, 2), (0, 3)])
    report = evaluate(fixed_scorer([[9.0, 9.0, 1.0, 2.0, 3.0, 4.0], [0.0] * 6], cut), cut, sampled=2, k=4)
    assert report.metrics["recall@4"] == 1.0
    assert report.metrics["mrr@4"] == pytest.approx(1 / 3)


def test_catalogue_figures_follow_the_lists_by_hand(holdout_of: Build, fixed_scorer: Build) -> None:
    # people before the cut: item 0 two, items 1, 2 and 3 one each; user 0 is shown 1 then 3, user 1 is shown 3 then 2
    cut = holdout_of(past=[(0, 0), (1, 0), (1, 1), (0, 2), (2, 3)], later=[(0, 1), (1, 2)])
    report = evaluate(fixed_scorer([[0, 3, 0, 1], [0, 0, 1, 2], [0] * 4], cut), cut, k=2)
    assert report.metrics["coverage@2"] == pytest.approx(3 / 4)
    assert report.metrics["novelty@2"] == pytest.approx(-math.log2(1 / 5))
    assert report.metrics["popularity_share@2"] == 0.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"who": "cold"}, "who is 'cold'; it must be one of all, warm, strangers"),
        ({"who": "strangers"}, 'no user of the test part is left to ask with who="strangers"'),
        ({"metrics": ["ndcq@10"]}, 'Did you mean "ndcg"'),
        ({"k": 0}, "k is 0; it must be 1 or more"),
        ({"k": []}, "must be 1 or more"),
        ({"k": -3, "metrics": ["ndcg@10"]}, "k is -3"),
        ({"sampled": 0}, "sampled is 0; it must be 1 or more. Try sampled = 99"),
    ],
)
def test_options_that_make_no_sense_are_config_errors(
    holdout_of: Build, fixed_scorer: Build, options: dict[str, Any], message: str
) -> None:
    cut = holdout_of(past=[(0, 0), (1, 1)], later=[(0, 1)])
    with pytest.raises(ConfigError, match=message):
        evaluate(fixed_scorer(np.zeros((2, 2)), cut), cut, **options)
