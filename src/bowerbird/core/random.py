"""Random streams: one seed, split by name, so that adding a draw in one place changes no other place."""

import hashlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np
    import torch


def derive(seed: int, *names: str | int) -> int:
    """Return a 63-bit seed that depends on `seed` and every name, and on nothing else."""
    text = "/".join(str(part) for part in (seed, *names))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1


def numpy_stream(seed: int, *names: str | int) -> "np.random.Generator":
    """Return numpy's generator for the named stream."""
    import numpy as np

    return np.random.default_rng(derive(seed, *names))


def torch_stream(seed: int, *names: str | int, device: str = "cpu") -> "torch.Generator":
    """Return torch's generator for the named stream on `device`."""
    import torch

    return torch.Generator(device=device).manual_seed(derive(seed, *names))
