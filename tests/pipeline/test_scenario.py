"""Scenarios: six that are shipped, read from TOML, every wrong key named."""

from pathlib import Path

import pytest

from bowerbird.core import ConfigError
from bowerbird.pipeline.scenario import Boost, Freshness, Pin, Scenario, Source, shipped

WHOLE = """
k = 10
sources = [{ name = "model", n = 300 }, { name = "latest", weight = 0.5 }]
where = "item.price < 100"
hides = ["purchase"]
hide_served_s = 60
ranker = false
candidates = 50
boosts = [{ where = "item.new == true", factor = 2 }]
diversity = 0.25
timeout_ms = 20
pins = [{ item = "7", position = 1 }]

[freshness]
half_life_days = 1

[caps]
category = 3

[event_weights]
view = 1
dislike = -2.5
"""


def load(folder: Path, text: str) -> Scenario:
    path = folder / "shop.toml"
    path.write_text(text, encoding="utf-8")
    return Scenario.load(path)


def test_a_file_is_read_whole_and_named_after_itself(tmp_path) -> None:
    assert load(tmp_path, WHOLE) == Scenario(
        name="shop",
        k=10,
        sources=(Source(name="model", n=300), Source(name="latest", weight=0.5)),
        where="item.price < 100",
        hides=("purchase",),
        hide_served_s=60,
        ranker=False,
        candidates=50,
        boosts=(Boost(where="item.new == true", factor=2.0),),
        freshness=Freshness(half_life_days=1.0),
        diversity=0.25,
        caps={"category": 3},
        pins=(Pin(item="7", position=1),),
        timeout_ms=20.0,
        event_weights={"view": 1.0, "dislike": -2.5},
    )


def test_an_empty_file_asks_the_model_alone(tmp_path) -> None:
    scenario = load(tmp_path, "")
    assert scenario.sources == (Source(name="model", n=500),)
    assert scenario.hides is None


def test_a_list_of_no_events_hides_nothing_and_is_not_left_out(tmp_path) -> None:
    assert load(tmp_path, "hides = []").hides == ()


@pytest.mark.parametrize(
    ("text", "said", "place"),
    [
        ("diversty = 1", 'Did you mean "diversity"', "shop.toml, key diversty"),
        ('sources = [{ name = "modl" }]', "Try name = model", r"shop.toml, \[\[sources\]\], key name"),
        ("sources = []", "must name a source", "shop.toml, key sources"),
        ('sources = "model"', "must be a list of tables", "shop.toml"),
        ('sources = [{ name = "model" }, { name = "model" }]', "each source once", "shop.toml"),
        ("[freshness]\nhalf_life = 3", 'Did you mean "half_life_days"', r"shop.toml, \[freshness\], key half_life"),
        ("freshness = 3", "must be a table", "shop.toml"),
        ("[caps]\nbrand = 0", "caps.brand is 0; it must be 1 or more", "shop.toml"),
        ("[caps]\nbrand = 1.5", "caps.brand is 1.5; it must be a whole number", "shop.toml"),
        ("[event_weights]\nview = true", "event_weights.view is True; it must be a number", "shop.toml"),
        ('where = "price <"', "where is no filter", "shop.toml, key where"),
        ('boosts = [{ where = "price <", factor = 2.0 }]', "where is no filter", r"\[\[boosts\]\], key where"),
        ('boosts = [{ where = "item.a == 1", factor = -2.0 }]', "0 or more", r"\[\[boosts\]\], key factor"),
        ('pins = [{ item = "a", position = 0 }]', "between 1 and", r"\[\[pins\]\], key position"),
        ("pins = [{item='a', position=1}, {item='b', position=1}]", "each place once", "shop.toml, key pins"),
        ("k = 0", "between 1 and 1,000", "shop.toml, key k"),
        ("diversity = 1.5", "between 0 and 1", "shop.toml, key diversity"),
        ('name = "Shop"', "small letters", "shop.toml, key name"),
        ("k = ", "is not TOML", ""),
        ("k = " + "[\n" * 5_000, "is not TOML: values are nested too deeply", ""),
        ("sources = [{ n = 3 }]\n[freshness]\nstrength = 1\n", "name is missing", r"\[\[sources\]\], key name"),
        ("diversity = nan", "must be finite", "shop.toml, key diversity"),
        ("[event_weights]\nview = inf", r"event_weights\.view is inf; it must be a number", "shop.toml"),
        ("[event_weights]\nview = nan", r"event_weights\.view is nan; it must be a number", "shop.toml"),
        (f"[caps]\nkind = {10**40}", r"caps\.kind is 10*; it must be a whole number", "shop.toml"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path, text, said, place) -> None:
    with pytest.raises(ConfigError, match=said) as caught:
        load(tmp_path, text)
    assert caught.match(place)


def test_a_file_that_is_not_there_is_named(tmp_path) -> None:
    with pytest.raises(ConfigError, match="there is no such scenario"):
        Scenario.load(tmp_path / "none.toml")


def test_a_document_without_a_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="must name the scenario"):
        Scenario.of({"k": 3})


def test_six_scenarios_are_shipped_and_differ() -> None:
    six = shipped()
    assert set(six) == {"goods", "video", "news", "music", "friends", "ads"}
    assert len({one.sources for one in six.values()}) == 6
    assert len({one.hides for one in six.values()}) == 6
    assert len({tuple(one.caps) for one in six.values()}) == 6
    assert len({tuple(one.event_weights) for one in six.values()}) == 6
    news, video = six["news"].freshness, six["video"].freshness
    assert news is not None
    assert video is not None
    assert news.half_life_days < video.half_life_days


def test_a_play_does_not_hide_a_track_and_a_purchase_hides_goods() -> None:
    six = shipped()
    assert "play" not in (six["music"].hides or ())
    assert "purchase" in (six["goods"].hides or ())
