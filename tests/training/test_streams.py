"""Streams: what an epoch visits, what a batch depends on, what is read when, and what is refused."""

import math
import shutil
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bowerbird.core import DataError, RunOptions, torch_stream
from bowerbird.data import Rows
from bowerbird.features import Bag, Categorical, Column, Cross, Encoded, Encoder, FeatureBatch, Numeric, Vector
from bowerbird.features.sources import EncodedRows
from bowerbird.models.ranking.logistic import Logistic, LogisticConfig
from bowerbird.training import RowBatches, train
from bowerbird.training import streams as module
from bowerbird.training.streams import StreamedRows

N, BATCH = 403, 32
COLUMNS: tuple[Column, ...] = (
    Numeric(name="n", transform="none"),  # the row's number: what a batch is recognised by
    Categorical(name="whole"),
    Categorical(name="text"),
    Bag(name="tags"),
    Vector(name="v", size=2),
    Cross(columns=("whole", "text"), buckets=50),
)
TASKS = ("click", "buy")


def table_of(n: int = N) -> pl.DataFrame:
    rng = np.random.default_rng(0)
    whole, text = rng.integers(0, 30, n), rng.integers(0, 20, n)
    return pl.DataFrame({
        "unused": [f"row {row}" for row in range(n)],
        "n": np.arange(n, dtype=np.float64),
        "whole": pl.Series(whole).set(pl.Series(whole == 7), None),
        "text": [f"t{one}" for one in text],
        "tags": [["a", "b", "c"][: row % 4] for row in range(n)],
        "v": pl.Series(rng.random((n, 2)), dtype=pl.List(pl.Float64)),
        "click": (whole + text) % 2,
        "buy": pl.Series(rng.random(n) < 0.3).set(pl.Series((whole + text) % 2 == 0), None),
    })  # fmt: skip


@dataclass
class Written:
    """The same rows as a frame and as files: three parts of unequal length, in groups of 50 rows, or of one row."""

    frame: pl.DataFrame
    folder: Path
    encoder: Encoder = field(init=False)

    def __post_init__(self) -> None:
        for part, (start, end) in enumerate([(0, 3), (3, 203), (203, N)]):
            self.frame[start:end].write_parquet(self.folder / f"{part}.parquet", row_group_size=50 if part else 1)
        self.encoder = Encoder.fit({"": self.frame}, {"": COLUMNS}, tasks=TASKS)

    def stream(self, *, rows: int = 90, batch_size: int = BATCH, seed: int = 0) -> StreamedRows:
        """Return the stream with buffers of about so many rows."""
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(module, "BUFFER", rows * 4 * (2 * 6 + 2 + 2))  # 6 slots with values, 2 numbers, 2 labels
            config = LogisticConfig(batch_size=batch_size)
            return StreamedRows(self.folder, self.encoder, config, seed=seed)

    @property
    def memory(self) -> EncodedRows:
        """The rows in memory."""
        labels = self.frame.select(pl.col(TASKS).cast(pl.Float32).fill_null(np.nan)).to_numpy(writable=True)
        return EncodedRows.of(self.encoder.encode(self.frame), Rows(self.frame, labels, TASKS))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Written:
    return Written(table_of(), tmp_path_factory.mktemp("rows"))


def numbers(batch: FeatureBatch) -> list[int]:
    assert batch.value is not None
    return [int(one) for one in batch.value[:, 0]]


def epoch_of(batches: StreamedRows, epoch: int) -> list[FeatureBatch]:
    return [batches.batch(epoch, step) for step in range(len(batches))]


def same(one: FeatureBatch, other: FeatureBatch) -> bool:
    names = ("code", "value", "vector", "label", "weight", "whole")
    return all(torch.allclose(getattr(one, k), getattr(other, k), rtol=0, atol=0, equal_nan=True) for k in names)


# ── what an epoch visits ──


@settings(max_examples=15)
@given(rows=st.integers(8, 600), batch_size=st.integers(1, 600), epoch=st.integers(0, 5))
@example(rows=1, batch_size=50, epoch=0)
def test_an_epoch_visits_every_row_once_in_full_batches_but_for_the_last(
    written: Written, rows: int, batch_size: int, epoch: int
) -> None:
    batches = written.stream(rows=rows, batch_size=batch_size)
    visited = [numbers(batch) for batch in epoch_of(batches, epoch)]
    assert sorted(row for batch in visited for row in batch) == list(range(N))
    assert {len(batch) for batch in visited[:-1]} <= {batch_size}
    assert len(batches) == len(visited) == math.ceil(N / batch_size)
    assert batches.n_rows == N


