"""What is sent to the server and what it answers, as the schema of the API shows them."""

import base64
import json
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

from fastapi import Path
from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    StrictInt,
    StrictStr,
    ValidationError,
    WithJsonSchema,
    field_validator,
    model_validator,
)

from bowerbird.core.ids import MAX_ID_BYTES, clean
from bowerbird.store import catalogue
from bowerbird.store.log import MERGE, SLATE

MOST_PLACES, LONGEST_HISTORY, MOST_EXCLUDED = 1000, 10_000, 100_000
MOST_EVENTS, MOST_ROWS, MOST_AT_ONCE = 1000, 10_000, 100
LONGEST_TEXT = 4_000  # letters of what is searched for: encoders read no more
MOST_ARMS, MOST_METRICS = 10, 10  # of an experiment
MOST_KINDS = 255  # of event: their numbers are bytes
MOST_KEYS, LONGEST_KEY = 32, 100  # keys that a body may have, were they known or not; letters of one that is told
LARGEST = 2**63 - 1
BRANCHES = re.compile(r"int|str|constrained-.*|function-.*")  # which kind of id was tried: no part of the document


Id = (
    Annotated[StrictInt, Field(ge=-LARGEST, le=LARGEST)]
    | Annotated[StrictStr, Field(min_length=1, max_length=MAX_ID_BYTES), AfterValidator(clean)]
)
TAILS = ("/similar", "/data")  # of paths that mean something else than a document
PathId = Annotated[str, Path(min_length=1, max_length=MAX_ID_BYTES), AfterValidator(clean)]  # a URL knows texts only
Name = Annotated[str, Field(pattern="^[a-z0-9][a-z0-9_-]{0,63}$")]
Filter = Annotated[str, Field(max_length=4096)]
K = Annotated[int, Field(ge=1, le=MOST_PLACES)]


def first_wrong(error: ValidationError) -> dict[str, str]:
    """Return the place and the words of the first thing that is wrong with a row."""
    told = [(pointer(one["loc"]), one["msg"]) for one in error.errors()]
    place = told[0][0]
    says = [message for where, message in told if where == place][-1]  # of an id, what is wrong with the text
    return {"pointer": place, "detail": says.removeprefix("Value error, ")}


def pointer(place: Sequence[str | int]) -> str:
    """Return a place in the caller's document as a JSON pointer."""
    parts = [cut(str(part)) for part in place if not BRANCHES.fullmatch(str(part))]
    return "/" + "/".join(parts).encode(errors="replace").decode()  # half a character cannot be sent back


def reachable(id: str | int) -> str | int:
    """Return the id of a document; raises `ValueError` where no path would lead to it."""
    if str(id).endswith(TAILS):
        raise ValueError(f"a document's id does not end in {' or '.join(TAILS)}")
    return id


def cut(text: str) -> str:
    """Return a text that is short enough to be told."""
    return text if len(text) <= LONGEST_KEY else text[:LONGEST_KEY] + "…"


def _as_json(document: dict[str, Any]) -> dict[str, Any]:
    """Return a document that can be written down; raises `ValueError` for one with what JSON has no word for."""
    try:
        json.dumps(document, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError):
        raise ValueError("it holds what JSON cannot, such as NaN or half a character") from None
    return document


def _as_bytes(text: Any) -> bytes:
    """Return what base64 says; raises `ValueError` where it says nothing."""
    try:
        return base64.b64decode(text, validate=True)
    except (TypeError, ValueError):
        raise ValueError("it is no base64 (RFC 4648, section 4, with padding)") from None


class Strict(BaseModel):
    """A body in which an unknown key is a mistake."""

    model_config = ConfigDict(extra="forbid")

    @model_validator(mode="wrap")
    @classmethod
    def _few(cls, given: Any, handler: ModelWrapValidatorHandler["Strict"]) -> "Strict":
        if isinstance(given, dict) and len(given) > MOST_KEYS:  # each would be an error of its own
            raise ValueError(f"it has {len(given):,} keys; there are {len(cls.model_fields)}")
        return handler(given)


class Who(Strict):
    """Who is asking: a known user, someone with a session, a stranger with a history (oldest first), or nobody."""

    user_id: Id | None = None
    session_id: Id | None = None
    history: Annotated[list[Id], Field(fail_fast=True, max_length=LONGEST_HISTORY)] | None = None

    @model_validator(mode="after")
    def _one_of(self) -> "Who":
        given = [name for name in ("user_id", "session_id", "history") if getattr(self, name) is not None]
        if len(given) > 1:
            raise ValueError(f"{' and '.join(given)} are given together. Send one of them.")
        return self


