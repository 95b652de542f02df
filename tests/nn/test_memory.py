"""What was read is found again, as far as it fits."""

import copy

import torch

from bowerbird.nn.memory import Memory, size_of


def history(*items: int) -> torch.Tensor:
    return torch.tensor(items)


def test_the_longest_part_that_was_read_is_recalled() -> None:
    memory = Memory()
    memory.keep(history(1, 2), None, "two", 10)
    memory.keep(history(1, 2, 3), None, "three", 10)
    assert memory.recall(history(1, 2, 3, 4), None) == "three"
    assert memory.recall(history(1, 2, 9), None) == "two"
    assert memory.recall(history(2, 1), None) is None
    assert memory.recall(history(1, 2, *range(20)), None) is None  # too much came since


def test_what_was_used_longest_ago_makes_room() -> None:
    memory = Memory(most_bytes=20)
    for n in (1, 2):
        memory.keep(history(n), None, n, 10)
    memory.recall(history(1), None)
    memory.keep(history(3), None, 3, 10)
    assert [memory.recall(history(n), None) for n in (1, 2, 3)] == [1, None, 3]
    memory.keep(history(3), None, "other", 20)
    assert (len(memory), memory.held) == (1, 20)


def test_a_copy_of_a_model_has_read_nothing() -> None:
    memory = Memory()
    memory.keep(history(1), None, 1, 10)
    assert len(copy.deepcopy(memory)) == 0
    memory.forget()
    assert (len(memory), memory.held) == (0, 0)


def test_times_are_part_of_a_history() -> None:
    memory = Memory()
    memory.keep(history(1), history(100), "then", 10)
    assert memory.recall(history(1), history(200)) is None
    assert memory.recall(history(1), history(100)) == "then"


def test_bytes_of_tensors() -> None:
    assert size_of(torch.zeros(3, 2), torch.zeros(1, dtype=torch.float64)) == 32
