"""The console in a real browser: each page and one task on it, keys, bad titles, the keyboard alone, both languages.

    make test-browser

It also takes the pictures of docs/assets, of made titles. Its name keeps it out of `make test`, which has no browser.
"""

import io
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
from bower import HOSTILE, ROOT, Running, free_port, settled
from PIL import Image

ASSETS = ROOT / "docs" / "assets"
LARGEST = 150_000  # bytes of a picture
Visit = Callable[..., Any]
NAMES = {
    "": ("Home", "首页"), "try": ("Try it", "试一试"), "pipeline": ("Pipeline", "流程"), "quality": ("Quality", "质量"),
    "choose": ("Choose a model", "选择模型"), "map": ("Map", "地图"), "versions": ("Versions", "版本"),
}  # fmt: skip


def shoot(page: Any, name: str) -> None:
    """Take a picture for the documents."""
    page.wait_for_timeout(400)  # charts are drawn in the next frames
    with Image.open(io.BytesIO(page.screenshot())) as picture:
        picture.quantize(192, dither=Image.Dither.NONE).save(ASSETS / f"console-{name}.png", optimize=True)
    assert (ASSETS / f"console-{name}.png").stat().st_size < LARGEST


def text_of(page: Any) -> str:
    found: str = page.inner_text("#content")
    return found


# ── each page, and one task on it ─────────────────────────────────────────────────────────────────────────────────────


def test_home_counts_what_is_asked(shop: str, visit: Visit) -> None:
    page = visit(f"{shop}/console/")
    for user in range(8):
        slate = httpx.post(f"{shop}/v1/recommendations", json={"user_id": f"u{user}"}).json()
    click = {"event_id": "home-1", "event": "interaction", "user_id": "u7", "item_id": slate["items"][0]["item_id"]}
    httpx.post(f"{shop}/v1/events", json={"events": [click | {"request_id": slate["request_id"]}]})
    page.wait_for_function("/[1-9] of [0-9]+ lists, 95 % interval/.test(document.querySelector('#content').innerText)")
    page.wait_for_function("/p99 of lists\\s+[0-9.]+ ms/.test(document.querySelector('#content').innerText)")
    assert "Nothing is wrong that the server can see." in text_of(page)
    shoot(page, "home")


def test_a_click_changes_the_list_and_says_how_fast(shop: str, visit: Visit) -> None:
    page = visit(f"{shop}/console/try")
    before = page.locator(".bb-list > li .bb-title").all_inner_texts()
    page.locator(".bb-list button").first.click()
    page.wait_for_function("/Stored in [0-9]+ ms/.test(document.querySelector('#content').innerText)")
    stored, all_of_it = map(int, re.findall(r"(\d+) ms", page.locator('[data-said="effect"]').inner_text()))
    assert stored <= all_of_it <= 500
    after = page.locator(".bb-list > li .bb-title").all_inner_texts()
    assert before[0] not in after
    assert f"because you chose {before[0]}" in text_of(page)
    assert f"因为你选择过《{before[0]}》" in text_of(page)
    page.locator(".bb-list button").nth(2).click()
    page.get_by_text("Take the last choice back").wait_for()
    shoot(page, "try")
    for _ in range(2):
        page.get_by_text("Take the last choice back").click()
        settled(page)
    page.wait_for_function(f"document.querySelector('.bb-list .bb-title').innerText === {before[0]!r}")


def test_sliders_change_what_is_shown(shop: str, visit: Visit) -> None:
    page = visit(f"{shop}/console/try")
    page.get_by_text("A person", exact=True).click()
    page.get_by_label("Id of a person").fill("u3")
    page.keyboard.press("Enter")
    page.wait_for_function("/Answered by the model/.test(document.querySelector('#content').innerText)")
    page.get_by_label("Exploration").locator("[tabindex='0']").focus()
    for _ in range(9):
        page.keyboard.press("ArrowRight")
    page.locator(".bb-mark", has_text="drawn").first.wait_for()


