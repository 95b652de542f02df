"""The group of processes that torchrun started: joined at the beginning of a program, left at its end."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import distributed

from bowerbird.core import ConfigError
from bowerbird.training import Workers

TOLD = ("RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT")  # what torchrun tells each process


def backend() -> str:
    """Return how tensors travel: nccl between GPUs, gloo otherwise."""
    return "nccl" if torch.cuda.is_available() and distributed.is_nccl_available() else "gloo"


@contextmanager
def joined() -> Iterator[Workers]:
    """Be one of torchrun's workers, each on its own GPU where there are any.

    Raises `ConfigError` in a process that torchrun did not start.
    """
    missing = [name for name in TOLD if name not in os.environ]
    if missing:
        raise ConfigError(
            f"torchrun did not start this process: {', '.join(missing)} is not set. "
            "Write: torchrun --nproc-per-node 2 -m bowerbird train RECIPE --on torchrun --out RUN"
        )
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", 0)))
    distributed.init_process_group(backend())
    try:
        yield Workers.here()
    finally:
        distributed.destroy_process_group()
