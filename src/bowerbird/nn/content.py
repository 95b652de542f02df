"""Content in models: which columns of a table are read, and what learns from few items how content becomes a vector.

Content is a vector of each item and modality, and a row of NaN where an item has none (`Interactions.item_content`).

Shapes: I items, n rows, D vector size, M size of a modality's vectors, L landmarks.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
import torch
from torch import Tensor, nn
from torch.nn import functional

from bowerbird.core import ConfigError, check, did_you_mean
from bowerbird.data import Interactions
from bowerbird.features import Audio, Image, Text
from bowerbird.features.attributes import attributes
from bowerbird.features.inference import said
from bowerbird.features.media import describe, resolved
from bowerbird.nn.losses import PairConfig

LOG = logging.getLogger(__name__)
KINDS = ("text", "image", "audio", "vector", "attributes")
LEAST = 1e-4  # an eigenvalue of likeness that still says something
Vectors = Mapping[str, Tensor]  # modality → (n, M), rows of NaN where there is nothing


@dataclass(frozen=True, kw_only=True)
class ContentConfig(PairConfig):
    """Which columns of the item table are content, and who reads them; with none named, what columns seem to be.

    All columns of texts are read as one text, and so are attributes; each column of pictures, sounds or ready vectors
    is content of its own.
    """

    text: tuple[str, ...] = ()  # columns of texts
    image: tuple[str, ...] = ()  # columns that name pictures
    audio: tuple[str, ...] = ()  # columns that name sounds
    vector: tuple[str, ...] = ()  # columns of ready vectors: lists of numbers of one length
    attributes: tuple[str, ...] = ()  # columns of categories, tags and numbers
    text_encoder: str = "auto"  # "words", "static", "minilm", "minilm+static", or a model of sentence-transformers
    image_encoder: str = "auto"  # "efficientnet-lite0", or a CLIP model of sentence-transformers
    audio_encoder: str = "auto"  # "logmel"
    senses: float = 0.25  # weight of a picture or a sound beside a text or attributes, where they are compared
    folder: str = ""  # where the paths in columns begin; empty: the working directory

    def __post_init__(self) -> None:
        super().__post_init__()
        check(self.senses > 0, "senses", self.senses, "must be above 0", try_instead=0.25)

    def weights(self, names: Sequence[str]) -> list[float]:
        """Return how much each modality counts."""
        return [self.senses if name in (*self.image, *self.audio) else 1.0 for name in names]

    def named(self) -> dict[str, tuple[str, ...]]:
        """Return the columns that are read, by kind."""
        return {kind: columns for kind in KINDS if (columns := getattr(self, kind))}

    def settled(self, items: pl.DataFrame | None) -> Self:
        """Return this configuration with its columns and encoders decided; raises `ConfigError` for unknown columns."""
        table = pl.DataFrame() if items is None else items
        for column in (name for columns in self.named().values() for name in columns):
            if column not in table.columns:
                raise ConfigError(
                    f'the item table has no column "{column}".{did_you_mean(column, table.columns)} '
                    f"Columns: {', '.join(table.columns) or 'none'}."
                )
        seem: dict[str, Any] = {} if self.named() else dict(said(table))
        found, encoders = replace(self, **seem), dict[str, Any]()
        for kind in (Text, Image, Audio):
            if getattr(found, kind.kind):
                key = f"{kind.kind}_encoder"
                encoders[key] = resolved(kind(name=kind.kind, encoder=getattr(found, key))).encoder
        return replace(found, **encoders)

    def read(
        self, table: pl.DataFrame, *, paths: bool = True, sizes: Mapping[str, int] | None = None
    ) -> dict[str, np.ndarray]:
        """Return the content of the rows of an item table, float32 (n, M) each; `paths`: whether files may be opened.

        A column that the table lacks is content that its items have not. `sizes` are those of the modalities of a
        model: each of them is there then, of NaN where nothing is, as are vectors of another size.
        """
        n, sizes, found = len(table), dict(sizes or {}), {}
        for kind, columns in self.named().items():
            there = [name for name in columns if name in table.columns]
            if kind == "text":
                values = pl.Series("text", [None] * n, pl.String)
                if there:
                    texts = pl.concat_str(map(_text, there), separator=". ", ignore_nulls=True)
                    values = table.select(texts.alias("text"))["text"].replace("", None)
                found["text"] = describe(values, Text(name="text", encoder=self.text_encoder)).vectors
            elif kind == "attributes":
                found["attributes"] = attributes(table.select(there)) if there else attributes(_nothing(n))
            elif kind == "vector":
                found |= {name: _ready(table[name], sizes.get(name, 0)) for name in there}
            else:
                column = Image if kind == "image" else Audio
                for name in there:
                    values, encoder = table[name], getattr(self, f"{kind}_encoder")
                    if name in sizes and (values.is_null().all() or not (paths or values.dtype == pl.Binary)):
                        continue  # nothing to be read: whoever serves may not even have the encoder
                    root = Path(self.folder) if self.folder else None
                    told = describe(values, column(name=name, encoder=encoder), root=root, paths=paths)
                    for reason, count in told.refused.items():
                        example = told.examples[reason]
                        LOG.warning(
                            'column "%s": %s of %s cannot be read: %s, such as %s', name, count, n, reason, example
                        )
                    found[name] = told.vectors
        return {name: found.get(name, np.full((n, size), np.nan, np.float32)) for name, size in sizes.items()} or found

    def extended(self, whole: Interactions, past: Interactions) -> Interactions:
        """Return events with the content that items of `past`, the first ones, had there; that of new ones is read."""
        n_new = whole.n_items - past.n_items
        new = _nothing(n_new) if whole.items is None else whole.items.tail(n_new)
        sizes = {name: vectors.shape[1] for name, vectors in past.item_content.items()}
        found = self.read(new, sizes=sizes) if n_new and sizes else {}
        content = {name: [vectors, *([found[name]] if n_new else [])] for name, vectors in past.item_content.items()}
        return whole.with_content(items={name: np.concatenate(parts) for name, parts in content.items()})


def _text(name: str) -> pl.Expr:
    return pl.col(name).cast(pl.String)


def _nothing(n: int) -> pl.DataFrame:
    return pl.DataFrame({"nothing": [None] * n})


def _ready(values: pl.Series, size: int = 0) -> np.ndarray:
    """Return lists of numbers as vectors (n, M), NaN where a list is not finite or has another length.

    Another than `size` or, where that is 0, than most.
    """
    lists = values if isinstance(values.dtype, pl.List | pl.Array) else values.clear(len(values)).cast(pl.Null)
    lists = lists.cast(pl.List(pl.Float32), strict=False)
    lengths = lists.list.len()
    size = size or int(lengths.drop_nulls().mode().max() or 0)  # type: ignore[arg-type]
    check(size > 0, values.name, size, "must hold lists of numbers")
    right = (lengths == size).fill_null(False).to_numpy()
    found = np.full((len(values), size), np.nan, np.float32)
    found[right] = lists.filter(right).explode().to_numpy().reshape(-1, size)
    found[~np.isfinite(found).all(axis=1)] = np.nan
    return found


def tensors(content: Mapping[str, np.ndarray], device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Return content as tensors."""
    return {name: torch.from_numpy(np.ascontiguousarray(one, np.float32)).to(device) for name, one in content.items()}


