"""Two processes of one torch.distributed group, for tests of what they do together."""

import multiprocessing
from collections.abc import Callable
from pathlib import Path

import torch
from torch import distributed

WAIT_S = 120


def in_two(work: Callable[[Path, int], None], folder: Path, *, wait_s: float = WAIT_S) -> None:
    """Have two processes do `work(folder, rank)` and wait for both; `work` is a function of a module."""
    context = multiprocessing.get_context("spawn")
    workers = [context.Process(target=_join, args=(work, folder, rank), daemon=True) for rank in (0, 1)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join(wait_s)
    assert [worker.exitcode for worker in workers] == [0, 0]


def _join(work: Callable[[Path, int], None], folder: Path, rank: int) -> None:
    torch.set_num_threads(1)
    distributed.init_process_group("gloo", init_method=f"file://{folder / 'meeting'}", rank=rank, world_size=2)
    try:
        work(folder, rank)
    finally:
        distributed.destroy_process_group()