def test_the_pipeline_says_why_not(shop: str, visit: Visit) -> None:
    page = visit(f"{shop}/console/pipeline")
    assert {"filters", "sources", "re-ranking", "slate"} <= set(page.locator("td").all_inner_texts())
    shoot(page, "pipeline")
    user = page.get_by_label("Id of a person").input_value()
    past = httpx.get(f"{shop}/v1/users/{user}/data").json()["trained_on"][0]["item_id"]
    page.get_by_label("or its id").fill(past)
    page.get_by_role("button", name="Ask").click()
    page.wait_for_function(
        "/It is not in the list: it left at “filters”/.test(document.querySelector('#content').innerText)"
    )
    shown = httpx.post(f"{shop}/v1/recommendations", json={"user_id": user}).json()["items"][0]["item_id"]
    page.get_by_label("or its id").fill(shown)
    page.get_by_role("button", name="Ask").click()
    page.get_by_text("It is in the list.").wait_for()
    assert "Why the model scores it so" in text_of(page)
    page.get_by_label("or its id").fill("nothing-like-that")
    page.keyboard.press("Enter")
    page.get_by_text("no item has the id").wait_for()


def test_quality_has_intervals_and_calibration(shop: str, visit: Visit) -> None:
    page = visit(f"{shop}/console/quality")
    shown = text_of(page)
    assert all(one in shown for one in ("ndcg@10", "By how much past people have", "Calibration", "Popularity"))
    page.get_by_label("Version").click()
    page.get_by_role("option", name="fm").click()
    page.locator("th", has_text="predicted").wait_for(state="attached")
    page.wait_for_function("document.querySelectorAll('canvas').length >= 6")
    page.set_viewport_size({"width": 1200, "height": 1150})
    page.evaluate("window.scrollTo(0, 0)")
    shoot(page, "quality")
    page.locator("summary").first.click()
    assert re.search(r"0\.\d{4} – 0\.\d{4}", text_of(page))


def test_the_choice_of_a_model_is_drawn_once_there_is_a_race(
    hostile: tuple[str, dict[str, str], Path], visit: Visit, selection: str
) -> None:
    base, keys, run = hostile
    page = signed_in(visit, base, keys["admin"], "choose")
    assert "bowerbird select DATA" in text_of(page)
    (run / "select.json").write_text(selection)
    page.reload()
    settled(page)
    assert "Take itemknn" in text_of(page)
    page.get_by_text("milliseconds a request").first.click()
    page.locator("canvas").wait_for()
    shoot(page, "choose")
    (run / "select.json").write_text("[]")
    page.reload()
    settled(page)
    assert "is no report of" in text_of(page)


def test_the_map_finds_an_item_and_what_is_like_it(shop: str, visit: Visit) -> None:
    page = visit(f"{shop}/console/map")
    page.get_by_label("Find an item").fill("Blue Lantern")
    page.get_by_role("option", name="Blue Lantern").click()
    page.get_by_text("Closest to Blue Lantern").wait_for()
    assert page.locator(".bb-list > li").count() == 10
    page.keyboard.press("Escape")
    page.mouse.wheel(0, -5000)
    shoot(page, "map")


def test_a_version_is_promoted_and_rolled_back_by_its_name(shop: str, visit: Visit) -> None:
    page = visit(f"{shop}/console/versions")
    shoot(page, "versions")
    page.get_by_role("button", name="Promote version 000002").click()
    sure = page.get_by_role("button", name="Confirm")
    assert sure.is_disabled()
    page.get_by_role("textbox", name="Version").fill("000002")
    sure.click()
    page.get_by_text("Version 000002 answers now.").first.wait_for()
    assert httpx.get(f"{shop}/v1/models").json()["in_use"] == "000002"
    page.get_by_role("button", name="Promote version 000003").click()
    page.get_by_role("textbox", name="Version").fill("000003")
    page.get_by_role("button", name="Confirm").click()
    page.get_by_text("Version 000003 answers now.").first.wait_for()
    page.get_by_role("button", name="Make a backup").click()
    page.locator(".bb-mark", has_text="done").wait_for()
    assert "backup" in text_of(page)


# ── both languages, by keyboard, in a process of its own ──────────────────────────────────────────────────────────────


@pytest.mark.parametrize("path", NAMES)
def test_every_page_speaks_chinese_in_the_dark(shop: str, visit: Visit, path: str) -> None:
    page = visit(f"{shop}/console/{path}", spoken="zh", shade="dark")
    assert page.inner_text("h1") == NAMES[path][1]
    assert page.evaluate("document.documentElement.lang") == "zh"
    said = page.inner_text("nav") + page.inner_text("h1") + "".join(page.locator("h2").all_inner_texts())
    assert not re.search(r"[A-Za-z]{3,}", said)
    if path == "try":
        shoot(page, "try-zh")


