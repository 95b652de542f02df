"""What pages say, in English and in Chinese."""

from collections.abc import Mapping
from typing import Any, Literal, get_args
from unicodedata import bidirectional

Language = Literal["en", "zh"]
LANGUAGES: tuple[Language, ...] = get_args(Language)
TURNS = ("R", "AL", "AN", "LRE", "RLE", "LRO", "RLO", "LRI", "RLI", "FSI")  # what is not plainly left to right

WORDS: dict[str, tuple[str, str]] = {
    # ── frame ────────────────────────────────────────────────────────────────────────────────────────────────────────
    "skip": ("Skip to the content", "跳到正文"),
    "pages": ("Pages", "页面"),
    "home": ("Home", "首页"),
    "try": ("Try it", "试一试"),
    "pipeline": ("Pipeline", "流程"),
    "quality": ("Quality", "质量"),
    "choose": ("Choose a model", "选择模型"),
    "map": ("Map", "地图"),
    "versions": ("Versions", "版本"),
    "language": ("中文", "English"),
    "dark": ("Dark", "深色"),
    "light": ("Light", "浅色"),
    "sign_in": ("Sign in", "登录"),
    "sign_out": ("Sign out", "退出"),
    "key": ("Key", "密钥"),
    "key_hint": ("It begins with bb_ and stays in this console: the browser keeps a random name for it only.",
                 "以 bb_ 开头。密钥只保存在控制台中，浏览器里只有一个随机的名字。"),
    "key_wrong": ("That is no key of this server.", "这不是该服务器的密钥。"),
    "key_slow": ("Too many wrong keys. Wait a minute, then try again.", "错误的密钥太多，请一分钟后再试。"),
    "figures_of": ("The figures of this picture", "此图的数据"),
    # ── states ───────────────────────────────────────────────────────────────────────────────────────────────────────
    "loading": ("Asking the server …", "正在询问服务器……"),
    "no_key": ("This server asks for a key", "此服务器需要密钥"),
    "no_key_more": ("Sign in with one of its keys to see this page.", "请用它的一个密钥登录，以查看此页。"),
    "no_scope": ("Your key may not see this", "您的密钥无权查看"),
    "no_scope_more": ("Whoever has the admin key can make one that may: POST /v1/keys.",
                      "持有管理员密钥的人可以创建有权限的密钥：POST /v1/keys。"),
    "unreachable": ("The server does not answer", "服务器没有响应"),
    "unreachable_more": ("Does it run? Start it with: bowerbird serve RUN",
                         "它在运行吗？启动命令：bowerbird serve RUN"),
    "went_wrong": ("The server refused", "服务器拒绝了请求"),
    "again": ("Try again", "重试"),
    # ── home ─────────────────────────────────────────────────────────────────────────────────────────────────────────
    "serves": ("{model}, version {version}, for {users} people and {items} items",
               "{model}，版本 {version}，{users} 位用户，{items} 件物品"),
    "per_second": ("Lists a second", "每秒列表数"),
    "p99": ("p99 of lists", "列表延迟 p99"),
    "now_10s": ("over the last seconds", "最近几秒"),
    "since_start": ("since the server started", "自服务器启动以来"),
    "click_rate": ("Lists chosen from", "有选择的列表"),
    "click_more": ("{good} of {n} lists, 95 % interval {low} – {high}",
                   "{n} 个列表中的 {good} 个，95% 区间 {low} – {high}"),
    "click_none": ("No list was shown yet", "尚未展示列表"),
    "freshness": ("Not yet learned", "尚未学习"),
    "freshness_more": ("events since version {version}, made {age} ago; lists reflect them already",
                       "条事件（版本 {version}，{age}前生成）；列表已经反映它们"),
    "alarms": ("Alarms", "警报"),
    "no_alarm": ("Nothing is wrong that the server can see.", "服务器没有发现问题。"),
    "alarm_failed": ("{n} requests failed since the server started. Its log says why.",
                     "自启动以来有 {n} 个请求失败，原因见日志。"),
    "alarm_lost": ("{n} lists were shown and could not be logged.", "{n} 个列表已展示但未能记录。"),
    "alarm_swaps": ("{n} versions were refused or rolled back.", "{n} 个版本被拒绝或回滚。"),
    "alarm_model": ("The model failed {n} times; what is popular stood in.", "模型失败 {n} 次，已用热门内容代替。"),
    "changed": ("What changed", "变化"),
    "version_made": ("Version {version} of {model} was made", "生成了 {model} 的版本 {version}"),
    "in_use": ("in use", "使用中"),
    "ago": ("{age} ago", "{age}前"),
    "events_count": ("{n} events taken since the start", "自启动以来接收 {n} 条事件"),
    # ── try it ───────────────────────────────────────────────────────────────────────────────────────────────────────
    "who": ("For whom", "为谁推荐"),
    "stranger": ("A stranger who clicks", "点击中的陌生人"),
    "person": ("A person", "某位用户"),
    "person_id": ("Id of a person", "用户编号"),
    "people_hidden": ("Your key may not list people; an id can be typed.", "您的密钥不能列出用户，可以直接输入编号。"),
    "add": ("Add an item to the history", "添加一件物品到历史"),
    "scenario": ("Scenario", "场景"),
    "diversity": ("Diversity", "多样性"),
    "exploration": ("Exploration", "探索"),
    "history": ("History, the newest first", "历史（最新在前）"),
    "history_none": ("Nothing yet. Choose something from the list: it is a real event, stored and learned from.",
                     "还没有。请从列表中选择：这是一条真实的事件，会被保存和学习。"),
    "history_hidden": ("Your key may not read what people did (scope privacy).",
                       "您的密钥不能读取用户行为（权限 privacy）。"),
    "list": ("The list", "推荐列表"),
    "choose_it": ("Choose", "选择"),
    "choose_this": ("Choose {title}", "选择 {title}"),
    "undo": ("Take the last choice back", "撤回上一次选择"),
    "fresh": ("new", "新"),
    "by_chance": ("drawn", "随机"),
    "effect": ("Stored in {stored} ms; the new list was there after {all} ms. {moved} of {n} places changed.",
               "{stored} 毫秒后保存，{all} 毫秒后新列表就绪。{n} 个位置中有 {moved} 个变化。"),
    "answered": ("Answered by {rung} in {ms} ms.", "由 {rung} 回答，用时 {ms} 毫秒。"),
    "less": ("Less than wished: {words}.", "与期望有差距：{words}。"),
    "rung_model": ("the model", "模型"),
    "rung_popularity": ("what is popular", "热门内容"),
    "rung_content": ("content", "内容"),
    "rung_none": ("nothing", "无"),
    "fall_cold": ("the model does not know this person yet", "模型还不了解该用户"),
    "fall_deeper": ("sources were asked for more", "扩大了召回"),
    "fall_popular": ("filled up with what is popular", "用热门内容补足"),
    "fall_latest": ("filled up with what is new", "用最新内容补足"),
    "fall_any": ("filled up with anything allowed", "用任意允许的内容补足"),
    "fall_light": ("there was no time for all steps", "时间不足，省略了步骤"),
    "fall_no_vectors": ("the model has no item vectors, which diversity needs", "模型没有多样性所需的物品向量"),
    "fall_model_failed": ("the model failed", "模型失败"),
    "list_empty": ("No item may be shown to this person.", "没有可以展示给该用户的物品。"),
    "no_reason": ("No reason is known.", "没有可用的理由。"),
    "no_events": ("Choosing needs to know the server's event types: a key with catalog:read or models:read.",
                  "选择需要知道事件类型：密钥需要 catalog:read 或 models:read 权限。"),
    # ── pipeline ─────────────────────────────────────────────────────────────────────────────────────────────────────
    "way": ("From all items to the list", "从全部物品到列表"),
    "way_more": ("Widths are numbers of items. {ms} ms in all, for {who}.",
                 "宽度表示物品数量。共 {ms} 毫秒，对象：{who}。"),
    "nobody": ("nobody in particular", "匿名"),
    "stage": ("Stage", "阶段"),
    "left_over": ("Items after it", "之后剩余"),
    "ms": ("ms", "毫秒"),
    "node_all": ("all items", "全部物品"),
    "node_allowed": ("allowed", "允许展示"),
    "node_removed": ("removed: {what}", "移除：{what}"),
    "node_removed_plain": ("removed by filters", "被过滤"),
    "node_unfound": ("found by no source", "未被召回"),
    "node_candidates": ("candidates", "候选"),
    "node_left": ("not taken", "未选"),
    "stage_filter": ("filters", "过滤"),
    "stage_sources": ("sources", "召回"),
    "stage_ranking": ("ranking", "排序"),
    "stage_reranking": ("re-ranking", "重排"),
    "stage_slate": ("slate", "列表"),
    "why": ("Why, or why not?", "为什么？为什么没有？"),
    "item": ("Item", "物品"),
    "or_id": ("or its id", "或物品编号"),
    "ask": ("Ask", "询问"),
    "is_shown": ("It is in the list.", "它在列表中。"),
    "not_shown": ("It is not in the list: it left at “{stage}”.", "它不在列表中：在“{stage}”阶段被排除。"),
    "reasons": ("Why the model scores it so", "模型这样打分的原因"),
    "without": ("Without these it would leave the first places", "没有这些，它会离开前列"),
    "without_none": ("No few past items decide it: it stays whichever are taken away, or is not among the first.",
                     "没有少数几件历史物品能决定它：去掉它们也不变，或它本就不在前列。"),
    "kept": ("kept", "保留"),
    "gone": ("removed", "移除"),
    "cause": ("Cause", "原因"),
    "share": ("Share", "占比"),
    "pick_item": ("Choose an item to follow it through the stages.", "选择一件物品，查看它经过的各个阶段。"),
    # ── quality ──────────────────────────────────────────────────────────────────────────────────────────────────────
    "by_version": ("By version", "按版本"),
    "metric": ("Metric", "指标"),
    "protocol": ("Protocol", "评测方式"),
    "trained_on": ("The model that was measured was trained on {what}.", "被评测的模型的训练数据：{what}。"),
    "not_measured": ("This version was published without a measurement", "此版本没有评测结果"),
    "not_measured_more": ("`bowerbird train` measures before it trains on everything.",
                          "`bowerbird train` 会先评测，再用全部数据训练。"),
    "slices": ("By how much past people have", "按用户历史长度"),
    "slices_more": ("Events before the cut, and how many people that is.", "划分之前的事件数，以及人数。"),
    "slices_none": ("Slices are measured by `bowerbird train`, where there are people enough.",
                    "分组指标由 `bowerbird train` 在人数足够时给出。"),
    "calibration": ("Calibration", "校准"),
    "calibration_none": ("{model} gives scores that order items, and no probabilities: there is nothing to calibrate. "
                         "A ranker behind a retriever has them.",
                         "{model} 的分数只用于排序，不是概率，无需校准。排序模型才有概率。"),
    "predicted": ("predicted", "预测"),
    "observed": ("observed", "实际"),
    "perfect": ("perfect", "理想"),
    "popularity_curve": ("Popularity", "热门程度"),
    "popularity_more": ("The tenth of the items chosen most holds {share} of the choices; Gini {gini}.",
                        "最热门的十分之一物品占 {share} 的选择；基尼系数 {gini}。"),
    "popularity_none": ("Nothing was chosen yet.", "还没有任何选择。"),
    "items_share": ("share of items, most chosen first", "物品占比（最热门在前）"),
    "choices_share": ("share of choices", "选择占比"),
    "choices": ("choices", "选择"),
    "even": ("all alike", "完全平均"),
    "top_tenth": ("Places on the most chosen tenth", "落在最热门十分之一的比例"),
    "of_model": ("its lists", "模型列表"),
    "of_popular": ("popular list", "热门列表"),
    "of_people": ("people’s choices", "用户选择"),
    "relies": ("What it relies on", "模型依据"),
    "on_features": ("what columns add to the log of the odds", "各列对对数几率的贡献"),
    "on_content": ("share of kinds of content, and of behaviour", "各类内容与行为的占比"),
    "on_places": ("share of past items, by how far back they stand", "历史物品的占比，按距今远近"),
    "on_items": ("share of single past items", "单个历史物品的占比"),
    "on_people": ("share of people whom paths lead over", "路径经过的人群占比"),
    "drift": ("Drift since it was trained", "训练后的漂移"),
    "drift_none": ("No event came since this version was made: there is nothing to compare.",
                   "该版本生成后还没有新事件，无法比较。"),
    "drift_quiet": ("{now} new events beside {reference} old ones: nothing moved more than chance moves it.",
                    "{now} 条新事件与 {reference} 条旧事件相比：没有超出偶然的变化。"),
    "drift_seen": ("{now} new events beside {reference} old ones.", "{now} 条新事件与 {reference} 条旧事件相比。"),
    "column": ("Column", "列"),
    "test": ("Test", "检验"),
    "verdict": ("Verdict", "结论"),
    "moved": ("drift", "漂移"),
    "quiet": ("quiet", "平稳"),
    "users": ("people", "人"),
    # ── choose ───────────────────────────────────────────────────────────────────────────────────────────────────────
    "choose_none": ("No race was run for these data yet", "还没有为这些数据做过模型比较"),
    "choose_none_more": ("It measures every model that fits your data, within a time that you give it, and says which "
                         "to take:", "它在给定时间内评测所有适合的模型，并给出建议："),
    "advice": ("The advice", "建议"),
    "cost_seconds": ("seconds to train", "训练秒数"),
    "cost_ms": ("milliseconds a request", "每请求毫秒"),
    "cost_mb": ("megabytes", "兆字节"),
    "front_more": ("Diamond: the pick. Dashed line: what no other model beats. Bars: 95 % intervals on {n} {who}. "
                   "Costs are logarithmic.",
                   "菱形：推荐。虚线：未被超越的模型。竖线：{n} {who} 的 95% 区间。代价轴为对数。"),
    "model": ("Model", "模型"),
    "value": ("Value", "值"),
    "interval": ("95 % interval", "95% 区间"),
    "on_front": ("on the front", "在前沿"),
    "beaten": ("beaten by {model}", "被 {model} 超越"),
    "would_change": ("What would change this", "什么会改变结论"),
    # ── map ──────────────────────────────────────────────────────────────────────────────────────────────────────────
    "map_vectors": ("Two principal components of the model’s item vectors", "模型物品向量的两个主成分"),
    "map_choices": ("{model} has no item vectors: two principal components of who chose what",
                    "{model} 没有物品向量：按“谁选择了什么”的两个主成分绘制"),
    "map_more": ("{n} of {items} items{drawn}; the axes hold {a} and {b} of the variance. Cold: chosen fewer than 5 "
                 "times, or newer than the model.",
                 "{items} 件物品中的 {n} 件{drawn}；两轴分别占方差的 {a} 和 {b}。冷：被选择少于 5 次，或晚于模型。"),
    "map_drawn": (", drawn at random", "（随机抽取）"),
    "map_none": ("There is nothing to draw: no item has a place.", "没有可绘制的物品。"),
    "colour_by": ("Colour by", "着色依据"),
    "other": ("others", "其他"),
    "unsaid": ("not said", "未说明"),
    "cold": ("cold", "冷"),
    "find": ("Find an item", "查找物品"),
    "like_it": ("Closest to {title}", "与 {title} 最相近"),
    # ── versions ─────────────────────────────────────────────────────────────────────────────────────────────────────
    "version": ("Version", "版本"),
    "made": ("Made", "生成时间"),
    "parent": ("From", "来源"),
    "learned_to": ("Learned up to", "学习到"),
    "promote": ("Promote", "启用"),
    "promote_this": ("Promote version {version}", "启用版本 {version}"),
    "rollback": ("Roll back", "回滚"),
    "sure_promote": ("Every next list is answered by version {version}. Type {version} to confirm.",
                     "之后的列表都由版本 {version} 回答。输入 {version} 以确认。"),
    "sure_rollback": ("Every next list is answered by the version that {version} was made from. Type {version} to "
                      "confirm.",
                      "之后的列表都由 {version} 的来源版本回答。输入 {version} 以确认。"),
    "confirm": ("Confirm", "确认"),
    "cancel": ("Cancel", "取消"),
    "now_in_use": ("Version {version} answers now.", "现在由版本 {version} 回答。"),
    "jobs": ("Jobs", "任务"),
    "jobs_none": ("No job was started since the server was.", "服务器启动后还没有任务。"),
    "job_update": ("Learn from new events", "学习新事件"),
    "job_backup": ("Make a backup", "备份"),
    "state": ("State", "状态"),
    "kind": ("Kind", "类型"),
    "detail": ("Detail", "详情"),
    "rows": ("{n} rows", "{n} 行"),
    "waiting": ("waiting", "等待"),
    "running": ("running", "进行中"),
    "done": ("done", "完成"),
    "failed": ("failed", "失败"),
    "cancelled": ("cancelled", "已取消"),
    "erasures": ("Erasures", "删除请求"),
    "erasures_none": ("Nobody asked to be erased.", "没有人请求删除。"),
    "erasures_unknown": ("This server has no route for erasures.", "此服务器没有删除请求的接口。"),
    "asked": ("Asked", "提出时间"),
    "due": ("Due", "期限"),
    "finished": ("Finished", "完成时间"),
    "steps": ("Steps", "步骤"),
}  # fmt: skip


