"""What a browser would make of answers: markup is sent everywhere, and must not come back as a page."""

import re
from collections.abc import Iterator
from typing import Any
from urllib.parse import quote, urlsplit

import _breaking
from _attacks_shop import BODIES, Shop, path_of, picked, shop
from _breaking import Effort, Found

stages = _breaking.Stages()

MARKUP = [
    "<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "'-alert(1)-'", "javascript:alert(1)",
    "</title><svg onload=alert(1)>", "{{7*7}}", "${7*7}", "<!--", "\u2028<script>", "+ADw-script+AD4-",
    "<base href=//evil.example>", "%3Cscript%3E", "\r\nSet-Cookie: a=b", "\r\n\r\n<script>", "//evil.example",
    "/\\evil.example", "https://evil.example",
    "<?xml version='1.0'?><!DOCTYPE x [<!ENTITY e SYSTEM 'file:///etc/passwd'>]>",
]  # fmt: skip


HEADERS = (
    "authorization",
    "x-api-key",
    "if-match",
    "idempotency-key",
    "accept",
    "origin",
    "x-request-id",
    "user-agent",
)
PATHS = (
    "/", "/v1/", "/v1/items/", "/v1/users/", "/v1/lists/", "/v1/jobs/", "/v1/scenarios/", "/v1/recommendations/",
    "/static-offline-docs/", "/docs/",
)  # fmt: skip


def _marked(text: str) -> Iterator[tuple[str, str, Any, dict[str, str]]]:
    """Yield requests that carry a text wherever one fits."""
    quoted, header = quote(text, safe=""), text.encode("ascii", "ignore").decode().replace("\r\n", " ")
    for method, route in BODIES:
        yield method, path_of(route), {text: text}, {}
        yield method, path_of(route, item_id=text, user_id=text, document_id=text), text, {}
        yield (
            method,
            path_of(route),
            text.encode(),
            {"content-type": text.encode("ascii", "ignore").decode().replace("\r\n", " ")},
        )
    paths = (
        "/",
        "/v1/",
        "/v1/items/",
        "/v1/users/",
        "/v1/lists/",
        "/v1/jobs/",
        "/v1/scenarios/",
        "/v1/recommendations/",
        "/static-offline-docs/",
        "/docs/",
    )
    for path in paths:
        for tail in (quoted, f"{quoted}/", f"x?{quoted}={quoted}", f"{quoted}%2f..%2f"):
            yield "GET", path + tail, b"", {}
    header = text.encode("ascii", "ignore").decode().replace("\r\n", " ")
    for name in (
        "authorization",
        "x-api-key",
        "if-match",
        "idempotency-key",
        "accept",
        "origin",
        "x-request-id",
        "user-agent",
    ):
        yield "GET", "/v1/nothing/", b"", {name: header or "x"}
    yield "GET", f"/docs?{quoted}", b"", {}
    yield "GET", f"/v1/status/?{quoted}", b"", {}


def _page_faults(place: Shop) -> list[str]:
    """Return what is wrong with the pages of the documentation, of which all must come from this server."""
    faults = []
    for page in ("/docs", "/redoc", "/docs/oauth2-redirect"):
        html = place.ask("GET", page, headers={"authorization": ""}).body.decode()
        for found in re.findall(r"""(?:src|href|url)\s*[=:(]\s*["']?([^"'\s>)]+)""", html):
            if urlsplit(found).netloc:
                faults.append(f"{page} asks {found}")
            elif found.startswith("/") and place.ask("GET", found, headers={"authorization": ""}).status != 200:
                faults.append(f"{page} names {found}, which is not there")
        if not html.startswith("<!") and "<html" not in html:
            faults.append(f"{page} is no page: {html[:80]}")
    return faults


@stages("answers", "no answer is a page that holds what was sent; the pages that there are ask no other host", n=1_800)
def answers(effort: Effort) -> Found:
    """Send markup everywhere, and look at the types, headers and places of what comes back."""
    found = Found()
    with shop(effort.folder) as place:
        found.note(*_page_faults(place))
        for method, path, body, headers in picked(effort, [one for text in MARKUP for one in _marked(text)]):
            answer = place.ask(method, path, body, headers)
            kind, where = answer.headers.get("content-type", ""), answer.headers.get("location", "")
            faults = answer.faults()
            own = path.startswith(("/docs?", "/static-offline-docs/")) and answer.status == 200
            if answer.body and "json" not in kind and not kind.startswith("text/plain; version") and not own:
                faults.append(f"the answer is {kind!r}")
            if own and b"alert(1)" in answer.body:
                faults.append("a page holds what was sent")
            headed = [value for name, value in answer.headers.items() if name != "location"]
            if any("\n" in value or "\r" in value for value in [*headed, where]) or "evil" in str(headed):
                faults.append(f"a header holds what was sent: {answer.headers}")
            if urlsplit(where).netloc not in ("", "127.0.0.1") or where.startswith("//"):
                faults.append(f"it leads to {where}")
            found.note(*(f"{method} {path[:100]} {str(body)[:60]} {headers}: {fault}"[:400] for fault in faults))
            found.add("redirects", bool(where))
    return found
