"""Ids of every kind, and questions for what must not be shown."""

import json
import unicodedata
from typing import Any
from urllib.parse import quote

import numpy as np

import _breaking
from _attacks_input import sound, tended
from _attacks_shop import EVENT, Answer, Clock, Shop, shop
from _breaking import Effort, Found, Progress

stages = _breaking.Stages()

# ── ids ───────────────────────────────────────────────────────────────────────────────────────────────────────────

ODD: list[str] = [
    "x", "X", "0", "7", "07", "-1", "+1", "1e5", "1.0", "9" * 19, "9" * 40, "\u0660", "\uff11", "null", "true",
    "undefined", "..", ".", "../../etc/passwd", "a/b", "/", "//", "a//b", "a/", "\\", "%2e%2e", "%", "%00", "%zz",
    "+", "a b", " ", "  x  ", "?", "#", "a?b=c", "&", ";", ":", "a:batch", "x:merge", "similar", "x/similar",
    "x/data", "data", "a:similar", "*", "~", "'", '"', "`", "'; DROP TABLE documents;--", "{{7*7}}", "${7*7}",
    "<script>alert(1)</script>", "__proto__", "constructor", "=1+1", "@SUM(A1)", "-2+3", "é", "e\u0301", "\u212b",
    "\u00c5", "A\u030a", "ﬁ", "\u1e9b\u0323", "\u0344", "\uac00", "\u1100\u1161", "\u202eabc", "\u200b", "\u200d",
    "\ufeff", "\ufffd", "\uffff", "\U0010ffff", "\ue000", "🐦", "👩‍👩‍👧‍👦", "🐦" * 64, "🐦" * 65, "x" * 255,
    "x" * 256, "x" * 257, "é" * 128, "é" * 129, "e\u0301" * 128, "e\u0301" * 129, "x" * 5_000, "", "\x00", "\n", "\t",
    "a\x00b", "\x7f", "\x85", "\x9f", "\u2028", "\r\nSet-Cookie: a=b", "\ud800", "a\udfff", "日本語", "שלום", "i1",
    "u1", "I1", "i1 ", "ı", "ß", "ẞ", "ﷺ", "\u0130", "σς", "Ⅷ", "①", "\u00a0", "\u3000", "none", "session", "-",
]  # fmt: skip


def valid(text: str) -> bool:
    """Return whether a text may be an id, by the words of the page."""
    kept = unicodedata.normalize("NFC", text)
    if any(unicodedata.category(letter) in ("Cc", "Cs") for letter in kept):
        return False
    return 1 <= len(kept.encode()) <= 256 and len(text) <= 256


def made_up(rng: np.random.Generator) -> str:
    """Return an id of letters from everywhere, or one of the odd ones, alone or joined."""
    if rng.random() < 0.6:
        return "".join(ODD[rng.integers(len(ODD))] for _ in range(rng.choice([1, 1, 1, 2])))
    tops = [0x7F, 0x7F, 0x2FF, 0xFFFF, 0x10FFFF]
    text = "".join(chr(rng.integers(0, tops[rng.integers(len(tops))] + 1)) for _ in range(rng.integers(1, 12)))
    return str(json.loads(json.dumps(text)))  # halves that fit together are one character to JSON


def _quoted(text: str) -> str:
    return quote(text, safe="", errors="surrogatepass")


def document_faults(place: Shop, kind: str, text: str, number: int) -> list[str]:
    """Return what is wrong with how a document under an id is put, got, listed and taken away."""
    path, kept = f"/v1/{kind}/{_quoted(text)}", unicodedata.normalize("NFC", text)
    reachable = valid(text) and not kept.endswith(("/similar", "/data"))
    put = place.ask("PUT", path, {"properties": {"mark": number}})
    row = place.ask("POST", f"/v1/{kind}:batch", {"rows": [{"id": text, "properties": {"mark": number}}]})
    faults = [*put.faults(), *row.faults()]
    if not reachable:
        taken = put.status < 300 or (row.status == 200 and row.json()["kept"])
        return [*faults, f"it was kept: {put.status}, {row.body[:100]!r}"] if taken else faults
    if put.status not in (200, 201) or row.status != 200 or row.json()["kept"] != 1 or row.json()["created"]:
        return [*faults, f"it was not kept: {put.status}, {row.status} {row.body[:200]!r}"]
    for form in ("NFC", "NFD"):
        if len(spelt := unicodedata.normalize(form, text)) <= 256 and valid(spelt):
            got = place.ask("GET", f"/v1/{kind}/{_quoted(spelt)}")
            if got.status != 200 or got.json()["id"] != kept or got.json()["properties"].get("mark") != number:
                faults.append(f"as {form} it came back as {got.status} {got.body[:200]!r}")
    listed = place.ask("GET", f"/v1/{kind}?limit=1000")
    if [one["id"] for one in listed.json()[kind]].count(kept) != 1:
        faults.append("it is not once in the list")
    gone = place.ask("DELETE", path).status, place.ask("GET", path).status
    return faults if gone == (204, 404) else [*faults, f"taken away it answers {gone}"]


