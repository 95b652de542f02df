"""xDeepFM: the compressed interaction network against its equation, however it is computed."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from bowerbird.core import ConfigError
from bowerbird.features import FeatureBatch, FeatureSchema
from bowerbird.models.ranking.xdeepfm import Interaction, XDeepFM, XDeepFMConfig, packed, products

V = torch.tensor([[[1.0, 2.0], [3.0, -1.0]]])  # one row, two fields, D = 2: columns x = (1, 3) and (2, −1)


def two_layers(**settings: Any) -> Interaction:
    network = Interaction(2, XDeepFMConfig(cin=(2, 1), **settings))
    # map 0 is x₁ x₁, map 1 is 2 x₁ x₂ + x₂ x₁
    network.weight[0].data = torch.tensor([[[1.0, 0.0], [0.0, 0.0]], [[0.0, 2.0], [1.0, 0.0]]])
    network.out[1].data = torch.tensor([2.0])
    return network


def test_two_layers_by_hand() -> None:
    network = two_layers()
    network.weight[1].data = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    network.out[0].data = torch.tensor([1.0, 0.5])
    # layer 1: (1, 9) and (4, −6), pooled (5, 3)
    # layer 2: 1 · 3 + 9 · 1 = 12 and 4 · −1 − 6 · 2 = −16, pooled −4
    assert network(V).item() == pytest.approx(1 * 5 + 0.5 * 3 + 2 * -4)


def test_maps_are_cut_off_at_zero_if_asked_for_by_hand() -> None:
    network = two_layers(cin_activation="relu")
    network.weight[1].data = torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    network.out[0].data = torch.tensor([1.0, 0.5])
    # layer 1: (1, 9) and (4, 0), pooled (5, 9); layer 2: 12 and 4 · −1 → 0, pooled 12
    assert network(V).item() == pytest.approx(1 * 5 + 0.5 * 9 + 2 * 12)


def test_one_half_goes_on_and_the_other_out_by_hand() -> None:
    network = two_layers(split_half=True)
    network.weight[1].data = torch.tensor([[[0.0, 1.0]]])
    network.out[0].data = torch.tensor([0.5])
    # map 1 is pooled: 9 − 6 = 3; map 0 goes on: 1 · 3 and 4 · −1, pooled −1
    assert network(V).item() == pytest.approx(0.5 * 3 + 2 * -1)


def test_products_by_hand() -> None:
    assert products(torch.tensor([[2.0], [3.0], [5.0]]))[:, 0].tolist() == [4.0, 6.0, 10.0, 9.0, 15.0, 25.0]
    # 1 aa + (2 + 4) ab + (3 + 7) ac + 5 bb + (6 + 8) bc + 9 cc
    form = torch.tensor([[[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [7.0, 8.0, 9.0]]])
    assert packed(form)[0].tolist() == [1.0, 6.0, 10.0, 5.0, 14.0, 9.0]


def slow(network: Interaction, fields: Tensor, config: XDeepFMConfig) -> Tensor:
    """Return the logits (B, 1) layer by layer, from equation 6, with every map in memory."""
    maps, pooled = fields, []
    for place, weight in enumerate(network.weight):
        maps = torch.einsum("hij,bid,bjd->bhd", weight, maps, fields)
        if config.cin_activation == "relu":
            maps = maps.clamp(min=0)
        half = len(weight) // 2 if config.split_half and place + 1 < len(network.weight) else 0
        pooled.append(maps[:, half:].sum(dim=2))
        maps = maps[:, :half] if half else maps
    return torch.cat(pooled, dim=1) @ torch.cat(list(network.out))[:, None]


@given(
    st.integers(0, 1000),
    st.lists(st.sampled_from([2, 4, 10]), min_size=1, max_size=5),
    st.sampled_from(["none", "relu"]),
    st.booleans(),
    st.integers(1, 4),
    st.sampled_from([1, 5, 1000]),
)
def test_logits_and_gradients_are_those_of_the_equation(
    seed: int, cin: list[int], activation: str, split_half: bool, n_fields: int, most: int
) -> None:
    torch.manual_seed(seed)
    config = XDeepFMConfig(cin=tuple(cin), cin_activation=activation, split_half=split_half)
    network = Interaction(n_fields, config).double()
    network.most = most
    fields = torch.randn(4, n_fields, 3, dtype=torch.float64, requires_grad=True)
    found, expected = network(fields), slow(network, fields, config)
    assert torch.allclose(found, expected, atol=1e-10)
    weight, learned = torch.randn_like(found), [fields, *network.parameters()]
    ours, theirs = (torch.autograd.grad((one * weight).sum(), learned) for one in (found, expected))
    for one, other in zip(ours, theirs, strict=True):
        assert torch.allclose(one, other, atol=1e-9)


@pytest.mark.parametrize("settings", [{"cin": (3, 2, 2)}, {"cin": (2, 3), "cin_activation": "relu"}, {"cin": (2,) * 4}])
def test_pieces_have_the_gradient_that_differences_show(settings: dict[str, Any]) -> None:
    network = Interaction(2, XDeepFMConfig(**settings)).double()
    network.most = 3
    fields = torch.randn(2, 2, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda one, *_: network(one), (fields, *network.parameters()))


@given(st.floats(-3, 3))
def test_layers_add_degrees(scale: float) -> None:
    network, fields = Interaction(3, XDeepFMConfig(cin=(4, 3, 2))).double(), torch.randn(5, 3, 2, dtype=torch.float64)
    parts = []
    for layer in range(3):
        alone = Interaction(3, XDeepFMConfig(cin=(4, 3, 2))).double()
        alone.load_state_dict(network.state_dict())
        for other in {0, 1, 2} - {layer}:
            alone.out[other].data.zero_()
        parts.append(alone(fields))
    expected = sum(scale ** (layer + 2) * part for layer, part in enumerate(parts))
    assert torch.allclose(network(scale * fields), expected, atol=1e-8)


def test_a_long_batch_keeps_nothing_but_its_columns() -> None:
    kept: list[int] = []
    network, fields = Interaction(3, XDeepFMConfig(cin=(8, 8, 8), cin_activation="relu")), torch.randn(40, 3, 4)
    network.most = 16

    def pack(tensor: Tensor) -> Tensor:
        kept.append(tensor.numel())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        network(fields.requires_grad_())
    assert sum(kept) == fields.numel()


def test_the_logit_adds_three_parts(all_kinds: FeatureSchema, filled: Callable[..., FeatureBatch]) -> None:
    model, batch = XDeepFM(XDeepFMConfig(dim=4, hidden=(5,), cin=(6, 4)), all_kinds).eval(), filled(all_kinds, 6)
    model.fields.table.weight.data.normal_()
    model.linear.table.weight.data.normal_()
    fields = model.fields(batch)
    expected = model.linear(batch) + slow(model.interaction, fields, model.config) + model.deep(fields.flatten(1))
    assert torch.allclose(model(batch), expected, atol=1e-4)


@pytest.mark.parametrize(
    "settings", [{}, {"split_half": True}, {"cin_activation": "relu"}, {"cin": (6,)}, {"cin": (6, 4, 4, 2)}]
)
def test_it_takes_every_kind_of_field(
    all_kinds: FeatureSchema,
    filled: Callable[..., FeatureBatch],
    unreached: Callable[..., list[str]],
    settings: dict[str, Any],
) -> None:
    model = XDeepFM(XDeepFMConfig(**({"dim": 4, "hidden": (8, 8), "cin": (6, 4, 2)} | settings)), all_kinds)
    model.fields.table.weight.data.normal_()
    batch = filled(all_kinds, 40)
    assert model(batch).shape == (40, 1)
    assert model.loss(batch).shape == (40,)
    assert unreached(model, batch) == []


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"cin": ()}, r"cin is \(\); it must list sizes of 1 or more."),
        ({"cin": (100, 0)}, r"cin is \(100, 0\); it must list sizes of 1 or more."),
        (
            {"cin": (3, 2), "split_half": True},
            r"cin is \(3, 2\); it must list even sizes, the last one aside, where split_half is true.",
        ),
        (
            {"cin_activation": "rellu"},
            r"cin_activation is 'rellu'; it must be one of none, relu. Did you mean \"relu\"\?",
        ),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        XDeepFMConfig(**wrong)


def test_the_last_layer_may_be_odd_where_halves_are_split() -> None:
    assert XDeepFMConfig(cin=(4, 3), split_half=True).cin == (4, 3)