def test_rows_are_those_that_are_cut_from_memory(written: Written) -> None:
    config = LogisticConfig(batch_size=BATCH)
    memory = RowBatches(written.memory, config, seed=0, fingerprint="")

    def rows(batches: StreamedRows | RowBatches) -> Counter[bytes]:
        parts = [batches.batch(0, step) for step in range(len(batches))]
        whole = [torch.cat([getattr(p, k).double() for p in parts]) for k in ("code", "value", "vector", "label")]
        return Counter(row.numpy().tobytes() for row in torch.cat(whole, dim=1))

    assert rows(written.stream()) == rows(memory)
    assert len(written.stream()) == len(memory)


def test_one_piece_is_shuffled_as_its_stream_says(tmp_path: Path) -> None:
    pl.DataFrame({"n": [0.0, 1.0, 2.0, 3.0, 4.0], "label": [0, 1, 0, 1, 1]}).write_parquet(tmp_path / "rows.parquet")
    frame = pl.scan_parquet(tmp_path / "rows.parquet")
    encoder = Encoder.fit({"": frame}, {"": [Numeric(name="n", transform="none")]})
    batches = StreamedRows(tmp_path / "rows.parquet", encoder, LogisticConfig(batch_size=3), seed=7)
    place = torch.randperm(5, generator=torch_stream(7, "shuffle", 2, 0))  # of each row in the buffer
    order = place.argsort()
    first, second = epoch_of(batches, 2)
    assert numbers(first) == order[:3].tolist()
    assert numbers(second) == order[3:].tolist()
    assert first.label is not None
    assert first.label[:, 0].tolist() == [[0.0, 1.0, 0.0, 1.0, 1.0][row] for row in order[:3]]
    assert first.whole is not None
    assert (first.whole.item(), first.code.dtype) == (3.0, torch.int64)


def test_two_epochs_visit_in_different_orders(written: Written) -> None:
    first, second = ([row for batch in epoch_of(written.stream(), e) for row in numbers(batch)] for e in (0, 1))
    assert sorted(first) == sorted(second)
    assert first != second


def test_a_batch_mixes_rows_from_all_over_the_files(written: Written) -> None:
    spread = [max(numbers(batch)) - min(numbers(batch)) for batch in epoch_of(written.stream(), 0)]
    assert np.mean(spread) > N / 2  # 32 rows of a buffer of 90 that lie together would spread over 90


# ── what a batch depends on ──


@pytest.fixture(scope="module")
def epochs(written: Written) -> list[list[FeatureBatch]]:
    """Two epochs, asked for in order."""
    batches = written.stream()
    return [epoch_of(batches, 0), epoch_of(batches, 1)]


