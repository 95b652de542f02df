"""Export: a ranker as an ONNX graph, and beside it a JSON document from which a server in any language feeds it.

The graph takes `code`, int64 (N, S); `value`, float32 (N, S), unless every slot is a category; and `vector`, float32
(N, V), where there are vectors. It gives `logit`, raw, and `probability`, calibrated, float32 (N, T). Crosses are
hashed inside.

FILE.columns.json holds the encoder (`columns`, `schema`, `numbers`, `types`) and the vocabularies. Each field f of the
schema fills the slots `slot` to `slot + width` of a row, from `start`, `numbers[f]` and its column:

  categorical  code: start where the value was not seen, start + 1 where it is empty, else start + 2 + its place in
               vocabulary[f], from 0; without a vocabulary start + 2 + hash modulo (rows − 2). value: 1
  with edges   (a number in buckets) code: start where it is empty, else start + 1 + how many edges are at most the
               number. value: 1
  with knots   (a number) two slots. Empty, no number or infinite: code: start, then 0, and value: 1, then 0. Else it
               lies between knots k and k + 1, counted from 0, ends included: code: start + 1 + k, then start + 2 + k,
               and value: 1 − p, then p, where p is how far it is from one to the other; one knot has p = 0
  numeric      code: start and value: 1 where it is empty, no number or infinite; else code: start + 1 and value:
               (x − mean) / deviation, cut at ±10, or 0 where the deviation is 0. For the transform "log" x is
               sign(x) · log(1 + |x|); for "none" it is the number itself, cut at ±1,000,000
  bag          the codes of its first `width` values that are not empty, as of a category, each with value: 1; behind
               them code: 0 and value: 0
  history      as a bag, of the field `of`, but the last `width` values that were seen, oldest first
  vector       numbers `slot` to `slot + width` of `vector`, cut at ±1,000,000; 0 where it is empty or of another size

A vocabulary of the type Int64 holds whole numbers; one of String holds texts, in which a whole number has no point. The
hash is that of `features.values.hashed`, of the value as text in UTF-8.

Shapes: N rows, S slots, V numbers of vectors, C candidates, T tasks.
"""

import json
import logging
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import bowerbird
from bowerbird.core import BundleError, MissingExtraError, RequestError, entry_of, numpy_stream
from bowerbird.features import FeatureBatch, FeatureSchema
from bowerbird.features.fields import POOLED
from bowerbird.recommender.ranking import Ranking

NEEDED = ("onnx", "onnxscript", "onnxruntime")
OUTPUTS = ("logit", "probability")
NOISE = 1e-4  # by which outputs may differ from the model's, or its share of a logit beyond ±1
SIZES = (1, 257)  # rows of the batches that are compared
SAME = 0.99  # Kendall's τ from which a quantised graph ranks as the model does
CANDIDATES, REQUESTS = 500, 8  # of a request in that comparison, and how many are asked


@dataclass(frozen=True)
class Exported:
    """What was written, and how well it agrees with the model."""

    path: Path  # the graph
    columns: Path  # how its inputs are made
    model: str
    tasks: tuple[str, ...]
    inputs: Mapping[str, int]  # numbers of a row, by name
    difference: float  # the largest between logits of ONNX Runtime and of the model
    int8: Path | None = None  # the quantised graph, where it was asked for and ranks as the model does
    tau: float | None = None  # Kendall's, between the quantised graph and the model

    def to_dict(self) -> dict[str, Any]:
        """Return what JSON keeps."""
        paths = {"path": str(self.path), "columns": str(self.columns), "int8": self.int8 and str(self.int8)}
        return asdict(self) | paths