def event_faults(place: Shop, text: str, number: int) -> list[str]:
    """Return what is wrong with how an event of a user under an id is kept, told and taken back."""
    kept, name = unicodedata.normalize("NFC", text), unicodedata.normalize("NFC", f"{text}-{number}")
    one = EVENT | {"event_id": f"{text}-{number}", "user_id": text}
    put = place.ask("POST", "/v1/events", {"events": [one]})
    right = valid(text) and valid(f"{text}-{number}")
    if put.status != 200 or put.json()["accepted"] != right:
        return [*put.faults(), f"an event answers {put.status} {put.body[:200]!r}"]
    asked = place.ask("POST", "/v1/recommendations", {"user_id": text, "k": 3})
    if asked.status != (200 if valid(text) else 422):
        return [*asked.faults(), f"a list for this user answers {asked.status}"]
    if not right:
        return []
    told = place.ask("GET", f"/v1/events?limit=1000&event=interaction&user_id={_quoted(text)}").json()["events"]
    if [(row["event_id"], row["user_id"]) for row in told] != [(name, kept)]:
        return [f"the events of this user are {told}"[:300]]
    faults = [] if asked.json()["user_id"] == kept else [f"the list is for {asked.json()['user_id']!r}"]
    held = place.ask("GET", f"/v1/users/{_quoted(text)}/data")
    if held.status != 200 or len([row for row in held.json()["events"] if row["event_id"] == name]) != 1:
        faults.append(f"what is held on this user is {held.status} {held.body[:200]!r}")
    place.ask("DELETE", f"/v1/events/{_quoted(name)}")
    left = place.ask("GET", f"/v1/events?limit=1000&event=interaction&user_id={_quoted(text)}").json()["events"]
    return [*faults, f"taken back, {left} is left"] if left else faults


@stages("ids", "an id is kept and told as it is, in composed form, or refused; two spellings are one id", n=2_500)
def ids(effort: Effort) -> Found:
    """Use texts from everywhere as ids of items, users and events."""
    found, step = Found(), Progress(effort, "ids")
    with shop(effort.folder) as place:
        for number in range(effort.n):
            text = ODD[number] if number < len(ODD) and effort.n >= len(ODD) else made_up(effort.rng(number))
            faults = document_faults(place, ("items", "users")[number % 2], text, number)
            faults += event_faults(place, text, number)
            if number % 50 == 0 or number == effort.n - 1:
                faults += tended(place) + sound(place)
            found.note(*(f"id {number} {text[:60]!a}: {fault}" for fault in faults))
            found.add("valid" if valid(text) else "refused", 1)
            step(number)
    return found


# ── questions ─────────────────────────────────────────────────────────────────────────────────────────────────────


class Hidden:
    """Items that must not be shown, as this side knows it."""

    def __init__(self, place: Shop, clock: Clock) -> None:
        self.place, self.clock = place, clock
        self.gone: dict[str, str] = {}  # item → why nobody may see it
        self.seen: dict[str, set[str]] = {}  # user → what they chose since

    def change(self, rng: np.random.Generator, number: int) -> None:
        """Hide an item in some way, or bring one back."""
        item = f"i{rng.integers(40)}" if rng.random() < 0.7 else f"n{rng.integers(10)}"
        way = rng.choice(["delete", "unavailable", "expired", "will expire", "back"], p=[0.15, 0.15, 0.1, 0.1, 0.5])
        path = f"/v1/items/{item}"
        if way == "delete":
            self.place.ask("DELETE", path)
            self.gone[item] = "deleted"
        elif way == "unavailable":
            self.place.ask("PUT", path, {"available": False})
            self.gone[item] = "unavailable"
        elif way == "back":
            self.place.ask("PUT", path, {"properties": {"title": item, "published_at": self.clock.at - number}})
            self.gone.pop(item, None)
        else:
            self.place.ask("PUT", path, {"expires": self.clock.at - 1 if way == "expired" else self.clock.at + 5})
            self.clock.at += 0 if way == "expired" else 5
            self.gone[item] = str(way)
            self.place.engine.view.expire(self.clock.at)  # what the keeper does when time goes on

    def choose(self, rng: np.random.Generator, number: int) -> None:
        """Let somebody choose an item, which hides it from them."""
        user, item = self.somebody(rng), f"i{rng.integers(40)}"
        event = EVENT | {"event_id": f"e{number}", "user_id": user, "item_id": item}
        if self.place.ask("POST", "/v1/events", {"events": [event]}).json()["accepted"]:
            self.seen.setdefault(user, set()).add(item)

    @staticmethod
    def somebody(rng: np.random.Generator) -> str:
        """Return a user, known or not."""
        return f"u{rng.integers(60)}" if rng.random() < 0.7 else f"stranger {rng.integers(5)}"


