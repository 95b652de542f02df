"""Checkpoints: the whole state of a training after an epoch, so that it goes on as if nothing had happened.

A checkpoint is a .safetensors file named by what the run is (configuration, seed, data); another run never
takes it for its own. It is written beside its place and renamed into it: a crash leaves the old one or the new one.
"""

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from bowerbird.core import DataError
from bowerbird.training.adam import Adam

State = dict[str, Tensor]


def place(folder: str, identity: dict[str, Any]) -> Path:
    """Return the file of the run that `identity` describes."""
    return Path(folder) / f"{digest(identity)}.safetensors"


def digest(identity: dict[str, Any]) -> str:
    """Return 16 letters that stand for what a run is."""
    return hashlib.sha256(json.dumps(identity, sort_keys=True, default=str).encode()).hexdigest()[:16]


def write(path: Path, progress: dict[str, Any], model: nn.Module, optimiser: Adam, best: State) -> None:
    """Keep the model, the optimiser's moments, the best state so far and `progress`, which must be JSON."""
    parts = {
        "model": model.state_dict(),
        "best": best,
        "moments": optimiser.moments(model),
    }
    tensors = {f"{part}.{key}": value.contiguous() for part, state in parts.items() for key, value in state.items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_suffix(".part")
    save_file(tensors, scratch, {"progress": json.dumps(progress)})
    os.replace(scratch, path)


def recall(path: Path, model: nn.Module, optimiser: Adam) -> tuple[dict[str, Any], State] | None:
    """Bring model and optimiser to the state kept at `path`; return the progress and the best state, None without one.

    Raises `DataError` for a file that is damaged.
    """
    if not path.exists():
        return None
    try:
        with safe_open(path, "pt") as file:
            progress: dict[str, Any] = json.loads(file.metadata()["progress"])
            tensors = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, KeyError, TypeError, ValueError) as error:
        raise DataError(f"{path}: the checkpoint is damaged ({error}). Remove it to start again.") from None

    def part(name: str) -> State:
        return {key.removeprefix(name): value for key, value in tensors.items() if key.startswith(name)}

    model.load_state_dict(part("model."))
    optimiser.restore(model, part("moments."))
    return progress, part("best.")
