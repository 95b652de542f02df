"""A check of what a checkpoint brings back: that an interruption leaves no trace."""

import tempfile
from dataclasses import replace

from bowerbird.recommender import Recommender, fit
from bowerbird.testing.halves import halves, known_users
from bowerbird.testing.subject import Subject, expect, expect_alike, promise, quiet, scores, trained
from bowerbird.training import Training


@promise("core/config.py, RunOptions.checkpoint", of=trained)
def resumes_as_if_never_interrupted(subject: Subject) -> None:
    """Interrupted and started again from its checkpoint, it ends as the same model to the last bit."""

    def stop(training: Training) -> None:
        raise KeyboardInterrupt

    with tempfile.TemporaryDirectory() as folder:
        run = replace(quiet(), checkpoint=folder)
        Recommender(subject.config, halves().train, run=run).learn(valid=halves().valid, on_epoch=stop)
        again = fit(halves(), subject.config, run=run)
    assert again.training is not None
    resumed = again.training.resumed_from
    expect(resumed == 1, f"Interrupted after epoch 1, it went on from epoch {resumed}.")
    mine, whole = scores(again.model, known_users()), scores(subject.fitted.model, known_users())
    expect_alike(mine, whole, "Resumed and uninterrupted", exactly=True)