def content_of(train: Interactions, device: torch.device | str = "cpu") -> dict[str, Tensor]:
    """Return the content of all items; raises `ConfigError` where there is none."""
    if not train.item_content:
        raise ConfigError(
            "the items have no content: their table has no column of texts, categories, pictures, sounds or vectors. "
            "Give one with --items, or ready vectors with Interactions.with_content."
        )
    return tensors(train.item_content, device)


@torch.no_grad()
def begin(model: Any, train: Interactions, name: str) -> None:
    """Let the item vectors of a model (I, D) begin as ready content: its D main directions, as long as they were.

    Items without that content keep what they have. Raises `ConfigError` where there is no such content, or the model
    has no table of items.
    """
    table = getattr(model, "item", None)
    if not isinstance(table, nn.Parameter):
        raise ConfigError(f"start is {name!r}; {type(model).__name__} has no item vectors to begin. Leave it out.")
    if name not in train.item_content:
        close = did_you_mean(name, train.item_content)
        there = ", ".join(train.item_content) or "none"
        raise ConfigError(f"start is {name!r}; the items have no such content.{close} They have: {there}.")
    vectors = torch.from_numpy(train.item_content[name]).float()
    there_are = ~vectors.isnan().any(dim=1)
    vectors = vectors[there_are] - vectors[there_are].mean(dim=0)
    _, _, main = torch.linalg.svd(vectors, full_matrices=False)
    found = vectors @ main[: table.shape[1]].T
    found *= table.norm(dim=1).mean().cpu() / found.norm(dim=1).mean().clamp(min=1e-9)
    place = there_are.nonzero()[:, 0].to(table.device)
    table[place, : found.shape[1]] = found.to(table.device, table.dtype)