class Asked(Who):
    """What is wanted, for whom."""

    scenario: Name | None = None
    k: K | None = None
    where: Filter | None = None
    exclude_items: Annotated[list[Id], Field(fail_fast=True, max_length=MOST_EXCLUDED)] = []
    diversity: Annotated[float, Field(ge=0, le=1)] | None = None
    exploration: Annotated[float, Field(ge=0, le=1)] | None = None
    explain: bool = False
    fields: Annotated[list[str], Field(fail_fast=True, max_length=100)] = []
    min_offset: Annotated[int, Field(ge=0, le=LARGEST)] | None = None
    timeout_ms: Annotated[float, Field(gt=0, le=30_000)] | None = None


class Batch(Strict):
    """One question for many known users."""

    user_ids: Annotated[list[Id], Field(fail_fast=True, min_length=1, max_length=MOST_AT_ONCE)]
    scenario: Name | None = None
    k: K | None = None
    where: Filter | None = None


class Ranking(Who):
    """A list to be put in order for somebody."""

    items: Annotated[list[Id], Field(fail_fast=True, min_length=1, max_length=MOST_PLACES)]
    scenario: Name | None = None
    explain: bool = False


class Seeds(Strict):
    """Items that the answer should be like, such as those in a cart."""

    items: Annotated[list[Id], Field(fail_fast=True, min_length=1, max_length=100)]
    k: K = 10
    where: Filter | None = None
    exclude_items: Annotated[list[Id], Field(fail_fast=True, max_length=MOST_EXCLUDED)] = []


class Search(Strict):
    """What is looked for among the contents of items: a text, a picture in base64, or both."""

    text: Annotated[str, Field(max_length=LONGEST_TEXT)] = ""
    image: Annotated[bytes, BeforeValidator(_as_bytes), WithJsonSchema({"type": "string", "format": "byte"})] | None = (
        None
    )
    k: K = 10
    where: Filter | None = None


class Why(Asked):
    """Where an item left the way to somebody's slate."""

    item_id: Id


class ReasonBody(BaseModel):
    """Why an item is there."""

    kind: str
    method: str
    text: str
    text_zh: str
    causes: list[dict[str, Any]]
    people: int | None


class ItemBody(BaseModel):
    """One place of a slate."""

    item_id: Id
    title: str | None
    position: int
    score: float
    sources: list[str]
    propensity: float
    reasons: list[ReasonBody]
    properties: dict[str, Any]


class ArmShown(BaseModel):
    """The experiment that an answer is part of, and the arm that it is of."""

    name: str
    arm: str


class SlateBody(BaseModel):
    """A slate, and how it came about."""

    request_id: str
    user_id: Id | None
    scenario: str | None
    model: str
    model_version: str | None
    policy: str
    rung: str
    fallback: list[str]
    stale: bool
    experiment: ArmShown | None
    unknown_items: int
    items: list[ItemBody]
    trace: list[dict[str, Any]]
    timings_ms: dict[str, float]


class WhyBody(BaseModel):
    """The stages that an item passed, up to the one that it left at."""

    item_id: Id
    shown: bool
    stages: list[dict[str, Any]]
    reasons: list[ReasonBody]
    without: list[dict[str, Any]] | None


class EventBody(Strict):
    """Something that somebody did."""

    event_id: Annotated[str, Field(min_length=1, max_length=MAX_ID_BYTES), AfterValidator(clean)]
    event: Annotated[str, Field(min_length=1, max_length=64)]
    item_id: Id
    user_id: Id | None = None
    session_id: Id | None = None
    weight: Annotated[float, Field(allow_inf_nan=False, ge=0, le=1e6)] = 1.0
    time: Annotated[int, Field(ge=0, le=LARGEST)] | None = None
    request_id: Annotated[str, Field(max_length=MAX_ID_BYTES)] | None = None
    position: Annotated[int, Field(ge=1, le=MOST_PLACES)] | None = None
    context: Annotated[dict[str, Any], AfterValidator(_as_json)] | None = None


class Events(Strict):
    """Events to keep; `ack` says whether the answer waits until they are on the disk."""

    events: Annotated[list[dict[str, Any]], Field(fail_fast=True, min_length=1, max_length=MOST_EVENTS)]
    ack: Literal["durable", "queued"] = "durable"


class Taken(BaseModel):
    """What became of events. `offset` is that after the last one kept: send it as `min_offset` to see their effect."""

    accepted: int
    duplicates: int
    rejected: list[dict[str, Any]]
    offset: int | None


class ItemDocument(Strict):
    """What is known of an item or a user."""

    properties: dict[str, Any] = {}
    available: bool = True
    expires: Annotated[int, Field(ge=0, le=LARGEST)] | None = None


class ItemPatch(Strict):
    """A change, merged into what is known (RFC 7396): null takes a property away."""

    properties: dict[str, Any] | None = None
    available: bool | None = None
    expires: Annotated[int, Field(ge=0, le=LARGEST)] | None = None


