"""TorchRec: long tables of vectors in shards, none of which has to fit whole on a worker while a model trains.

Table-wise, a table is cut into as many blocks of rows as there are workers, each a table of TorchRec's that its planner
gives to one of them. Column-wise, every worker has some numbers of each vector. A lookup sends rows to whoever has them
and brings vectors back, the gradient goes the other way, and each worker's Adam moves its own shard. Row-wise sharding
is for GPUs: on a CPU TorchRec 1.8 fails in the first lookup, and it is refused here.

Each table is a collection of its own: several in one lose the order of their columns where these are cut (TorchRec 1.8,
over gloo). The kernel is the dense one, as the fused ones of a CPU know no Adam; a gradient still moves only the rows
it names. Shards train for a number of epochs, without validation and checkpoints in between.

Needs: torchrec 1.8.0 and fbgemm-gpu-cpu 1.8.0 without what they ask for; `make test-torchrec` has the environment.
Shapes: n rows of a table, D numbers of a vector, W workers, N numbers of an index.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, distributed, nn

from bowerbird.core import ConfigError, MissingExtraError
from bowerbird.nn.losses import is_long
from bowerbird.training import Workers

try:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # FBGEMM warns of each kernel that a CPU build lacks
        from fbgemm_gpu.split_table_batched_embeddings_ops_training import DenseTableBatchedEmbeddingBagsCodegen
        from torchrec import EmbeddingCollection, EmbeddingConfig, KeyedJaggedTensor
        from torchrec.distributed.comm_ops import set_gradient_division
        from torchrec.distributed.embedding import EmbeddingCollectionSharder
        from torchrec.distributed.planner import EmbeddingShardingPlanner, ParameterConstraints, Topology
        from torchrec.distributed.types import ShardingEnv
except ImportError as error:
    why = f"sharded tables need TorchRec ({error}). `make test-torchrec` shows how it installs."
    raise MissingExtraError(why) from None

KINDS = ("table", "column")
LEAST = 10_000  # rows from which a table is cut
DENSE = "dense"


@dataclass(frozen=True)
class Block:
    """A table of TorchRec's: rows of one of ours."""

    start: int
    end: int
    module: Any  # answers a KeyedJaggedTensor
    owners: tuple[tuple[int, int, int], ...]  # rank, first column, end


class Held(nn.Module):
    """One table of a model in shards; this worker's own are its parameters."""

    def __init__(self, whole: Tensor, blocks: list[Block]) -> None:
        super().__init__()
        self.shape, self.blocks = whole.shape, blocks
        self.shards = nn.ParameterDict()
        rank = Workers.here().rank
        for place, block in enumerate(blocks):
            for owner, first, end in block.owners:
                if owner == rank:
                    self.shards[str(place)] = _shard(block, whole[block.start : block.end, first:end])

    def forward(self, index: Tensor) -> Tensor:
        """Return vectors (…, D) of an index (…)."""
        if torch.is_grad_enabled() and not is_long(torch.empty(self.shape, device="meta"), index):
            raise ConfigError(
                f"a table of {self.shape[0]:,} rows is too short to be cut where a step asks for {index.numel():,}. "
                "Take a smaller batch_size, or a larger least."
            )
        flat = index.flatten()
        found = torch.zeros(len(flat), self.shape[1])
        for block in self.blocks:
            place = ((flat >= block.start) & (flat < block.end)).nonzero()[:, 0]
            rows = KeyedJaggedTensor(["rows"], values=flat[place] - block.start, lengths=torch.ones_like(place))
            found = found.index_copy(0, place, block.module(rows)["rows"].values())
        return found.view(*index.shape, self.shape[1])

    @torch.no_grad()
    def whole(self) -> Tensor:
        """Return the table (n, D) on every worker."""
        full = torch.empty(self.shape)
        for place, block in enumerate(self.blocks):
            for owner, first, end in block.owners:
                mine = owner == Workers.here().rank
                part = (
                    self.shards[str(place)].data.clone() if mine else torch.empty(block.end - block.start, end - first)
                )
                distributed.broadcast(part, owner)
                full[block.start : block.end, first:end] = part
        return full


