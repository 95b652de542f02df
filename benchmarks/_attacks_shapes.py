"""Documents of odd shapes: what they cost each time the catalogue changes, and what answers hold of them."""

import time
from typing import Any

import numpy as np

import _breaking
from _attacks_input import tended
from _attacks_shop import Shop, shop
from _breaking import Effort, Found, Progress

stages = _breaking.Stages()

MOST_CPU_S, MOST_MB = 10.0, 32.0  # for one look at the catalogue, and for one answer
TEXTS = ["", "x", "x" * 20_000, "2020-01-01", "1e400", "NaN", "a|b", "\u202e", "i1"]
NUMBERS: list[Any] = [0, -1, 2**62, 2**64, 10**30, 1e308, 5e-324, 0.1, True, None]


class Shape:
    """How the documents of a batch look: the same for all, with names of their own or shared ones."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.rows, self.names = int(rng.choice([1, 30, 300, 600])), int(rng.choice([1, 5, 60, 250]))
        self.deep, self.long = int(rng.choice([0, 0, 1, 3, 12])), int(rng.choice([0, 1, 3, 30]))
        self.own, self.mixed = rng.random() < 0.5, rng.random() < 0.3
        self.lists = rng.random()

    def __str__(self) -> str:
        own = "of their own" if self.own else "that they share"
        return f"{self.rows} rows with {self.names} names {own}, {self.deep} deep, lists of {self.long}"

    def document(self, number: int) -> dict[str, Any]:
        """Return the properties of one row."""
        few = max(1, min(self.names, 20_000 // self.rows, 9_000 // (max(1, self.long) * (self.deep + 1))))
        return {f"p{number if self.own else ''}-{n}": self.value(number, self.deep) for n in range(few)}

    def value(self, number: int, deep: int) -> Any:
        """Return the value of a property, so deep."""
        if deep:
            inner = self.value(number, deep - 1)
            return [inner] if self.rng.random() < self.lists else {f"q{number if self.own else ''}": inner}
        if self.long and self.rng.random() < self.lists:
            return [self.one() for _ in range(self.long)]
        return self.one()

    def one(self) -> Any:
        """Return a number, or anything."""
        kinds = [*NUMBERS, *TEXTS, [], {}, [None], {"a": 1}, [[1]]] if self.mixed else NUMBERS
        return kinds[self.rng.integers(len(kinds))]


def shape_faults(place: Shop, shape: Shape, number: int) -> tuple[list[str], float, float]:
    """Return what goes wrong with documents of a shape, the seconds of a look at them, and the largest answer in MB."""
    rows = [{"id": f"s{number}-{n}", "properties": shape.document(n)} for n in range(shape.rows)]
    rows.append({"id": "i1", "properties": {"o": shape.value(number, 12), "title": TEXTS[number % len(TEXTS)]}})
    put = place.ask("POST", "/v1/items:batch", {"rows": rows})
    faults = put.faults() if put.status in (200, 413, 422) else [f"the batch was answered {put.status}"]
    began = time.process_time()
    faults += tended(place)
    took_s = time.process_time() - began
    fields = [*rows[0]["properties"], "o", "title"][-100:]  # type: ignore[misc]
    answers = [
        place.ask("POST", "/v1/recommendations", {"k": 1000, "fields": fields}),
        place.ask("POST", "/v1/recommendations", {"where": "item.title == 'x' or item.nothing == 1"}),
        place.ask("GET", "/v1/schema"),
    ]
    largest = max(len(one.body) for one in answers) / 1e6
    faults += [fault for one in answers for fault in one.faults()]
    faults += [f"a look took {took_s:.0f} s"] if took_s > MOST_CPU_S else []
    faults += [f"an answer had {largest:.0f} MB"] if largest > MOST_MB else []
    return faults, took_s, largest


@stages("shapes", "no document of any shape stops the catalogue, or makes answers without bounds", n=48)
def shapes(effort: Effort) -> Found:
    """Put documents of odd shapes, batch after batch, four of them into one catalogue."""
    found, step, slowest, largest = Found(), Progress(effort, "batches"), 0.0, 0.0
    number = 0
    while number < effort.n:
        with shop(effort.folder / f"{number}") as place:
            for _ in range(min(4, effort.n - number)):
                shape = Shape(effort.rng(number))
                faults, took_s, mb = shape_faults(place, shape, number)
                slowest, largest = max(slowest, took_s), max(largest, mb)
                found.note(*(f"batch {number}, {shape}: {fault}" for fault in faults))
                number += 1
                step(number)
    found.figures |= {"slowest_look_s": round(slowest, 2), "largest_answer_mb": round(largest, 1)}
    return found