class Row(ItemDocument):
    """One document of a batch."""

    id: Annotated[Id, AfterValidator(reachable)]

    @property
    def stored(self) -> catalogue.Row:
        """What the catalogue keeps of it."""
        return self.id, self.properties, self.available, self.expires


class Rows(Strict):
    """Documents to keep; `whole` keeps all of them or none."""

    rows: Annotated[list[dict[str, Any]], Field(fail_fast=True, min_length=1, max_length=MOST_ROWS)]
    whole: bool = False


class Merge(Strict):
    """The session whose events become the user's."""

    session_id: Id


class EventTypeBody(Strict):
    """What one kind of event means."""

    name: Annotated[str, Field(min_length=1, max_length=64), AfterValidator(clean)]
    weight: Annotated[float, Field(allow_inf_nan=False, ge=0, le=1e6)] = 1.0
    sign: Literal["positive", "neutral", "negative"] = "positive"
    hides: bool = True
    phrase: Annotated[str, Field(min_length=1, max_length=64), AfterValidator(clean)] = "chose"

    @field_validator("name")
    @classmethod
    def _free(cls, name: str) -> str:
        if name in (SLATE, MERGE):
            raise ValueError(f"{name} is what the server calls events of its own")
        return name


class SchemaAsked(Strict):
    """The event types to be declared, all of them, each once."""

    events: Annotated[list[EventTypeBody], Field(fail_fast=True, max_length=MOST_KINDS)]

    @field_validator("events")
    @classmethod
    def _once(cls, events: list[EventTypeBody]) -> list[EventTypeBody]:
        names = [one.name for one in events]
        twice = [name for name in names if names.count(name) > 1]
        if twice:
            raise ValueError(f"{twice[0]} is declared twice")
        return events


Event = Annotated[str, Field(min_length=1, max_length=64), AfterValidator(clean)]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]


class ArmAsked(Strict):
    """One arm of an experiment: what of the scenario is otherwise in it."""

    name: Name
    share: Share
    changes: Annotated[dict[str, Any], AfterValidator(_as_json)] = {}


class MetricAsked(Strict):
    """What is compared: how often a user does something, or, with `once`, whether at all."""

    event: Event
    once: bool = False


class GuardrailAsked(MetricAsked):
    """What an arm may not do: lose more than a share of the control's mean, or let it rise by more than that."""

    worst_loss: Annotated[float, Field(ge=0, lt=1, allow_inf_nan=False)] | None = None
    worst_rise: Annotated[float, Field(ge=0, le=100, allow_inf_nan=False)] | None = None

    @model_validator(mode="after")
    def _one_of_both(self) -> "GuardrailAsked":
        if (self.worst_loss is None) is (self.worst_rise is None):
            raise ValueError("a guardrail has one of worst_loss and worst_rise")
        return self


class ExperimentAsked(Strict):
    """An experiment on the answers of a scenario. The first arm is the control."""

    name: Name
    scenario: Name = "default"
    arms: Annotated[list[ArmAsked], Field(fail_fast=True, min_length=2, max_length=MOST_ARMS)]
    metrics: Annotated[list[MetricAsked], Field(fail_fast=True, min_length=1, max_length=MOST_METRICS)]
    guardrails: Annotated[list[GuardrailAsked], Field(fail_fast=True, max_length=MOST_METRICS)] = []
    tightest_at: Annotated[int, Field(ge=10, le=10**9)] = 1000

    @field_validator("arms")
    @classmethod
    def _split(cls, arms: list[ArmAsked]) -> list[ArmAsked]:
        if len({one.name for one in arms}) < len(arms):
            raise ValueError("two arms have one name")
        total = sum(one.share for one in arms)
        if abs(total - 1) > 1e-6:
            raise ValueError(f"the shares of the arms sum to {total:g}; they must sum to 1")
        return arms

    @field_validator("metrics")
    @classmethod
    def _each_once(cls, metrics: list[MetricAsked]) -> list[MetricAsked]:
        if len({(one.event, one.once) for one in metrics}) < len(metrics):
            raise ValueError("a metric is named twice")
        return metrics


class JobAsked(Strict):
    """Work that takes longer than a request may."""

    kind: Literal["import", "export", "backup", "update"]
    what: Literal["items", "users", "events", "feedback", "orphans"] | None = None
    file: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")] | None = None


class ErasureAsked(Strict):
    """A person to be erased."""

    user_id: Id


class KeyAsked(Strict):
    """A key to be made."""

    name: Annotated[str, Field(min_length=1, max_length=64)]
    scopes: Annotated[list[Annotated[str, Field(max_length=64)]], Field(fail_fast=True, min_length=1, max_length=10)]
    expires: Annotated[int, Field(ge=0, le=LARGEST)] | None = None
    limit_per_s: Annotated[float, Field(gt=0, le=1e6)] | None = None
