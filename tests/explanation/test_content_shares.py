"""Kinds of content as causes: by hand for a model whose content is a sum."""

from collections.abc import Mapping

import numpy as np
import polars as pl
import pytest
import torch
from torch import Tensor

from bowerbird.data import Interactions
from bowerbird.explanation import Explainer
from bowerbird.explanation.content import modalities
from bowerbird.features import Context


class Sum:
    """An item is the sum of its content, and of behaviour where somebody chose it; everybody asks for [1, 1]."""

    behaviour = torch.tensor([[0.5, 0.0], [0.0, 0.0]])

    def embed(self, content: Mapping[str, Tensor]) -> Tensor:
        return sum((one.nan_to_num(0.0) for one in content.values()), torch.zeros(1, 2))

    def query(self, context: Context) -> Tensor:
        return torch.ones(len(context), 2)

    def item_vectors(self) -> Tensor:
        return self.behaviour + self.embed(CONTENT)

    def can(self, context: Context) -> Tensor:
        return torch.ones(len(context), dtype=torch.bool)

    def scores(self, context: Context, items: Tensor | None = None) -> Tensor:
        vectors = self.item_vectors() if items is None else self.item_vectors()[items]
        return (self.query(context) @ vectors.T).clone()

    def grow(self, n_users: int, n_items: int) -> None:
        raise AssertionError("nothing grows here")


CONTENT = {
    "text": torch.tensor([[0.2, 0.1], [0.4, 0.0]]),
    "image": torch.tensor([[-0.1, 0.0], [torch.nan, torch.nan]]),
}


def test_each_kind_adds_what_the_score_loses_without_it() -> None:
    names, added = modalities(Sum(), Context.nobody(), torch.tensor([0, 1]), CONTENT)
    assert names == ["behaviour", "text", "image"]
    assert added[:, 0].tolist() == pytest.approx([0.5, 0.3, -0.1])
    assert added[:, 1].tolist() == pytest.approx([0.0, 0.4, 0.0])  # without its only kind an item says nothing at all


def test_the_sentence_names_the_kind_that_adds_most() -> None:
    past = Interactions.of(pl.Series(["u", "v"]), pl.Series(["a", "b"]))
    past = past.with_content(items={name: one.numpy().astype(np.float32) for name, one in CONTENT.items()})
    first, second = Explainer(Sum(), past).reasons(Context.nobody(), torch.tensor([0, 1]))
    assert (first[-1].kind, first[-1].method, first[-1].text) == (
        "content",
        "ablation",
        "because of who else chose it",
    )
    assert second[-1].text == "because its text suits you"
    assert [one.id for one in first[-1].causes] == ["behaviour", "text", "image"]
    assert first[-1].causes[0].share == pytest.approx(0.5 / 0.9)
