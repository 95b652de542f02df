"""Workers: several processes that train one model, each on its rows of every batch.

They are those of torch.distributed's default group: where a program has begun one, each of its processes runs the same
training and ends with the same model. torchrun starts such processes, and so does `distributed.cluster`.

A gradient that names rows stays one: workers tell each other how many rows they name, then which, then their values.
What is sent grows with the batch, not with the table. All other gradients travel as one long tensor.

Shapes: W workers, R rows that a gradient names, D numbers of a row.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, distributed, nn

from bowerbird.core import ConfigError
from bowerbird.nn.losses import WORKERS

DENSE, NONE = -1, -2  # instead of a number of rows: the gradient is of the whole parameter, or there is none


@dataclass(frozen=True)
class Workers:
    """Which of how many this process is. Alone, it computes what it always did."""

    rank: int = 0
    size: int = 1

    @classmethod
    def here(cls) -> "Workers":
        """Return the workers of torch.distributed's default group, or this process alone."""
        if not (distributed.is_available() and distributed.is_initialized()):
            return cls()
        return cls(distributed.get_rank(), distributed.get_world_size())

    @property
    def first(self) -> bool:
        """Whether this is the one that validates, writes and speaks."""
        return self.rank == 0

    @property
    def shard(self) -> tuple[int, int]:
        """What `batch` cuts by."""
        return self.rank, self.size

    def rows(self, batches: Any, epoch: int, step: int) -> Any:
        """Return this worker's rows of a batch. One without any has the first one's, and they weigh nothing."""
        mine = batches.batch(epoch, step, self.shard)
        if len(mine.weight) or self.size == 1:
            return mine
        others = batches.batch(epoch, step, (0, self.size))
        return replace(others, weight=torch.zeros_like(others.weight))

    @contextmanager
    def sharing(self) -> Iterator[None]:
        """Let models reckon with the whole batch, of which they see a part."""
        token = WORKERS.set(self.size)
        try:
            yield
        finally:
            WORKERS.reset(token)

    def agree(self, text: str) -> None:
        """Raise `ConfigError` unless every worker has the same text, which says what is trained on what."""
        if self.size == 1:
            return
        texts: list[str] = [""] * self.size
        distributed.all_gather_object(texts, text)
        if len(set(texts)) > 1:
            raise ConfigError(
                f"{self.size} workers of one training differ in configuration, data or checkpoint: "
                f"{', '.join(sorted(set(texts)))}. "
                "Give all of them the same recipe, files and folder, or train outside torch.distributed's group."
            )

    def of_first(self, value: float) -> float:
        """Return the first worker's value."""
        if self.size == 1:
            return value
        told = torch.tensor([value], dtype=torch.float64, device=_device())
        distributed.broadcast(told, 0)
        return float(told)

    def total(self, value: float) -> float:
        """Return the sum over workers."""
        if self.size == 1:
            return value
        told = torch.tensor([value], dtype=torch.float64, device=_device())
        distributed.all_reduce(told)
        return float(told)

    def share_buffers(self, model: nn.Module) -> None:
        """Give every worker the first one's buffers: statistics of batches, which each has of its own rows."""
        if self.size > 1:
            for buffer in model.buffers():
                distributed.broadcast(buffer.data, 0)

    @torch.no_grad()
    def sum_gradients(self, parameters: Sequence[Tensor]) -> None:
        """Give every worker the sum of all workers' gradients: that of the whole batch."""
        if self.size == 1:
            return
        parameters = [one for one in parameters if not (one.is_meta or hasattr(one, "own"))]  # `distributed.tables`
        named = [_named(one) for one in parameters]
        counts = self._gathered(torch.tensor(named, device=parameters[0].device))
        whole = []
        for parameter, of in zip(parameters, torch.stack(counts, dim=1).tolist(), strict=True):
            if DENSE in of:
                whole.append(parameter)
            elif max(of) > 0:
                self._sum_rows(parameter, [max(one, 0) for one in of])
        if whole:
            _sum_whole(whole)

    def _sum_rows(self, parameter: Tensor, counts: list[int]) -> None:
        """Replace a gradient by the rows (R, D) of all workers, of which each named `counts`."""
        index, values = _rows(parameter)
        most, width = max(counts), parameter[0].numel()
        mine_index, mine = index.new_zeros(most), values.new_zeros(most, width)
        mine_index[: len(index)], mine[: len(index)] = index, values.view(-1, width)
        every_index, every = (
            torch.cat([one[:n] for one, n in zip(self._gathered(part), counts, strict=True)])
            for part in (mine_index, mine)
        )
        rows, place = torch.unique(every_index, return_inverse=True)
        summed = values.new_zeros(len(rows), width).index_add_(0, place, every).view(-1, *parameter.shape[1:])
        parameter.grad = torch.sparse_coo_tensor(
            rows[None], summed, parameter.shape, check_invariants=False, is_coalesced=True
        )

    def _gathered(self, mine: Tensor) -> list[Tensor]:
        """Return what each worker has, all of the same shape."""
        every = [torch.empty_like(mine) for _ in range(self.size)]
        distributed.all_gather(every, mine)
        return every


def _device() -> str:
    """Return where the group's messages live."""
    return "cuda" if distributed.get_backend() == "nccl" else "cpu"


def _named(parameter: Tensor) -> int:
    if parameter.grad is None:
        return NONE
    return parameter.grad._nnz() if parameter.grad.is_sparse else DENSE


def _rows(parameter: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows that a sparse gradient names and their values; nothing where there is no gradient."""
    if parameter.grad is None:
        nothing = torch.zeros(0, dtype=torch.int64, device=parameter.device)
        return nothing, parameter.new_zeros(0, *parameter.shape[1:])
    return parameter.grad._indices()[0], parameter.grad._values()


def _sum_whole(parameters: Sequence[Tensor]) -> None:
    """Sum gradients of whole parameters, as one message."""
    parts = []
    for one in parameters:
        if one.grad is None:
            parts.append(torch.zeros_like(one).flatten())
        else:
            parts.append((one.grad.to_dense() if one.grad.is_sparse else one.grad).flatten())
    message = torch.cat(parts)
    distributed.all_reduce(message)
    for one, part in zip(parameters, torch.split(message, [len(part) for part in parts]), strict=True):
        one.grad = part.view_as(one)
