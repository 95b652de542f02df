"""Reasons as sentences, in English and in Chinese."""

from collections.abc import Sequence

import numpy as np

from bowerbird.core import Cause, Reason

CROWD = 5  # people at least of whom a reason may speak: fewer could be guessed
CHINESE = {  # of the phrases that event types usually have
    "chose": "选择过",
    "liked": "喜欢过",
    "bought": "购买过",
    "watched": "看过",
    "read": "读过",
    "viewed": "浏览过",
    "clicked": "点击过",
    "played": "播放过",
    "rated": "评价过",
    "visited": "去过",
    "listened to": "听过",
    "wished for": "收藏过",
}
CONTENT = {
    "text": ("its text", "文字"),
    "attributes": ("its attributes", "属性"),
    "behaviour": ("who chose it", "行为"),
}
ITSELF, PERSON, BEFORE = "the item itself", "who you are", "what you chose before"  # columns by what they stand for
COLUMNS = {ITSELF: "物品本身", PERSON: "你的身份", BEFORE: "你过去的选择"}


def history(causes: tuple[Cause, ...], phrase: str, method: str) -> Reason:
    """Return that past items speak for the item."""
    first = causes[0].label
    return Reason("history", f"because you {phrase} {first}", f"因为你{_zh(phrase)}《{first}》", method, causes)


def neighbours(causes: tuple[Cause, ...], phrase: str, method: str, people: int) -> Reason:
    """Return that past items have people in common with the item; without a crowd, only that they speak for it."""
    if people < CROWD:
        return history(causes, phrase, method)
    first = causes[0].label
    text = f"because you {phrase} {first}, and {people:,} people chose both"
    return Reason(
        "neighbours", text, f"因为你{_zh(phrase)}《{first}》，有 {people:,} 人两者都选", method, causes, people
    )


def path(causes: tuple[Cause, ...], phrase: str, method: str, people: int, title: str) -> Reason:
    """Return the way over people from the first past item to the item; without a crowd, only that it speaks for it."""
    if people < CROWD:
        return history(causes, phrase, method)
    first = causes[0].label
    text = f"you → {first} → {people:,} people → {title}"
    return Reason("path", text, f"你 → {first} → {people:,} 人 → {title}", method, causes, people)


def popularity(people: int) -> Reason:
    """Return that people chose the item; a few are not counted out."""
    if people < CROWD:
        return Reason("popularity", "chosen by few people so far", "目前选择的人还不多")
    return Reason("popularity", f"chosen by {people:,} people", f"有 {people:,} 人选择", people=people)


def features(causes: tuple[Cause, ...]) -> Reason:
    """Return which columns speak for the item."""
    named = [one.label for one in causes if one.share > 0][:2]
    if not named:
        return Reason("features", "in spite of all its columns", "各项特征都不突出", "integrated gradients", causes)
    chinese = "、".join(COLUMNS.get(one, one) for one in named)
    return Reason("features", f"because of {' and '.join(named)}", f"因为{chinese}", "integrated gradients", causes)


def content(causes: tuple[Cause, ...]) -> Reason:
    """Return which kind of content speaks for the item."""
    name = str(causes[0].id)
    if name == "behaviour":
        return Reason("content", "because of who else chose it", "因为选择它的人与你相似", "ablation", causes)
    english, chinese = CONTENT.get(name, (f"its {name}", name))
    return Reason("content", f"because {english} suits you", f"因为它的{chinese}符合你的喜好", "ablation", causes)


def drawn(propensity: float) -> Reason:
    """Return that a place was drawn."""
    chance = f"{100 * propensity:.2g} %"
    return Reason("exploration", f"drawn with a chance of {chance}, to learn whether you like it",
                  f"以 {chance} 的概率抽中，用来了解你是否喜欢")  # fmt: skip


NEW = Reason("new", "new here", "新上架")
RULE = Reason("rule", "its place is given by a rule", "由规则指定的位置")


def shares(said: np.ndarray, ids: Sequence[object], labels: Sequence[str], most: int) -> tuple[Cause, ...]:
    """Return the `most` strongest that speak for the item, `said` (P,) > 0, with their shares of all that do."""
    speaks = np.flatnonzero(said > 0)
    best = speaks[np.argsort(-said[speaks], kind="stable")][:most]
    total = float(said[speaks].sum())
    return tuple(Cause(ids[one], labels[one], float(said[one]) / total) for one in best)


def _zh(phrase: str) -> str:
    return CHINESE.get(phrase, CHINESE["chose"])
