"""What the console says: all of it in both languages, with the same gaps."""

import re
from pathlib import Path

import pytest

from bowerbird.serving.console import words
from bowerbird.serving.console.words import WORDS, age, isolated, language, say, sentence

SOURCES = sorted(Path(words.__file__).parent.glob("*.py"))


@pytest.mark.parametrize("key", WORDS)
def test_both_languages_say_the_same_gaps(key: str) -> None:
    english, chinese = WORDS[key]
    gaps = [sorted(set(re.findall(r"{(\w+)}", one))) for one in (english, chinese)]
    assert gaps[0] == gaps[1]
    if key != "language":
        assert re.search("[\u4e00-\u9fff]", chinese), chinese
        assert not re.search("[\u4e00-\u9fff]", english), english


def test_every_key_that_pages_name_is_there_and_every_one_is_named() -> None:
    text = "\n".join(one.read_text() for one in SOURCES if one.name != "words.py")
    named = set(re.findall(r"""(?<!f)["'](\w+)["']""", text))
    assert set(re.findall(r'say\("(\w+)"', text)) <= set(WORDS)
    made = {key for key in WORDS if re.match(r"(stage|fall|rung|on|cost|job|node|alarm|sure)_", key)}
    assert set(WORDS) - named - made == set()


def test_a_name_turns_nothing_that_stands_around_it() -> None:
    bad = "\u202esinema"
    said = sentence({"text": f"because you chose {bad}", "text_zh": f"《{bad}》", "causes": [{"label": bad}]}, "en")
    assert said == f"because you chose \u2068{bad}\u2069"
    assert isolated("plain, 中文 and ünï") == "plain, 中文 and ünï"
    assert say("en", "like_it", title="עץ") == "Closest to \u2068עץ\u2069"


def test_an_unknown_language_is_english() -> None:
    assert [language(one) for one in ("zh", "en", "de", "", None)] == ["zh", "en", "en", "en", "en"]
    assert say("zh", "home") == "首页"


@pytest.mark.parametrize(
    ("seconds", "said"), [(0, "0 s"), (59.9, "59 s"), (60, "1 min"), (7_300, "2 h"), (200_000, "2 days"), (-5, "0 s")]
)
def test_an_age_has_one_unit(seconds: float, said: str) -> None:
    assert age("en", seconds) == said
