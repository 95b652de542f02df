"""HSTU: a gathering step worked by hand, and buckets of time."""

import math

import pytest
import torch

from bowerbird.models.sequential.hstu import Gathering, HSTUConfig
from bowerbird.nn.sequences import GAPS, gap_bucket


def silu(x: float) -> float:
    return x / (1 + math.exp(-x))


def test_a_step_by_hand() -> None:
    step = Gathering(HSTUConfig(dim=2, heads=1, history_len=4))
    step.before = step.norm = torch.nn.Identity()  # type: ignore[assignment]
    eye = torch.eye(2)
    step.project.weight.data = torch.cat([eye, 2 * eye, 3 * eye, -eye])  # u, v, q, k
    step.out.weight.data, step.out.bias.data = eye, torch.zeros(2)
    step.by_place.data = torch.tensor([0.5, -0.5, 0.0, 0.0])
    step.by_time.data = torch.zeros(GAPS)
    step.by_time.data[3] = 0.25
    x = torch.tensor([[[1.0, 0.0], [2.0, 0.0]]])
    gap = gap_bucket(torch.tensor([[[0, 0], [10, 0]]]))  # ten seconds later: bucket 3
    found = step(x, gap)[0, 1, 0].item()
    to_itself = silu(silu(6.0) * silu(-2.0) + 0.5) / 4
    to_first = silu(silu(6.0) * silu(-1.0) - 0.5 + 0.25) / 4
    assert found == pytest.approx((to_itself * silu(4.0) + to_first * silu(2.0)) * silu(2.0), rel=1e-5)


def test_buckets_double() -> None:
    seconds = torch.tensor([-5, 0, 1, 2, 3, 6, 7, 1 << 40])
    assert gap_bucket(seconds).tolist() == [0, 0, 1, 1, 2, 2, 3, GAPS - 1]
