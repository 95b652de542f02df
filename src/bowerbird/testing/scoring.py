"""Checks of scoring: that scores depend on the request and the item alone, and survive growth and the disk."""

import tempfile

import numpy as np
import torch

from bowerbird.features import Context, VectorRetriever
from bowerbird.recommender import load
from bowerbird.testing.halves import halves, known_users, strangers
from bowerbird.testing.subject import Subject, expect, expect_alike, promise, retriever, scores

ASKING = {"Known users": known_users, "Strangers": strangers}


@promise("features/contracts.py, Retriever.scores", of=retriever)
def scores_singly_as_in_batches(subject: Subject) -> None:
    """A request gets the same scores alone and among others."""
    model = subject.fitted.model
    for who, asking in ASKING.items():
        context = asking()
        singly = torch.cat([scores(model, context.take(torch.tensor([row]))) for row in range(len(context))])
        expect_alike(scores(model, context), singly, f"{who}, among others and alone")


@promise("features/contracts.py, Retriever.scores", of=retriever)
def scores_listed_items_as_all(subject: Subject) -> None:
    """A list of items, shared or one for each request, in any order and with repeats, is scored as all items are."""
    model = subject.fitted.model
    for who, asking in ASKING.items():
        context = asking()
        whole = scores(model, context)
        shared = torch.tensor([5, 0, 5, 31])
        own = torch.arange(3 * len(context)).reshape(-1, 3) % whole.shape[1]
        expect_alike(scores(model, context, shared), whole[:, shared], f"{who}, items (n,) and all")
        expect_alike(scores(model, context, own), whole.gather(1, own), f"{who}, items (B, n) and all")


@promise("features/contracts.py, Retriever.scores", of=retriever)
def gives_scores_away(subject: Subject) -> None:
    """The scores are the caller's to overwrite: the next answer is as the first was."""
    model = subject.fitted.model
    for items, what in ((None, "all items"), (torch.tensor([1, 2, 3]), "three items")):
        first = scores(model, known_users(), items)
        kept = first.clone()
        first.fill_(-torch.inf)
        expect_alike(scores(model, known_users(), items), kept, f"Overwritten scores of {what}", exactly=True)


@promise("features/contracts.py, Retriever.scores", of=retriever)
def scores_are_numbers(subject: Subject) -> None:
    """A score is a number or minus infinity, whatever the history: short, repeated, or everything there is."""
    model = subject.fitted.model
    n_items = halves().train.n_items
    odd = Context.of_histories([[0], [1, 1, 1], range(n_items), [n_items - 1, 0]])
    for who, context in (("Known users", known_users()), ("Strangers", strangers()), ("Odd histories", odd)):
        found = scores(model, context)[model.can(context)]
        expect(found.is_floating_point(), f"{who}: scores are {found.dtype}.")
        wrong = found.isnan() | (found == torch.inf)
        expect(not bool(wrong.any()), f"{who}: {int(wrong.sum()):,} of {wrong.numel():,} are NaN or plus infinity.")


@promise("features/contracts.py, Retriever.can", of=retriever)
def can_means_what_it_says(subject: Subject) -> None:
    """`can` is bool (B,), a matter of each request alone, and who is accepted has at least one item with a score."""
    model = subject.fitted.model
    mixed, seeds = Context.of_histories([[0, 2], [], [1]]), Context.of_seeds([[0], [1, 3]])
    asking = {"known users": known_users(), "strangers": strangers(), "people of all kinds": mixed, "seeds": seeds}
    for who, context in asking.items():
        can = model.can(context)
        shape = f"{can.dtype} {tuple(can.shape)}"
        expect(can.dtype == torch.bool and can.shape == (len(context),), f"For {len(context)} {who} it is {shape}.")
        for row in range(len(context)):
            alone = bool(model.can(context.take(torch.tensor([row])))[0])
            expect(alone == bool(can[row]), f"Request {row} of {who}: {bool(can[row])} among others, {alone} alone.")
        empty = int((~scores(model, context).isfinite().any(dim=1) & can).sum()) if bool(can.any()) else 0
        expect(empty == 0, f"{empty} of {len(context)} {who} are accepted and get no score at all.")


@promise("features/contracts.py, VectorRetriever", of=retriever)
def scores_by_its_vectors(subject: Subject) -> None:
    """It has both query and item_vectors and scores by their dot product, as an approximate index will, or neither."""
    model = subject.fitted.model
    has = [name for name in ("query", "item_vectors") if hasattr(model, name)]
    expect(len(has) != 1, f"It has {has[0] if has else ''} alone.")
    if isinstance(model, VectorRetriever):
        with torch.no_grad():
            product = model.query(known_users()) @ model.item_vectors().T
        expect_alike(product, scores(model, known_users()), "Dot product and score")


@promise("features/contracts.py, Retriever.grow", of=retriever)
def grows(subject: Subject) -> None:
    """With three more users and two more items, old scores are the same to the last bit and new ones are no NaN."""
    past = subject.past
    model = subject.untrained(past.schema)
    model.load_state_dict(subject.fitted.model.state_dict())
    before = scores(model, known_users())
    model.grow(past.n_users + 3, past.n_items + 2)
    after = scores(model, known_users())
    wide = (past.n_users, past.n_items + 2)
    expect(after.shape == wide, f"Scores are {tuple(after.shape)}; {wide} is needed.")
    expect_alike(after[:, : past.n_items], before, "Grown and before", exactly=True)
    newcomers = Context.of_users(np.arange(past.n_users + 3, dtype=np.int32), past)
    found = scores(model, newcomers)[model.can(newcomers)]
    expect(not bool(found.isnan().any()), f"{int(found.isnan().sum()):,} scores are NaN.")


@promise("recommender/recommender.py, Recommender.save", of=retriever)
def survives_save_and_load(subject: Subject) -> None:
    """Saved and loaded, it has its name, its configuration and the same scores to the last bit: all is in buffers."""
    rec = subject.fitted
    with tempfile.TemporaryDirectory() as folder:
        rec.save(folder)
        again = load(folder, options=rec.run)
    expect(again.name == rec.name, f"{rec.name} came back as {again.name}.")
    expect(again.config == rec.config, f"{rec.config} came back as {again.config}.")
    for who, asking in ASKING.items():
        expect_alike(
            scores(again.model, asking()), scores(rec.model, asking()), f"{who}, loaded and saved", exactly=True
        )
