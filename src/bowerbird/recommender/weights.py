"""Weights: what a bundle holds is put into a model that was just built, where it fits.

Whoever may write into a run directory may write anything there, under right checksums. So a model is built no larger
than its weights are, and what comes out of it is numbers.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from bowerbird.core import BundleError, ConfigError, MissingExtraError, UnknownModelError

MAKERS = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn, torch.arange, torch.eye)
TIMES, LEAST = 4, 10_000_000  # numbers of a model being built: times those of its weights, or so many
CALLS, LEAST_CALLS = 100, 10_000  # of torch meanwhile: times the number of its tensors, or so many
BROKEN = (
    LookupError, TypeError, ValueError, ArithmeticError, AttributeError, RuntimeError, AssertionError, MemoryError,
    pl.exceptions.PolarsError, pl.exceptions.PanicException,
)  # fmt: skip


@contextmanager
def whole(folder: Path) -> Iterator[None]:
    """Turn what a bundle that does not hold together leads to into a `BundleError` that names the folder.

    Other errors that name a mend of their own stay as they are.
    """
    try:
        yield
    except BundleError as error:
        raise BundleError(error.message, where=error.where or str(folder)) from None
    except (ConfigError, UnknownModelError, MissingExtraError):
        raise
    except BROKEN as error:
        said = f"{type(error).__name__}: {str(error).strip().split(chr(10))[0]}"
        raise BundleError(
            f"{folder}: the bundle does not hold together ({said}). Restore it or train again."
        ) from error


class _Small(TorchFunctionMode):
    """Refuses to make a tensor that is larger than a model of these weights needs, before it has memory."""

    def __init__(self, weights: Mapping[str, Any]) -> None:
        super().__init__()
        self.numbers = max(LEAST, TIMES * sum(one.size for one in weights.values()))
        self.calls = max(LEAST_CALLS, CALLS * len(weights))

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.calls -= 1
        if func in MAKERS:
            sizes = args[0] if args and isinstance(args[0], list | tuple) else args
            wanted = 1
            for size in sizes:
                wanted *= size if isinstance(size, int) else 1
            self.numbers -= wanted
        if self.numbers < 0 or self.calls < 0:
            raise BundleError("the configuration describes a model far larger than the weights beside it.")
        return func(*args, **(kwargs or {}))


def small(weights: Mapping[str, Any]) -> TorchFunctionMode:
    """Return a context in which a model of these weights (arrays) can be built, and none that is much larger."""
    return _Small(weights)


def put(model: nn.Module, weights: Mapping[str, Tensor], name: str) -> None:
    """Put weights into a model; raises `BundleError` unless they are its own by name, shape and type, and finite.

    Whole numbers that the model says are rows of items (`item_rows`) must be.
    """
    try:
        own = model.state_dict()
        wrong = [key for key, one in weights.items() if key in own and one.dtype != own[key].dtype]
        if wrong:
            raise BundleError(
                f"the weights do not fit {name}: {wrong[0]} is {weights[wrong[0]].dtype}, not {own[wrong[0]].dtype}."
            )
        model.load_state_dict(weights)
    except RuntimeError as error:
        raise BundleError(f"the weights do not fit {name}: {error}") from None
    for key, one in weights.items():
        if one.is_floating_point() and not bool(one.isfinite().all()):
            raise BundleError(f"{key}, of the weights of {name}, holds what is no number. Restore it or train again.")
    for key in getattr(model, "item_rows", ()):
        one = weights[key]
        if one.numel() and not 0 <= int(one.min()) <= int(one.max()) < len(one):
            raise BundleError(f"{key}, of the weights of {name}, points to items that are not there. Train again.")