@contextmanager
def sharded(model: nn.Module, kind: str = "table", *, least: int = LEAST) -> Iterator[str]:
    """Train with the long tables of a model in shards inside the block; give the planner's plan as a text.

    After it every worker has every table whole again. Raises `ConfigError` where nothing can be cut.
    """
    workers = Workers.here()
    if kind not in KINDS:
        row = " Row-wise sharding needs GPUs: on a CPU TorchRec fails in the first lookup." if kind == "row" else ""
        raise ConfigError(f"kind is {kind!r}; it must be one of {', '.join(KINDS)}.{row}")
    if workers.size == 1:
        raise ConfigError("one process has nobody to share tables with. Start two with torchrun.")
    long = [(name, one) for name, one in model.named_parameters() if one.dim() == 2 and len(one) >= least]
    if kind == "column":
        long = [(name, one) for name, one in long if one.shape[1] % workers.size == 0]
    if not long:
        raise ConfigError(f"the model has no table of {least:,} rows or more that can be cut. Lower least.")
    set_gradient_division(False)  # batches are weighed as a whole: shards of a gradient are summed
    plans, held = [], dict[str, Held]()
    for name, one in long:
        made, plan = _cut(one.detach(), name, kind, workers.size)
        owner, leaf = model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]
        stand_in = nn.Parameter(torch.empty(one.shape, device="meta"))  # whoever reckons with it gets an error
        stand_in.held = made  # type: ignore[attr-defined]
        owner.register_parameter(leaf, stand_in)
        held[name] = made
        plans.append(plan)
    model.add_module("sharded", nn.ModuleList(held.values()))
    try:
        yield "\n".join(plans)
    finally:
        del model.sharded
        for name, _ in long:
            owner, leaf = model.get_submodule(name.rpartition(".")[0]), name.rpartition(".")[2]
            owner.register_parameter(leaf, nn.Parameter(held[name].whole()))


def _cut(whole: Tensor, name: str, kind: str, workers: int) -> tuple[Held, str]:
    """Return a table in shards, and the plan that the planner made for it."""
    n, dim = whole.shape
    pieces = workers if kind == "table" else 1
    bounds = [n * piece // pieces for piece in range(pieces + 1)]
    collections = nn.ModuleDict()
    for piece in range(pieces):
        about = EmbeddingConfig(
            name=f"block{piece}",
            embedding_dim=dim,
            num_embeddings=bounds[piece + 1] - bounds[piece],
            feature_names=["rows"],
        )
        collections[str(piece)] = EmbeddingCollection(tables=[about], device=torch.device("meta"))
    limits = ParameterConstraints(sharding_types=[f"{kind}_wise"], min_partition=dim // workers)
    planner = EmbeddingShardingPlanner(
        topology=Topology(world_size=workers, compute_device="cpu"),
        constraints={f"block{piece}": limits for piece in range(pieces)},
    )
    sharder = EmbeddingCollectionSharder()
    group = distributed.group.WORLD
    assert group is not None
    plan = planner.collective_plan(collections, [sharder], group)
    blocks = []
    for piece in range(pieces):
        planned = plan.plan[str(piece)]
        one = planned[f"block{piece}"]
        one.compute_kernel = DENSE  # the planner knows fused ones alone
        owners = tuple(
            (shard.placement.rank(), shard.shard_offsets[1], shard.shard_offsets[1] + shard.shard_sizes[1])
            for shard in one.sharding_spec.shards
        )
        module = sharder.shard(
            collections[str(piece)], planned, ShardingEnv.from_process_group(group), torch.device("cpu")
        )
        blocks.append(Block(bounds[piece], bounds[piece + 1], module, owners))
    return Held(whole, blocks), f"{name} ({n:,} × {dim}), {kind}-wise\n{plan}"


def _shard(block: Block, values: Tensor) -> nn.Parameter:
    """Return a parameter over the memory of TorchRec's shard, with these values (n, D) and gradients that name rows."""
    lookups = block.module._lookups  # in a plain list: no public way leads to the memory of a shard
    every = (one for lookup in lookups for one in lookup.modules())
    (kernel,) = (one for one in every if isinstance(one, DenseTableBatchedEmbeddingBagsCodegen))
    mine = nn.Parameter(kernel.weights.data.view(values.shape))
    mine.data.copy_(values)
    mine.own = True  # type: ignore[attr-defined]  # no other worker has it: its gradient is whole as it is

    def take(flat: Tensor) -> None:
        assert flat.grad is not None
        gradient = flat.grad.view(values.shape)
        rows = gradient.any(dim=1).nonzero()[:, 0]
        mine.grad = torch.sparse_coo_tensor(
            rows[None], gradient[rows], gradient.shape, check_invariants=False, is_coalesced=True
        )
        flat.grad = None

    kernel.weights.register_post_accumulate_grad_hook(take)
    return mine
