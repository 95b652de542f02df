"""Adam, dense or by rows: on a long table a dense step costs more than the model.

Paper: Kingma and Ba, ICLR 2015, arXiv:1412.6980, algorithm 1, computed by torch's fused function.
Differs: a sparse gradient moves the rows it names; the others keep their value and their moments ("lazy" Adam).

It is no `torch.optim.Optimizer`: making one imports torch's compiler, 1.5 seconds and 70 MB before the first step.
"""

from collections.abc import Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.optim.adam import adam

BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8


class Adam:
    """First and second moments of each parameter's gradient, and the step they give."""

    def __init__(self, parameters: Iterable[Tensor], learning_rate: float) -> None:
        self.parameters, self.learning_rate = list(parameters), learning_rate
        self.state: dict[Tensor, dict[str, Tensor]] = {}  # mean and square, shaped like the parameter, and steps ()

    def zero_grad(self) -> None:
        """Drop the gradients."""
        for parameter in self.parameters:
            parameter.grad = None

    def moments(self, model: nn.Module) -> dict[str, Tensor]:
        """Return what to go on with, by the names of the model's parameters: "item.mean", "item.square" and so on."""
        named = model.named_parameters()
        return {f"{name}.{key}": one for name, of in named for key, one in self.state.get(of, {}).items()}

    def restore(self, model: nn.Module, moments: Mapping[str, Tensor]) -> None:
        """Go on with what `moments` returned; a parameter that is not in it starts anew."""
        for name, parameter in model.named_parameters():
            if f"{name}.steps" in moments:
                self.state[parameter] = {
                    key: moments[f"{name}.{key}"].to(parameter.device, copy=True) for key in ("mean", "square", "steps")
                }

    @torch.no_grad()
    def step(self) -> None:
        """Move every parameter that has a gradient."""
        dense = []
        for parameter in self.parameters:
            if parameter.grad is None:
                continue
            if parameter not in self.state:
                mean, square = torch.zeros_like(parameter), torch.zeros_like(parameter)
                self.state[parameter] = {"mean": mean, "square": square, "steps": parameter.new_zeros(())}
            if parameter.grad.is_sparse:
                self._row_step(parameter, _sorted(parameter.grad))
            else:
                dense.append(parameter)
        if dense:
            states = [self.state[one] for one in dense]
            moments = ([state[key] for state in states] for key in ("mean", "square", "steps"))
            self._move(dense, [one.grad for one in dense if one.grad is not None], *moments)

    def _row_step(self, parameter: Tensor, gradient: tuple[Tensor, Tensor]) -> None:
        rows, state = gradient[0], self.state[parameter]
        wholes = parameter, state["mean"], state["square"]
        near, mean, square = (whole.index_select(0, rows) for whole in wholes)  # many times as fast as [rows]
        self._move([near], [gradient[1]], [mean], [square], [state["steps"]])
        for whole, part in zip(wholes, (near, mean, square), strict=True):
            whole.index_copy_(0, rows, part)

    def _move(
        self,
        parameters: list[Tensor],
        gradients: list[Tensor],
        means: list[Tensor],
        squares: list[Tensor],
        steps: list[Tensor],
    ) -> None:
        adam(
            parameters, gradients, means, squares, [], steps, fused=True, amsgrad=False, beta1=BETA1, beta2=BETA2,
            lr=self.learning_rate, weight_decay=0.0, eps=EPSILON, maximize=False,
        )  # fmt: skip


def _sorted(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows that a sparse gradient names, each once, and their values.

    Autograd forgets that ours are sorted already; sorting them again costs as much as the step.
    """
    rows = gradient._indices()[0]  # the documented way into a gradient that is not marked as sorted
    if bool((rows[1:] > rows[:-1]).all()):
        return rows, gradient._values()
    gradient = gradient.coalesce()
    return gradient.indices()[0], gradient.values()