@settings(max_examples=15)
@given(asked=st.lists(st.tuples(st.integers(0, 1), st.integers(0, N // BATCH)), min_size=1, max_size=8))
def test_a_batch_depends_on_seed_epoch_and_step_alone(
    written: Written, epochs: list[list[FeatureBatch]], asked: list[tuple[int, int]]
) -> None:
    wandering = written.stream()
    for epoch, step in asked:
        assert same(wandering.batch(epoch, step), epochs[epoch][step])


def test_another_seed_gives_another_order(written: Written) -> None:
    assert numbers(written.stream().batch(0, 0)) != numbers(written.stream(seed=1).batch(0, 0))


@pytest.mark.parametrize("of", [2, 5])
def test_workers_share_a_batch(written: Written, of: int) -> None:
    workers, alone = [written.stream() for _ in range(of)], written.stream()
    for step in range(len(alone)):
        parts = [worker.batch(0, step, (rank, of)) for rank, worker in enumerate(workers)]
        whole = alone.batch(0, step)
        assert sorted(row for part in parts for row in numbers(part)) == sorted(numbers(whole))
        assert {float(part.whole) for part in parts if part.whole is not None} == {float(len(whole))}
        assert max(map(len, parts)) - min(map(len, parts)) <= 1


def test_an_interrupted_training_ends_with_the_model_of_an_undisturbed_one(written: Written, tmp_path: Path) -> None:
    encoder = Encoder.fit({"": written.frame}, {"": COLUMNS}, tasks=("click",))

    def trained(folder: Path, fall_after: int) -> Logistic:
        torch.manual_seed(0)
        config = LogisticConfig(batch_size=BATCH)
        model, batches = Logistic(config, encoder.schema), StreamedRows(written.folder, encoder, config, seed=0)
        run = RunOptions(device="cpu", progress=False, checkpoint=str(folder))

        def fall(result: object) -> None:
            nonlocal fall_after
            fall_after -= 1
            if not fall_after:
                raise SystemExit

        train(model, batches, config, run, epochs=4, on_epoch=fall)
        return model

    with pytest.raises(SystemExit):
        trained(tmp_path / "fallen", 2)
    gone_on, undisturbed = trained(tmp_path / "fallen", 0), trained(tmp_path / "whole", 0)
    assert torch.equal(gone_on.linear.table.weight, undisturbed.linear.table.weight)
    assert undisturbed.linear.table.weight.any()


# ── what is read ──


def test_labels_are_numbers_and_nan_where_empty(written: Written) -> None:
    click, buy = (written.frame[task].cast(pl.Float32).to_numpy() for task in TASKS)
    for batch in epoch_of(written.stream(), 0):
        assert batch.label is not None
        assert batch.label.dtype == torch.float32
        rows = numbers(batch)
        assert np.array_equal(batch.label[:, 0].numpy(), click[rows])
        assert np.array_equal(batch.label[:, 1].numpy(), buy[rows], equal_nan=True)
    assert 0 < np.isnan(buy).sum() < N


def test_only_columns_that_are_needed_are_read_each_row_once_an_epoch(
    written: Written, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = written.stream()
    read, encode = list[pl.DataFrame](), batches.encoder.encode

    def noted(table: pl.DataFrame) -> Encoded:
        read.append(table)
        return encode(table)

    monkeypatch.setattr(batches.encoder, "encode", noted)
    epoch_of(batches, 0)
    batches.batch(1, 0)
    rows = pl.concat(list(read))
    assert set(rows.columns) == {"n", "whole", "text", "tags", "v", *TASKS}
    assert sorted(rows["n"][:N]) == list(range(N))


def test_what_the_thread_could_not_read_is_not_counted_for_the_caller(written: Written) -> None:
    before = Counter(written.encoder.counts)
    epoch_of(batches := written.stream(), 0)
    assert written.encoder.counts == before
    assert batches.encoder.counts["whole: empty"] >= written.frame["whole"].null_count() > 0


def test_columns_of_categories_alone_need_no_values(tmp_path: Path) -> None:
    frame = pl.DataFrame({"a": ["x", "y", "x"], "label": [True, False, None]})
    frame.write_parquet(tmp_path / "rows.parquet")
    encoder = Encoder.fit({"": frame}, {"": [Categorical(name="a")]})
    batch = StreamedRows(tmp_path / "rows.parquet", encoder, LogisticConfig(batch_size=3), seed=0).batch(0, 0)
    assert batch.value is None
    assert batch.label is not None
    found = Counter(zip(batch.code[:, 0].tolist(), batch.label[:, 0].nan_to_num(2).tolist(), strict=True))
    x, y = encoder.encode(frame).code[:2, 0].tolist()
    assert found == {(x, 1.0): 1, (y, 0.0): 1, (x, 2.0): 1}


def test_the_fingerprint_tells_files_and_columns_apart(written: Written, tmp_path: Path) -> None:
    copy = shutil.copytree(written.folder, tmp_path / "copy")
    config, kept = LogisticConfig(), written.stream().fingerprint
    assert StreamedRows(copy, written.encoder, config, seed=0).fingerprint == kept
    fewer = Encoder.fit({"": written.frame}, {"": COLUMNS[:2]}, tasks=TASKS)
    assert StreamedRows(copy, fewer, config, seed=0).fingerprint != kept
    changed = written.frame[203:].with_columns(click=pl.lit(1, pl.Int64))
    changed.write_parquet(copy / "2.parquet", row_group_size=50)
    assert StreamedRows(copy, written.encoder, config, seed=0).fingerprint != kept


# ── what is refused ──


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (pl.col("click").alias("clicks"), r'no column "click"\. Did you mean "clicks"\?'),
        (pl.col("click").cast(pl.String), r'column "click": a label is a number, not String\. Write 0 and 1'),
        (pl.col("whole").alias("hole"), r'no column "whole"\. Did you mean "hole"\?'),
    ],
)
def test_missing_columns_and_labels_of_text_are_refused(
    written: Written, tmp_path: Path, change: pl.Expr, message: str
) -> None:
    name = change.meta.output_name()
    frame = written.frame if name in written.frame.columns else written.frame.drop(change.meta.root_names())
    frame = frame.with_columns(written.frame.select(change))
    frame.write_parquet(tmp_path / "rows.parquet")
    with pytest.raises(DataError, match=message):
        StreamedRows(tmp_path, written.encoder, LogisticConfig(), seed=0)


def test_files_that_are_no_parquet_or_have_no_row_are_refused(written: Written, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("n,click\n1,0\n")
    with pytest.raises(DataError, match=r"cannot be read as parquet\. It is no Parquet file"):
        StreamedRows(tmp_path / "rows.csv", written.encoder, LogisticConfig(), seed=0)
    written.frame.clear().write_parquet(tmp_path / "none.parquet")
    with pytest.raises(DataError, match=r"none.parquet: there is no row\. Give files with at least one\."):
        StreamedRows(tmp_path / "none.parquet", written.encoder, LogisticConfig(), seed=0)


def test_a_file_that_goes_away_is_named_at_the_batch_that_needs_it(written: Written, tmp_path: Path) -> None:
    path = tmp_path / "rows.parquet"
    written.frame.write_parquet(path)
    batches = StreamedRows(path, written.encoder, LogisticConfig(), seed=0)
    path.unlink()
    with pytest.raises(DataError, match=r"rows\.parquet: the rows cannot be read"):
        batches.batch(0, 0)
