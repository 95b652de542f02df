"""What Spark writes is read, what is written is laid out as Spark's, and ALS factors score as in Spark."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

import bowerbird as bb
from bowerbird.core import DataError
from bowerbird.data import Interactions
from bowerbird.recommender.spark import from_als, read_factors, write_ratings


def als(folder: Path, *, rank: int = 3) -> tuple[np.ndarray, np.ndarray]:
    """Write factor tables as `ALSModel.save` does: unordered ids over several parts, and bookkeeping beside them."""
    rng = np.random.default_rng(0)
    users, items = (rng.standard_normal((n, rank)).astype(np.float32) for n in (6, 9))
    for name, table in (("userFactors", users), ("itemFactors", items)):
        (folder / name).mkdir(parents=True)
        (folder / name / "_SUCCESS").touch()
        (folder / name / "._SUCCESS.crc").write_bytes(b"crc")
        order = rng.permutation(len(table))
        for part, rows in enumerate(np.array_split(order, 3)):
            features = pl.Series(table[rows].tolist(), dtype=pl.List(pl.Float32))
            frame = pl.DataFrame({"id": pl.Series(10 + rows, dtype=pl.Int32), "features": features})
            frame.write_parquet(folder / name / f"part-{part:05}-abc-c000.snappy.parquet", compression="snappy")
    return users, items


def test_ratings_come_back_as_they_were_written(two_by_two: Interactions, tmp_path: Path) -> None:
    parts = write_ratings(two_by_two, tmp_path / "ratings", parts=2)
    assert sorted(path.name for path in (tmp_path / "ratings").iterdir()) == ["_SUCCESS", *(one.name for one in parts)]
    assert pl.read_parquet(parts[0]).columns == ["user", "item", "rating", "timestamp"]
    back = bb.read(tmp_path / "ratings", weight="rating", time="timestamp")
    assert [back.user_ids[row] for row in back.user] == ["ann", "bob", "bob"]
    assert [back.item_ids[row] for row in back.item] == ["x", "x", "y"]
    assert back.weight.tolist() == two_by_two.weight.tolist()
    with pytest.raises(DataError, match="holds something"):
        write_ratings(two_by_two, tmp_path / "ratings")


def test_integers_are_written_as_als_takes_them(even_odd: Interactions, tmp_path: Path) -> None:
    [part] = write_ratings(even_odd, tmp_path / "ratings")
    assert pl.read_parquet(part).schema["user"] == pl.read_parquet(part).schema["item"] == pl.Int32


def test_factors_are_read_in_the_order_of_ids(tmp_path: Path) -> None:
    users, _ = als(tmp_path)
    ids, vectors = read_factors(tmp_path / "userFactors")
    assert ids.values.to_list() == list(range(10, 16))
    np.testing.assert_array_equal(vectors, users)


def test_lists_are_those_of_the_dot_product_also_after_saving(tmp_path: Path) -> None:
    users, items = als(tmp_path / "als")
    rated = Interactions.of(pl.Series([10, 10, 15]), pl.Series([12, 13, 18]), time=np.array([1, 2, 3]))
    recommender = from_als(tmp_path / "als", rated)
    recommender.save(tmp_path / "run")
    for one in (recommender, bb.load(tmp_path / "run")):
        found = one.recommend([10, 11, 15], k=9).to_polars()
        assert found["rung"].unique().to_list() == ["model"]
        for user, seen in ((10, {12, 13}), (11, set()), (15, {18})):
            scores = users[user - 10] @ items.T
            best = [10 + row for row in np.argsort(-scores) if 10 + row not in seen]
            mine = found.filter(pl.col("user_id") == user)
            assert mine["item_id"].to_list() == best
            np.testing.assert_allclose(mine["score"].to_numpy(), scores[np.array(best) - 10], rtol=1e-5)
    stranger = recommender.recommend(histories=[[12, 13]], k=3).to_polars()
    assert len(stranger) == 3
    assert not {12, 13} & set(stranger["item_id"].to_list())


def test_without_ratings_nothing_is_hidden(tmp_path: Path) -> None:
    users, items = als(tmp_path)
    found = from_als(tmp_path).recommend([12], k=9).to_polars()
    assert found["item_id"].to_list() == [10 + row for row in np.argsort(-(users[2] @ items.T))]


def test_what_does_not_fit_is_told(tmp_path: Path) -> None:
    als(tmp_path / "als")
    stranger = Interactions.of(pl.Series([10, 99]), pl.Series([12, 12]), time=np.array([1, 2]))
    with pytest.raises(DataError, match="1 users of the ratings have no factor"):
        from_als(tmp_path / "als", stranger)
    pl.DataFrame({"id": [1], "vector": [[1.0]]}).write_parquet(tmp_path / "other.parquet")
    with pytest.raises(DataError, match="a factor table has id and features"):
        read_factors(tmp_path / "other.parquet")
    pl.DataFrame({"id": [1, 2], "features": [[1.0], [1.0, 2.0]]}).write_parquet(tmp_path / "ragged.parquet")
    with pytest.raises(DataError, match="lists of one length"):
        read_factors(tmp_path / "ragged.parquet")
