"""The report: one HTML file that needs no network, reads well on paper, and says how the figures came about."""

from collections.abc import Iterable, Sequence
from html import escape
from typing import Any

from bowerbird.selection import pictures
from bowerbird.selection.advice import NAMES, seconds
from bowerbird.selection.advisor import Advice
from bowerbird.selection.front import GIVEN_UP, Place
from bowerbird.selection.profile import RANKING

STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, "DejaVu Sans", sans-serif; color: #1a1a1a; background: #fff; margin: 2rem auto;
  max-width: 56rem; padding: 0 1rem; }
h1 { font-size: 1.6rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.15rem; margin: 2rem 0 .5rem; border-bottom: 1px solid #d9d9d9; padding-bottom: .2rem; }
p, ul { margin: .5rem 0; }
.verdict { border-left: 5px solid #b45309; background: #fdf6ec; padding: .6rem 1rem; margin: 1rem 0; }
.verdict p:first-child { font-weight: 600; }
.small { border-left: 5px solid #1f4e79; background: #eef4fa; padding: .6rem 1rem; }
.quiet { color: #555; font-size: .88rem; overflow-wrap: anywhere; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; margin: .5rem 0; }
th, td { padding: .25rem .5rem; border-bottom: 1px solid #e4e4e4; text-align: right; vertical-align: top; }
th { border-bottom: 2px solid #8a8a8a; }
td:first-child, th:first-child, .words td, .words th { text-align: left; }
td.text, th.text { text-align: left; }
table.models td:nth-child(2) { min-width: 8rem; }
table.models td:first-child, table.models td:nth-child(4) { white-space: nowrap; }
tr.pick td { background: #fdf6ec; font-weight: 600; }
code, pre { font-family: ui-monospace, "DejaVu Sans Mono", monospace; font-size: .88rem; }
pre { background: #f5f5f5; padding: .6rem 1rem; white-space: pre-wrap; overflow-wrap: anywhere; }
svg { display: block; width: 100%; height: auto; margin: .5rem 0; }
svg text { font: 12px system-ui, "DejaVu Sans", sans-serif; fill: #333; }
@media print {
  @page { margin: 16mm; }
  body { margin: 0; max-width: none; font-size: 10.5pt; padding: 0; }
  h2 { break-after: avoid; }
  svg, tr, .verdict, .small, pre, li { break-inside: avoid; }
  thead { display: table-header-group; }
  table { font-size: 8.5pt; }
  th, td { padding: .15rem .35rem; }
  .verdict, .small, tr.pick td, pre { print-color-adjust: exact; -webkit-print-color-adjust: exact; }
}
"""


WORDS = {  # field of a profile → what it is called, and what where the task is ranking
    "task": ("task", ""), "events": ("events to train on", "rows to train on"), "users": ("people known", ""),
    "items": ("items known", ""), "asked": ("people asked about", "rows asked about"),
    "density": ("pairs seen, of all", ""), "length": ("events of a person, median", ""),
    "longest": ("longest history", ""), "repeats": ("events that repeat a choice", ""),
    "drift": ("popularity that moved lately", ""), "cold_users": ("of those asked, new", "rows of new people"),
    "cold_items": ("of what they chose, new", "rows of new items"), "timed": ("times", ""),
    "ordered": ("later events are foreseen", ""), "kinds": ("kinds of event", "labels"),
    "relations": ("relations", ""), "user_columns": ("columns of people", ""), "item_columns": ("columns of items", ""),
    "row_columns": ("columns", ""), "content": ("content of items", ""), "positive": ("label 1", ""),
}  # fmt: skip


def as_html(one: Advice, *, data: str, recipe: str = "") -> str:
    """Return the report of what was measured on `data`; `recipe` is the file that trains the pick."""
    name = NAMES[one.metric]
    everyone = [*one.places]
    sections = [
        f"<h1>Which model for {escape(data)}?</h1>",
        f'<p class="quiet">{escape(_asked(one))}</p>',
        f'<div class="verdict">{_paragraphs([one.sentence, *one.beside[:1]])}</div>',
        f'<div class="small">{_paragraphs([one.small])}</div>' if one.small else "",
        _paragraphs([_interrupted(one)]) if one.interrupted else "",
        "<h2>What was measured</h2>",
        pictures.intervals(everyone, one.pick, name),
        _models(one, name),
        f'<p class="quiet">{escape(_legend(one, name))}</p>',
        "<h2>What accuracy costs</h2>",
        pictures.beside_costs(everyone, one.pick, name),
        f'<p class="quiet">{escape(_front(one))}</p>',
        _paragraphs(one.beside[1:]),
        "<h2>What would change this</h2>",
        _list(one.changes or ("Nothing that these data show. Ask again when they have doubled.",)),
        "<h2>How to deploy it</h2>", _deploy(one, recipe),
        "<h2>How far a part of the data was from all of it</h2>", _samples(one, name),
        "<h2>What the data are like</h2>", _profile(one),
        "<h2>What was not measured, and why</h2>", _skipped(one),
        "<h2>How this was measured</h2>", _method(one, name),
    ]  # fmt: skip
    body = "\n".join(part for part in sections if part)
    title = f"bowerbird select: {escape(data)}"
    return (f'<!doctype html>\n<html lang="en"><head><meta charset="utf-8"><title>{title}</title>\n'
            f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>\n'
            f"<body>\n{body}\n</body></html>\n")  # fmt: skip


def _asked(one: Advice) -> str:
    limits = [f"budget {seconds(one.limits.budget_s)}"]
    limits += [f"latency {one.limits.latency_ms:g} ms"] if one.limits.latency_ms else []
    limits += [f"memory {one.limits.memory_mb:g} MB"] if one.limits.memory_mb else []
    again = f", {one.resumed} of them by an earlier run" if one.resumed else ""
    return f"{', '.join(limits)}; {len(one.trials)} tries in {seconds(one.seconds)}{again}"


def _interrupted(one: Advice) -> str:
    return "The race was stopped before its time was over; this is what had been measured. The same command goes on."


def stand(place: Place) -> str:
    """Return where a model stands to the front, in words."""
    return "yes" if place.on_front else f"no: {place.beaten_by} costs less" if place.level else f"no: {place.beaten_by}"


def _models(one: Advice, name: str) -> str:
    heads = (
        "model",
        "settings",
        name,
        "95 % interval",
        "train s",
        "ms",
        "ms, 95 %",
        "MB",
        "lines",
        "packages",
        "on the front",
    )
    rows = []
    for place in (*one.places, *one.left_out):
        trial, kept = place.trial, one.kept[place.trial.model]
        m = trial.measured
        extra = f"+{kept['packages_mb']:,.0f} MB" if kept["packages"] else "none"
        stands = "breaks a limit" if place in one.left_out else stand(place)
        cells = [trial.model, one.settings(trial) or "as shipped", f"{m.value:.4f}",
                 f"{place.low:.4f} – {place.high:.4f}", f"{m.seconds:,.2f}{'*' if m.cut else ''}", f"{m.ms:.2f}",
                 f"{m.ms_high:.2f}", f"{m.mb:,.1f}", str(kept["lines"]), extra, stands]  # fmt: skip
        rows.append((cells, place is one.pick))
    return _table(heads, rows, texts=(1, 9, 10)).replace("<table>", "<table class=models>", 1)


def _legend(one: Advice, name: str) -> str:
    said = [
        f"{name} on {one.n:,} {one.who} of validation, each model's best settings of those tried: figures of a choice "
        "flatter it.", "Orange is the pick, filled dots are on the front.",
        "Lines are those of the model's file, what somebody has to understand; packages are what it loads beside those "
        "that bowerbird always needs.",
    ]  # fmt: skip
    if any(place.trial.measured.cut for place in one.places):
        said.append("*: the time limit ended the training, and its best epoch until then was measured.")
    return " ".join(said)


def _front(one: Advice) -> str:
    return (
        "On the front is what no other model beats: none is as cheap in training, latency and memory and at least as "
        "good. Differences that the paired test takes for chance count as none, and so do costs below a second, a "
        f"millisecond and a megabyte. One that costs half and is {GIVEN_UP:.0%} worse at most goes before a better one."
    )


def _deploy(one: Advice, recipe: str) -> str:
    m, kept = one.pick.trial.measured, one.kept[one.pick.trial.model]
    share = "" if one.share == 1 else f" on {one.share:.0%} of the events; all of them take longer"
    extra = f", and {', '.join(kept['packages'])}" if kept["packages"] else ""
    rows = [
        ("size", f"{m.mb:,.1f} MB of weights, beside some 300 MB for the program{extra}"),
        ("a request", f"{m.ms:.2f} ms, {m.ms_high:.2f} ms for 95 %: about {1000 / max(m.ms, 1e-3):,.0f} a second "
         "on a core, HTTP not counted"),
        ("refresh", f"{seconds(m.seconds)} to train anew{share}, with {m.peak_mb:,.0f} MB beside the program's own"),
    ]  # fmt: skip
    file = recipe or "selected.toml"
    lines = [f"bowerbird train {file} --out runs/selected"]
    if one.profile.task == RANKING:
        lines.append("bowerbird predict runs/selected FILE --out scores.parquet")
    else:
        lines += ["bowerbird serve runs/selected", "bowerbird update runs/selected --data-dir runs/selected/server"]
    return f"{_table(('', ''), [(row, False) for row in rows], words=True)}<pre>{escape(chr(10).join(lines))}</pre>"


def _samples(one: Advice, name: str) -> str:
    if not one.from_sample:
        part = f"Only {one.share:.0%} of the train part fitted into the budget; how far it is from all is not known."
        return _paragraphs(["All was measured on all of the data." if one.share == 1 else part])
    found = [row for row in one.from_sample if row["final"]]
    off = sorted(abs(row["off"]) for row in found)
    means = sum(row["off"] for row in found) / len(found)
    agree = _agreement([(row["value"], row["final"]) for row in found])
    text = (
        f"{len(found)} configurations were measured on a part and then on more of the data. What the part foretold was "
        f"{means:+.1%} off on average, {off[len(off) // 2]:.1%} in the median and {off[-1]:.1%} at most"
        + (f"; of pairs of them it had {agree:.0%} in the right order." if agree is not None else ".")
    )
    if one.share < 1:
        text += f" The figures above are those of {one.share:.0%} of the train part: the leader did not fit in full."
    best = {row["model"]: row for row in sorted(found, key=lambda row: float(row["final"]))}  # the best of each model
    points = [(row["value"], row["final"], name_) for name_, row in best.items()]
    rows = [([row["model"], row["settings"] or "as shipped", f"{row['share']:.0%}", f"{row['value']:.4f}",
              f"{row['final']:.4f}", f"{row['off']:+.1%}"], False) for row in found]  # fmt: skip
    heads = ("model", "settings", "part", f"{name} on it", f"{name} on more", "off by")
    return _paragraphs([text]) + pictures.over_time(points, name) + _table(heads, rows, texts=(1,))


def _agreement(pairs: Sequence[tuple[float, float]]) -> float | None:
    """Return the share of pairs whose order is the same before and after; None of fewer than two."""
    orders = [(a[0] - b[0]) * (a[1] - b[1]) for place, a in enumerate(pairs) for b in pairs[:place]]
    return sum(one > 0 for one in orders) / len(orders) if orders else None


def _profile(one: Advice) -> str:
    p = one.profile
    said = (
        {name: text for name, (text, _) in WORDS.items()}
        if p.task != RANKING
        else {name: rows or text for name, (text, rows) in WORDS.items()}
    )
    rows = [(said[name], _shown(name, value)) for name, value in p.to_dict().items() if name in said]
    return _table(("", ""), [(row, False) for row in rows if row[1]], words=True)


def _shown(name: str, value: Any) -> str:
    if value is None or value == () or value == []:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.1f}" if name == "length" else f"{value:.2%}"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return f"{value:,}" if isinstance(value, int) else str(value)


def _skipped(one: Advice) -> str:
    if not one.skipped:
        return _paragraphs(["Every model was."])
    by_reason: dict[str, list[str]] = {}
    for each in one.skipped:
        by_reason.setdefault(each.why, []).append(each.model)
    rows = [([", ".join(dict.fromkeys(models)), why], False) for why, models in by_reason.items()]
    return _table(("models", "why"), rows, words=True)


def _method(one: Advice, name: str) -> str:
    said = [
        "Every model was tried as it is shipped before any of its settings was tuned, on the smallest part of the data "
        "first; the better half went on to a larger part. Settings are those that made another model better, a step in "
        "one setting, or proposals of Optuna's tree-structured Parzen estimator. Each try ran in a process of its own "
        "under a time and a memory limit.",
        f"{name} is over all items but those of the history; intervals are bootstraps over {one.who}, differences "
        "paired bootstraps over the same ones." if one.profile.task != RANKING else
        f"{name} is that of the first label; intervals and paired differences are DeLong's, over {one.who}.",
        "Only the validation part was asked. The test part was not looked at.",
    ]  # fmt: skip
    return f'{_paragraphs(said)}<p class="quiet">{escape(one.profile.protocol)}</p>'


def _paragraphs(texts: Iterable[str]) -> str:
    return "".join(f"<p>{escape(text)}</p>" for text in texts if text)


def _list(texts: Iterable[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>"


def _table(
    heads: Sequence[str], rows: Sequence[tuple[Sequence[str], bool]], *, texts: Sequence[int] = (), words: bool = False
) -> str:
    """Return a table; rows marked true are the pick's, `texts` are columns of words."""
    head = "".join(
        f"<th{' class=text' if place in texts else ''}>{escape(one)}</th>" for place, one in enumerate(heads)
    )
    lines = []
    for cells, chosen in rows:
        tags = "".join(f'<td{" class=text" if place in texts else ""}>{escape(str(cell))}</td>'
                       for place, cell in enumerate(cells))  # fmt: skip
        lines.append(f"<tr{' class=pick' if chosen else ''}>{tags}</tr>")
    top = f"<thead><tr>{head}</tr></thead>" if any(heads) else ""
    return f"<table{' class=words' if words else ''}>{top}<tbody>{''.join(lines)}</tbody></table>"