KS: list[Any] = [1, 3, 10, 40, 1000, 0, -1, 10**9, 2**63, 1.5, "3", None, True]
WHERES = [
    None,
    None,
    "item.kind == 'even'",
    "item.title == 'nothing has this title'",
    "not seen()",
    "item.nothing == 1",
]


def question(rng: np.random.Generator, somebody: str) -> tuple[str, dict[str, Any]]:
    """Return a route and a body that asks for items."""
    k, where = KS[rng.integers(len(KS))], WHERES[rng.integers(len(WHERES))]
    ids = [f"i{n}" for n in rng.permutation(40)[: rng.integers(1, 40)]] + ["n1", "never there"]
    excluded = [ids[: rng.integers(20)], [f"x{n}" for n in range(rng.choice([3, 50_000, 100_000, 100_001]))] + ids]
    who = [{"user_id": somebody}, {}, {"history": ids[:5]}, {"session_id": "s1"}, {"user_id": somebody, "history": ids}]
    asked: dict[str, Any] = {"k": k, "exclude_items": excluded[int(rng.random() < 0.05)]} | who[rng.integers(len(who))]
    asked |= {"where": where} if where else {}
    scenarios = ["default", "goods", "news", "video", "music", "nothing"]
    asked |= {"scenario": scenarios[rng.integers(len(scenarios))]} if rng.random() < 0.5 else {}
    asked |= {"diversity": float(rng.choice([0, 0.5, 1, 2])), "timeout_ms": 0.01} if rng.random() < 0.1 else {}
    asked |= {"explain": True, "fields": ["title"]} if rng.random() < 0.2 else {}
    few = {key: asked[key] for key in ("k", "where") if key in asked and asked[key] is not None}
    routes: list[tuple[str, dict[str, Any]]] = [
        ("/v1/recommendations", asked), ("/v1/recommendations", asked), ("/v1/recommendations", asked),
        ("/v1/rankings", {"items": ids} | {key: asked[key] for key in ("user_id", "history") if key in asked}),
        ("/v1/items:similar", few | {"items": ids[:3], "exclude_items": asked["exclude_items"]}),
        ("/v1/lists/popular", few), ("/v1/lists/latest", few), ("/v1/lists/trending", few),
    ]  # fmt: skip
    return routes[rng.integers(len(routes))]


def leaks(answer: Answer, asked: dict[str, Any], hidden: Hidden) -> list[str]:
    """Return which items of an answer must not be there."""
    items = [one["item_id"] for one in answer.json()["items"]]
    banned = dict(hidden.gone) | dict.fromkeys(asked.get("exclude_items", ()), "excluded")
    if "items" not in asked and asked.get("user_id") and "scenario" not in asked and "history" not in asked:
        banned |= dict.fromkeys(hidden.seen.get(asked["user_id"], ()), "seen")
    faults = [f"{item} is {banned[item]} and was shown" for item in items if item in banned]
    if len(set(items)) < len(items):
        faults.append("an item is there twice")
    if isinstance(asked.get("k"), int) and len(items) > asked["k"]:
        faults.append(f"{len(items)} items for k {asked['k']}")
    where = asked.get("where") or ""
    if items and (
        "nothing" in where or ("even" in where and any(int(item[1:]) % 2 for item in items if item[0] == "i"))
    ):
        faults.append(f"{where} did not hold for {items[:5]}")
    return faults


@stages("questions", "no question is answered with 5xx, or with an item that is hidden, excluded or filtered", n=4_000)
def questions(effort: Effort) -> Found:
    """Ask all sorts of things while items go, come back and are chosen."""
    found, clock, step = Found(), Clock(), Progress(effort, "questions")
    found.figures["leaks"] = 0
    with shop(effort.folder, world=clock) as place:
        hidden = Hidden(place, clock)
        for number in range(effort.n):
            rng = effort.rng(number)
            hidden.change(rng, number)
            hidden.choose(rng, number)
            route, asked = question(rng, hidden.somebody(rng))
            if route.startswith("/v1/lists"):
                query = "&".join(f"{key}={_quoted(str(value))}" for key, value in asked.items())
                answer = place.ask("GET", f"{route}?{query}")
            else:
                answer = place.ask("POST", route, asked)
            faults = answer.faults()
            if answer.status == 200:
                found.add("items", len(answer.json()["items"]))
                shown = leaks(answer, asked, hidden)
                found.add("leaks", len(shown))
                faults += shown
            elif answer.status not in (404, 422):
                faults.append(f"answered {answer.status}")
            found.note(*(f"question {number} {route} {str(asked)[:200]}: {fault}" for fault in faults))
            found.add("answered" if answer.status == 200 else "refused", 1)
            if number % 20 == 0:
                tended(place)
            step(number)
    return found