def language(text: str | None) -> Language:
    """Return a language that is spoken here: English where another one is wished."""
    return "zh" if text == "zh" else "en"


def say(spoken: Language, key: str, **values: object) -> str:
    """Return what a key says; values are put in as they are, and none of them turns what stands around it."""
    return WORDS[key][LANGUAGES.index(spoken)].format(**{name: isolated(str(value)) for name, value in values.items()})


def isolated(text: str) -> str:
    """Return a text that keeps its direction to itself (UAX 9), also where it holds an override that it never ends."""
    return f"\u2068{text}\u2069" if any(bidirectional(one) in TURNS for one in text) else text


def sentence(reason: Mapping[str, Any], spoken: Language) -> str:
    """Return what a reason says, with the names of its causes kept apart."""
    text = str(reason["text" if spoken == "en" else "text_zh"])
    names = {str(one["label"]) for one in reason["causes"] if one.get("label")}
    for name in sorted(names, key=len, reverse=True):
        text = text.replace(name, isolated(name))
    return text


def age(spoken: Language, seconds: float) -> str:
    """Return how long something is ago, in its largest unit."""
    units = ((86_400, " days", " 天"), (3_600, " h", " 小时"), (60, " min", " 分钟"), (1, " s", " 秒"))
    for size, *names in units:
        if seconds >= size or size == 1:
            return f"{max(0, int(seconds // size)):,}{names[LANGUAGES.index(spoken)]}"
    raise AssertionError("the last unit is always taken")