def to_onnx(
    ranking: Ranking, path: str | Path, *, int8: bool = False, requests: Sequence[FeatureBatch] = ()
) -> Exported:
    """Write a ranker as an ONNX graph, and how its inputs are made; with `int8`, a graph of whole numbers too.

    The graph is compared with the model on rows made up from the schema, and on the candidates of each of `requests`.
    With `int8` its layers are quantised, and the second graph is kept only where it ranks `requests` as the model
    does; without any, requests of 500 candidates are made up. Raises `MissingExtraError` without the extra,
    `RequestError` where there is nothing to quantise, and `BundleError` where the graph does not compute what the
    model does; nothing is kept then.
    """
    missing = [name for name in NEEDED if find_spec(name) is None]
    if missing:
        raise MissingExtraError(f'an export needs {missing[0]}. Install it with: pip install "bowerbird[onnx]"')
    path, schema = Path(path), ranking.encoder.schema
    graph, rng = _Graph(ranking).eval(), numpy_stream(ranking.run.seed, "export")
    batches = [*(made_up(schema, n, rng) for n in SIZES), *requests]
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=".export-") as folder:
        scratch = Path(folder) / path.name
        _write(graph, batches[1], scratch)
        done = Exported(
            path=path,
            columns=_beside(path, ".columns.json"),
            model=graph.name,
            tasks=schema.tasks,
            inputs={name: one.shape[1] for name, one in _inputs(batches[0]).items()},
            difference=_compared(graph, scratch, batches),
        )
        _beside(scratch, ".columns.json").write_text(_document(ranking, done), encoding="utf-8")
        if int8:
            asked = requests or [made_up(schema, CANDIDATES, rng) for _ in range(REQUESTS)]
            tau = _quantised(graph, scratch, asked)
            done = replace(done, int8=_int8(path) if tau >= SAME else None, tau=tau)
            _int8(path).unlink(missing_ok=True)  # of an earlier model
            if tau < SAME:
                _int8(scratch).unlink()
        for file in Path(folder).iterdir():
            file.replace(path.parent / file.name)
    return done


def made_up(schema: FeatureSchema, n: int, rng: np.random.Generator) -> FeatureBatch:
    """Return n rows of any codes, values and vectors that an encoder of this schema may give."""
    code, value = np.zeros((n, schema.n_slots), np.int64), np.ones((n, schema.n_slots), np.float32)
    for one in schema.fields:
        if one.kind == "vector":
            continue
        mine = slice(one.slot, one.slot + one.width)
        code[:, mine] = rng.integers(one.start, one.start + one.rows, (n, one.width))
        if one.kind == "numeric":
            value[:, mine] = np.where(code[:, mine] > one.start, rng.standard_normal((n, 1)), 1)
        elif one.kind in POOLED:
            value[:, mine] = np.arange(one.width) < rng.integers(0, one.width + 1, (n, 1))
            code[:, mine] *= value[:, mine] > 0
    vector = rng.standard_normal((n, schema.n_numbers), np.float32)
    return FeatureBatch(
        torch.from_numpy(code), None if schema.plain else torch.from_numpy(value), torch.from_numpy(vector)
    )


