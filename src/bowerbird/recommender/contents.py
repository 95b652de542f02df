"""Contents: what a recommender's model makes of what items say, show and sound like, and what is looked for among them.

Shapes: I items, n rows of an item table, D vector size.
"""

from collections.abc import Mapping
from typing import Any

import polars as pl
import torch
from torch import Tensor

from bowerbird.core import ModelConfig, RequestError
from bowerbird.features import ContentRetriever
from bowerbird.nn.content import ContentConfig, Vectors, tensors


class Contents:
    """The content of items in the eyes of a model; of one that reads none, it says so where it is asked."""

    def __init__(self, name: str, model: Any, config: ModelConfig, sizes: Mapping[str, int], device: str) -> None:
        """`name` is what people call the recommender; `sizes` are those of the model's modalities."""
        self.name, self.model, self.sizes, self.device = name, model, dict(sizes), device
        self.reader = config if isinstance(config, ContentConfig) else None

    def read(self, items: pl.DataFrame, *, paths: bool = True) -> Vectors | None:
        """Return the content of the rows of an item table; None where the model reads none.

        `paths` says whether files that the table names may be opened.
        """
        if self.reader is None:
            return None
        return tensors(self.reader.read(items, paths=paths, sizes=self.sizes), self.device)

    def embed(self, content: Vectors) -> Tensor | None:
        """Return the vectors of items that only have this content (n, D), rows of NaN for none of any kind.

        None where the model cannot tell.
        """
        if not isinstance(self.model, ContentRetriever):
            return None
        told = torch.stack([~one.isnan().any(dim=1) for one in content.values()]).any(dim=0)
        with torch.inference_mode():
            return self.model.embed(content).masked_fill(~told[:, None], torch.nan)

    @property
    def places(self) -> Tensor:
        """Where the items stand in the space that texts and pictures are looked for in, unit vectors (I, D).

        Zeros for an item without content. Raises `RequestError` where the model has no such space.
        """
        self._searched()
        places: Tensor = self.model.places
        return places

    def place(self, content: Vectors) -> Tensor:
        """Return where content stands in the space of `places` (n, D)."""
        with torch.inference_mode():
            found: Tensor = self.model.place(content)
            return found

    def sought(self, text: str = "", image: str | bytes | None = None) -> Tensor:
        """Return where a text, a picture or both stand in the space of `places` (1, D); raises as it does."""
        reader = self._searched()
        given = {kind: value for kind, value in (("text", text), ("image", image)) if value}
        if not given:
            raise RequestError("what is to be found? Give a text or a picture.")
        for kind in given:
            if not getattr(reader, kind):
                raise RequestError(f"{self.name} was trained without a column of kind {kind}. Ask by another.")
        table = pl.DataFrame({getattr(reader, kind)[0]: [value] for kind, value in given.items()})
        place = self.place(tensors(reader.read(table, sizes=self.sizes), self.device))
        if not place.any():
            raise RequestError(f"nothing can be read of the {' and the '.join(given)}.")
        return place

    def _searched(self) -> ContentConfig:
        """Return who reads what is looked for; raises `RequestError` where the model has no space of contents."""
        if self.reader is None or not getattr(self.model, "aligns", False):
            raise RequestError(f"{self.name} has no space of contents to search. Train crossmodal.")
        return self.reader