class Directions(nn.Module):
    """Content as models meet it: the direction from the mean of each modality, zeros where there is none."""

    def __init__(self, sizes: Mapping[str, int]) -> None:
        super().__init__()
        self.names = tuple(sizes)
        for number, size in enumerate(sizes.values()):
            self.register_buffer(f"centre{number}", torch.zeros(size))

    def fit(self, content: Vectors) -> None:
        """Learn the means."""
        for number, name in enumerate(self.names):
            self.get_buffer(f"centre{number}").copy_(content[name].nanmean(dim=0).nan_to_num(0.0))

    def forward(self, content: Vectors) -> tuple[list[Tensor], list[Tensor]]:
        """Return unit vectors of each modality (n, M), and which rows have it, bool (n,).

        A modality that `content` lacks, as a query may, no row has.
        """
        vectors, there = [], []
        for number, name in enumerate(self.names):
            centre = self.get_buffer(f"centre{number}")
            given = content.get(name)
            if given is None:
                given = centre.new_full((len(next(iter(content.values()))), len(centre)), torch.nan)
            there.append(~given.isnan().any(dim=1))
            vectors.append(functional.normalize((given - centre).masked_fill(~there[-1][:, None], 0.0), dim=1))
        return vectors, there


class Kernel(nn.Module):
    """How like content is to that of some items, the landmarks: a Gaussian kernel over all modalities together.

    Its features (n, L) are such that a linear map of them with a penalty is kernel ridge regression over the landmarks
    (Williams and Seeger, NeurIPS 2000). What an item lacks has no say in how like it is to others; a landmark that
    lacks what the item has is as far away there as anything.
    """

    def __init__(self, sizes: Mapping[str, int], weights: Sequence[float], landmarks: int, width: float) -> None:
        super().__init__()
        self.width = width
        self.weights = [weight / sum(weights) for weight in weights]
        for number, size in enumerate(sizes.values()):
            self.register_buffer(f"mark{number}", torch.zeros(landmarks, size))
            self.register_buffer(f"has{number}", torch.zeros(landmarks, dtype=torch.bool))
        self.register_buffer("known", torch.zeros(landmarks, dtype=torch.bool))  # which landmarks there are

    def fit(self, vectors: list[Tensor], there: list[Tensor], rows: Tensor) -> None:
        """Take these rows as landmarks, L at most."""
        for number, (one, has) in enumerate(zip(vectors, there, strict=True)):
            self.get_buffer(f"mark{number}")[: len(rows)] = one[rows]
            self.get_buffer(f"has{number}")[: len(rows)] = has[rows]
        self.get_buffer("known")[: len(rows)] = True

    def likeness(self, vectors: list[Tensor], there: list[Tensor]) -> Tensor:
        """Return 1 for equal content and less the more it differs (n, L), 0 for landmarks that do not exist.

        `there` may tell of several cases, (…, n) of each modality, which are answered together: (…, n, L).
        """
        known = self.get_buffer("known")
        far, heard = known.new_zeros((), dtype=torch.float32), known.new_zeros((), dtype=torch.float32)
        for number, (one, has) in enumerate(zip(vectors, there, strict=True)):
            apart = 1 - one @ self.get_buffer(f"mark{number}").T  # half a squared distance; 1 for what is unrelated
            apart = torch.where(self.get_buffer(f"has{number}"), apart, 1.0) * self.weights[number]
            far = far + apart * has[..., None]
            heard = heard + self.weights[number] * has[..., None]
        far = torch.where(heard > 0, far / heard, 1.0)
        return torch.exp(-far / self.width) * known

    def whitening(self) -> Tensor:
        """Return what turns likeness into features (L, L): the inverse of a root of the landmarks' own likeness."""
        marks, has = ([self.get_buffer(f"{what}{n}") for n in range(len(self.weights))] for what in ("mark", "has"))
        known = int(self.get_buffer("known").sum())  # the first rows; a small catalogue has few
        own = self.likeness([one[:known] for one in marks], [one[:known] for one in has])[:, :known].double()
        found, turn = torch.linalg.eigh((own + own.T) / 2)  # where modalities lack, some are below 0 and say nothing
        whitening = torch.zeros(len(marks[0]), len(marks[0]), device=own.device)
        whitening[:known, :known] = turn * torch.where(found > LEAST, found.clamp(min=LEAST).rsqrt(), 0.0)
        return whitening


def ridge_map(features: Tensor, targets: Tensor, weight: float) -> Tensor:
    """Return the map (F, D) of features (n, F) to targets (n, D) that least squares with a penalty finds."""
    features = features.double()
    left = features.T @ features
    left.diagonal().add_(weight)
    found: Tensor = torch.linalg.solve(left, features.T @ targets.double()).float()
    return found