class _Graph(nn.Module):
    """A model and its calibration as one function of tensors."""

    def __init__(self, ranking: Ranking) -> None:
        super().__init__()
        self.name, self.tasks = entry_of(ranking.config).name, ranking.tasks
        self.model, self.device = ranking.model, ranking.device
        self.scale, self.shift = (nn.Buffer(one) for one in ranking.calibration.clone().T)

    def forward(self, code: Tensor, value: Tensor | None = None, vector: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return raw logits and probabilities (N, T)."""
        logit = self.model(FeatureBatch(code, value, vector))
        return logit, (logit * self.scale + self.shift).sigmoid()

    @torch.no_grad()
    def told(self, batch: FeatureBatch) -> list[np.ndarray]:
        """Return the same of a batch as arrays."""
        found = self(*(one.to(self.device) for one in _inputs(batch).values()))
        return [one.cpu().numpy() for one in found]


def _inputs(batch: FeatureBatch) -> dict[str, Tensor]:
    """Return the inputs of the graph by name, in order."""
    found = {"code": batch.code}
    if batch.value is not None:
        found["value"] = batch.value
    if batch.vector is not None and batch.vector.shape[1]:
        found["vector"] = batch.vector
    return found


@torch.no_grad()
def _write(graph: _Graph, batch: FeatureBatch, path: Path) -> None:
    """Write the graph for any number of rows."""
    from onnx_ir.passes.common import ClearMetadataAndDocStringPass

    inputs = {name: one.to(graph.device) for name, one in _inputs(batch).items()}
    try:
        with _quiet():
            program = torch.onnx.export(
                graph,
                tuple(inputs.values()),
                input_names=list(inputs),
                output_names=OUTPUTS,
                dynamic_shapes=tuple({0: "rows"} for _ in inputs),
                dynamo=True,
                verbose=False,
            )
    except torch.onnx.OnnxExporterError as error:
        raise BundleError(f"{graph.name} cannot be written as an ONNX graph: {error}") from error
    assert program is not None
    ClearMetadataAndDocStringPass()(program.model)  # they name files of this machine
    about = {"bowerbird": bowerbird.__version__, "model": graph.name, "tasks": json.dumps(graph.tasks)}
    program.model.metadata_props.update(about)
    program.save(path)


@contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what torch and ONNX Runtime remark on their own code and on packages that are not needed."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message=".*LeafSpec", category=FutureWarning)
            warnings.filterwarnings("ignore", message="# The axis name: rows will not be used", category=UserWarning)
            yield
    finally:
        logging.disable(before)


def _run(path: Path, batches: Sequence[FeatureBatch]) -> list[list[np.ndarray]]:
    """Return what ONNX Runtime makes of each batch, on one core."""
    from onnxruntime import InferenceSession, SessionOptions

    options = SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 3
    session = InferenceSession(path, options, providers=["CPUExecutionProvider"])
    feeds = [{name: one.cpu().numpy() for name, one in _inputs(batch).items()} for batch in batches]
    return [session.run(OUTPUTS, feed) for feed in feeds]


def _compared(graph: _Graph, path: Path, batches: Sequence[FeatureBatch]) -> float:
    """Return the largest difference between logits of the written graph and of the model; raises `BundleError`."""
    largest = 0.0
    for batch, theirs in zip(batches, _run(path, batches), strict=True):
        mine = graph.told(batch)
        for name, one, other in zip(OUTPUTS, mine, theirs, strict=True):
            gap = np.abs(one - other)
            if not (gap <= NOISE * np.maximum(np.abs(one), 1)).all():
                raise BundleError(
                    f"the graph of {graph.name} gives another {name} than the model, by {gap.max():.2g} "
                    f"({NOISE:g} is allowed); it is not kept. Install the torch and the onnxruntime that "
                    "constraints.txt names, and export again."
                )
        largest = max(largest, float(np.abs(mine[0] - theirs[0]).max()))
    return largest


def _quantised(graph: _Graph, path: Path, requests: Sequence[FeatureBatch]) -> float:
    """Write the graph with its layers in whole numbers; return Kendall's τ between it and the model.

    Tables stay as they are: one scale for all their rows would cost more than it saves. Raises `RequestError` where
    there is no layer.
    """
    from onnxruntime.quantization import QuantType, quantize_dynamic

    layers = _layers(path)
    if not layers:
        raise RequestError(f"{graph.name} has no layer that could be quantised. Export it without int8.")
    with _quiet():
        quantize_dynamic(
            path,
            _int8(path),
            op_types_to_quantize=["MatMul"],
            nodes_to_quantize=layers,
            per_channel=True,
            reduce_range=True,  # without VNNI, sums of 8 × 8 bits overflow their 16
            weight_type=QuantType.QInt8,
        )
    theirs = _run(_int8(path), requests)
    return agreement([graph.told(one)[0] for one in requests], [one[0] for one in theirs])


def _layers(path: Path) -> list[str]:
    """Return the products by a matrix, as the quantiser calls them; one of a single column has nothing to save."""
    import onnx

    graph = onnx.load(path, load_external_data=False).graph
    sizes = {one.name: one.dims for one in graph.initializer}
    products = [one for one in graph.node if one.op_type in ("MatMul", "Gemm") and one.input[1] in sizes]
    found = [one for one in products if len(sizes[one.input[1]]) == 2 and min(sizes[one.input[1]]) > 1]
    return [f"{one.name}_MatMul" if one.op_type == "Gemm" else one.name for one in found]


def agreement(scores: Sequence[np.ndarray], others: Sequence[np.ndarray]) -> float:
    """Return Kendall's τ between scores (C, T) of each request's candidates, the mean of the task with the least.

    Where all scores of a request are equal there is no order to agree on: 0.
    """
    from scipy.stats import kendalltau

    tau = [
        [kendalltau(one[:, task], other[:, task]).statistic for task in range(one.shape[1])]
        for one, other in zip(scores, others, strict=True)
    ]
    return float(np.nan_to_num(tau).mean(axis=0).min())


def _document(ranking: Ranking, done: Exported) -> str:
    """Return how inputs are made of columns, as JSON."""
    encoder = ranking.encoder
    document = {
        "bowerbird": bowerbird.__version__,
        "model": done.model,
        "tasks": done.tasks,
        "inputs": done.inputs,
        "encoder": encoder.to_dict(),
        "vocabulary": {name: values.to_list() for name, values in encoder.vocabularies.items()},
    }
    return json.dumps(document, ensure_ascii=False, allow_nan=False)


def _beside(path: Path, ending: str) -> Path:
    return path.with_name(path.name + ending)


def _int8(path: Path) -> Path:
    return path.with_name(f"{path.stem}.int8{path.suffix}")
