"""Ray: tasks and trainings on the machines of a cluster, or on this one.

Ray starts processes, gives each its rank, and starts them again where one is lost; what they do is written elsewhere.
Rows, codes and checkpoints travel through files that all machines see, answers as what a function returns.

Needs: the extra `ray`, in an environment of its own; `make test-ray` makes one.
"""

import logging
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar, cast

from bowerbird.core import BowerbirdError, ConfigError, MissingExtraError, check

try:
    import ray
    from ray.exceptions import RayTaskError
    from ray.train import FailureConfig, RunConfig, ScalingConfig
    from ray.train.torch import TorchConfig, TorchTrainer
except ImportError:
    raise MissingExtraError('--on ray needs ray. Install it with: pip install "bowerbird[ray]"') from None

from bowerbird.distributed.group import backend

T = TypeVar("T")
R = TypeVar("R")
STARTS, WAIT_S = 4, 5.0  # tries to start Ray here, which times out on a busy machine, and the pause between two
STORE = 150 << 20  # bytes of Ray's object store here: answers are small
RESTARTS = 3  # losses of workers after which a training is given up


@contextmanager
def started(cpus: int, address: str | None = None) -> Iterator[None]:
    """Have Ray: the one that this process has, the cluster at `address`, or one here, which ends with the block.

    Raises `ConfigError` where none can be had.
    """
    check(cpus >= 1, "workers", cpus, "must be 1 or more", try_instead=2)
    if ray.is_initialized():
        yield
        return
    last: Exception | None = None
    for attempt in range(STARTS):
        try:
            here: dict[str, Any] = {"num_cpus": cpus, "include_dashboard": False, "object_store_memory": STORE}
            ray.init(
                address=address or "local", log_to_driver=False, logging_level=logging.ERROR,
                **({} if address else here),
            )  # fmt: skip
            break
        except (OSError, RuntimeError, ValueError, TimeoutError) as error:
            ray.shutdown()
            last = error
            if address:
                break
            time.sleep(WAIT_S * (attempt + 1))
    else:
        raise ConfigError(f"Ray did not start here in {STARTS} tries: {last}. Are there CPUs and memory left?")
    if not ray.is_initialized():
        raise ConfigError(f"no Ray cluster answers at {address}: {last}. Mend the address, or leave it out.")
    try:
        yield
    finally:
        ray.shutdown()


def tasks(function: Callable[[T], R], of: Iterable[T]) -> list[R]:
    """Return what a function makes of each task, in their order; each is run by whoever is free.

    A task whose process is lost is run again. Raises what the function raises.
    """
    one = ray.remote(num_cpus=1, max_retries=RESTARTS)(function_of(function))
    try:
        return cast(list[R], ray.get([one.remote(task) for task in of]))
    except RayTaskError as error:
        raise (error.cause if isinstance(error.cause, BowerbirdError) else error) from None


def function_of(function: Callable[[T], R]) -> Callable[[T], R]:
    """Return a plain function, which Ray asks for where a bound or partial one is given."""

    def call(task: T) -> R:
        return function(task)

    return call


def put(thing: T) -> Any:
    """Send something to Ray's store, once for all that ask for it; return its name there."""
    return ray.put(thing)


def got(name: Any) -> Any:
    """Return what `put` has sent."""
    return ray.get(name)


def train(function: Callable[[], R], workers: int, *, gpus: bool = False, restarts: int = RESTARTS) -> R:
    """Call a function in each of so many processes that torch.distributed unites; return what the first one returns.

    Where a process is lost, all are started again, `restarts` times: a function that keeps its state goes on from
    there. Raises the `BowerbirdError` that a process raises, and `ConfigError` where too many were lost.
    """
    with tempfile.TemporaryDirectory(prefix="bowerbird-ray-") as folder:
        trainer = TorchTrainer(
            lambda: _told(function),
            torch_config=TorchConfig(backend="nccl" if gpus else backend()),
            scaling_config=ScalingConfig(num_workers=workers, use_gpu=gpus),
            run_config=RunConfig(
                storage_path=folder,
                failure_config=FailureConfig(max_failures=restarts, controller_failure_limit=restarts),
            ),
        )
        try:
            answer = trainer.fit().return_value
        except Exception as error:
            raise ConfigError(f"workers were lost more than {restarts} times: {error}") from error
    if isinstance(answer, BowerbirdError):
        raise answer
    return cast(R, answer)


def _told(function: Callable[[], R]) -> R | BowerbirdError:
    """Return what a function returns, or a mistake that starting again would not mend."""
    try:
        return function()
    except BowerbirdError as error:
        return error