def test_all_of_it_works_by_keyboard_alone(apart: str, visit: Visit) -> None:
    page = visit(f"{apart}/console/")
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.innerText") == "Skip to the content"
    press_until(page, "Try it")
    page.keyboard.press("Enter")
    page.wait_for_url("**/try")
    settled(page)
    first = page.locator(".bb-list .bb-title").first.inner_text()
    press_until(page, f"Choose {first}")
    page.keyboard.press("Enter")
    page.wait_for_function("/Stored in [0-9]+ ms/.test(document.querySelector('#content').innerText)")
    assert first not in page.locator(".bb-list .bb-title").all_inner_texts()


def press_until(page: Any, name: str) -> None:
    """Press Tab until what has this name is reached."""
    for _ in range(60):
        page.keyboard.press("Tab")
        found = page.evaluate("document.activeElement.getAttribute('aria-label') || document.activeElement.innerText")
        if found == name:
            return
    raise AssertionError(f"{name} is not reached by Tab")


@pytest.mark.parametrize("path", NAMES)
def test_a_page_is_there_within_two_seconds(apart: str, visit: Visit, path: str) -> None:
    page = visit(f"{apart}/console/{path}")
    assert page.evaluate("performance.now()") < 2_000


# ── keys, bad titles, and a server that is gone ───────────────────────────────────────────────────────────────────────


def signed_in(visit: Visit, base: str, key: str, path: str = "") -> Any:
    page = visit(f"{base}/console/login")
    page.get_by_label("Key").fill(key)
    page.keyboard.press("Enter")
    page.wait_for_url("**/console/")
    page.goto(f"{base}/console/{path}")
    settled(page)
    return page


def test_a_key_is_asked_for_and_its_scopes_hold(hostile: tuple[str, dict[str, str], Path], visit: Visit) -> None:
    base, keys, _ = hostile
    page = visit(f"{base}/console/")
    assert "This server asks for a key" in text_of(page)
    page.goto(f"{base}/console/login")
    page.get_by_label("Key").fill("bb_wrong")
    page.keyboard.press("Enter")
    page.get_by_text("That is no key of this server.").wait_for()
    page = signed_in(visit, base, keys["shop"])
    assert "Your key may not see this" in text_of(page)
    assert "models:read" in text_of(page)
    page.goto(f"{base}/console/try")
    settled(page)
    assert page.locator(".bb-list > li").count() == 10
    [cookie] = [one for one in page.context.cookies() if one["name"] == "bowerbird_console"]
    assert cookie["httpOnly"]
    assert cookie["sameSite"] == "Strict"
    assert keys["shop"] not in cookie["value"]
    assert keys["shop"] not in page.content()
    page.get_by_role("button", name="Sign out").click()
    page.wait_for_url("**/login")
    page.goto(f"{base}/console/try")
    settled(page)
    assert "This server asks for a key" in text_of(page)


@pytest.mark.parametrize("path", ["try", "pipeline", "map", "quality"])
def test_titles_are_texts_whatever_they_are(hostile: tuple[str, dict[str, str], Path], visit: Visit, path: str) -> None:
    base, keys, _ = hostile
    page = signed_in(visit, base, keys["admin"], path)
    if path == "try":
        shown = page.locator(".bb-list .bb-title").all_text_contents()
        assert {one.strip() for one in HOSTILE} & {one.strip() for one in shown} == {one.strip() for one in HOSTILE}
        page.locator(".bb-list button").first.click()
        page.wait_for_function("/Stored in [0-9]+ ms/.test(document.querySelector('#content').innerText)")
        heights = page.locator(".bb-list > li").evaluate_all("all => all.map(one => one.offsetHeight)")
        assert max(heights) < 200
    page.mouse.move(640, 420)  # a tooltip of a chart
    page.wait_for_timeout(300)
    assert page.evaluate("window.hacked") is None
    assert page.locator("img[src=x]").count() == 0
    wide = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
    assert wide <= 0


def test_a_server_that_is_gone_is_said(tmp_path: Path, visit: Visit) -> None:
    with Running(
        "console", "--server", f"http://127.0.0.1:{free_port()}", cwd=tmp_path, port=free_port(), ready="/"
    ) as one:
        page = visit(f"{one.base}/console/")
        assert "The server does not answer" in text_of(page)
        page.get_by_role("button", name="Try again").click()
        settled(page)
        assert "The server does not answer" in text_of(page)


def test_a_narrow_window_has_no_sideways_scroll(shop: str, visit: Visit) -> None:
    for path in NAMES:
        page = visit(f"{shop}/console/{path}")
        page.set_viewport_size({"width": 400, "height": 800})
        page.wait_for_timeout(300)
        assert page.evaluate("document.documentElement.scrollWidth") <= 400, path
