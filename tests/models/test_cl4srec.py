"""CL4SRec: what a view keeps of a history, and that its own other view is nearer than those of others."""

import pytest
import torch

from bowerbird.data import Schema
from bowerbird.features import Windows
from bowerbird.models.sequential.cl4srec import CL4SRec, CL4SRecConfig, views

CONFIG = CL4SRecConfig(dim=8, history_len=10, cropped=0.6, masked=0.3, reordered=0.6)


def test_a_view_crops_masks_or_reorders() -> None:
    there = torch.arange(10) < torch.tensor([[10]] * 300 + [[5]] * 300)
    order, hidden = views(there, CONFIG)
    kinds = {"crop": 0, "mask": 0, "reorder": 0, "whole": 0}
    for row, masked, length in zip(order, hidden, there.sum(dim=1).tolist(), strict=True):
        places = row[row >= 0].tolist()
        assert not bool(masked[row < 0].any())
        if len(places) < length:
            kinds["crop"] += 1
            assert places == list(range(places[0], places[0] + round(0.6 * length)))
        elif places != list(range(length)):
            kinds["reorder"] += 1
            moved = [place for place, was in enumerate(places) if place != was]
            assert sorted(places) == list(range(length))
            assert moved[-1] - moved[0] < round(0.6 * length)
        else:
            kinds["mask" if bool(masked.any()) else "whole"] += 1
        if bool(masked.any()):
            assert places == list(range(length))
    assert all(kinds[kind] > 120 for kind in ("crop", "mask", "reorder"))
    drawn = hidden.sum() / there[hidden.any(dim=1)].sum()
    assert drawn.item() == pytest.approx(0.33, abs=0.05)  # of rows in which something was masked


def test_one_event_stays() -> None:
    order, _ = views(torch.tensor([[True, False]] * 50), CONFIG)
    assert order.tolist() == [[0, -1]] * 50


def test_the_contrast_is_added() -> None:
    item, target = torch.randint(20, (16, 6)), torch.randint(20, (16, 6))
    batch = Windows(torch.arange(16), item, target, torch.full((16,), 6.0), torch.empty(0, dtype=torch.int64))
    found = []
    for weight in (0.0, 1.0):
        torch.manual_seed(1)
        model = CL4SRec(CL4SRecConfig(dim=8, history_len=10, contrast=weight), Schema(3, 20)).eval()
        found.append(model.loss(batch))
    assert bool((found[1] > found[0]).all())
