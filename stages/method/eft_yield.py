"""What became of the ranked prompts on the way to EFT, and what would give more of them."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import polars as pl

from stages.method import eft
from stages.method.scale import OF_FIVE, Scale
from stages.method.seed_judging import draw
from stages.method.template import fold
from stages.text.thoughts import answer

UNREAD = ("cut_off", "no_score_line", "other_score")
"""Why a judgement has no score: it met the length limit; no line gives a score; its last score line is on another scale
or no single number."""
LOST = ("other_order", "one_score", *UNREAD)
"""Why a prompt gives no EFT. What was read of it is in another order than people's, or one score for all answers; or no
try was read whole, mostly for one of `UNREAD`."""
SOURCES = {"SFT": "model", "ranks": "ranks", "people": "written"}
ELSEWHERE = "Set judge_seed.source to judge (another model) or ranks (people's)"


class Setting(NamedTuple):
    """Of build_eft, and of the answers that are judged."""

    agreement: eft.Agreement
    tries: eft.Tries
    answers: int | None = None

    def name(self, now: Setting) -> str:
        """The key that differs from `now`, with its value."""
        if self.answers:
            return f"judge_seed.answers_per_prompt: {self.answers}"
        if self.tries != now.tries:
            return f"build_eft.tries: {self.tries}"
        if isinstance(self.agreement, str):
            return f"build_eft.agreement: {self.agreement}"
        return f"build_eft.agreement: tau, tau: {self.agreement:g}"


def unread(judgements: pl.DataFrame, scale: Scale = OF_FIVE) -> pl.Series:
    """One of UNREAD for each judgement; null where its score was read."""

    def why(text: str, finish_reason: str, score: float | None) -> str | None:
        if score is not None:
            return None
        if finish_reason == "length":
            return "cut_off"
        return "other_score" if scale.verdict.search(fold(answer(text))) else "no_score_line"

    rows = judgements.select("text", "finish_reason", "score").iter_rows()
    return pl.Series("unread", [why(*row) for row in rows], pl.String)


def lost(
    ranked: pl.DataFrame,
    judgements: pl.DataFrame,
    agreeing: pl.DataFrame,
    tries: eft.Tries,
    seed: int,
    scale: Scale = OF_FIVE,
) -> Counter[str]:
    """Prompts by LOST; with those of `agreeing` they add up to the prompts of `ranked`."""
    why = dict[str, str]()
    reasons = judgements.with_columns(unread(judgements, scale)).drop_nulls("unread")
    for prompt, each in reasons.group_by("prompt_id").agg("unread").iter_rows():
        counted = Counter(each)
        why[prompt] = max(UNREAD, key=lambda reason: counted[reason])
    for prompt, _, _, means, _ in eft.scores_of(eft.attempts_of(ranked, judgements, tries, seed)):
        if len(set(means)) > 1:
            why[prompt] = "other_order"
        elif why.get(prompt) != "other_order":
            why[prompt] = "one_score"
    return Counter(why[prompt] for prompt in {*ranked["prompt_id"]} - {*agreeing["prompt_id"]})


def counts(
    ranked: pl.DataFrame,
    judgements: pl.DataFrame,
    agreeing: pl.DataFrame,
    by_chance: float,
    lost: Counter[str],
    rows: pl.DataFrame,
    now: Setting,
    scale: Scale = OF_FIVE,
) -> dict[str, Any]:
    """Figures of EFT for its metrics file: who judged; `agreeing_share` of the prompts agree, `chance_share` would by
    chance (`chance_is` exact, or drawn: `eft.DRAWN` orders of many scores); why the `lost_prompts` do not, and why
    judgements are `unread`; thinned: dropped from the agreeing judgements."""
    prompts, agreeing_prompts = ranked["prompt_id"].n_unique(), agreeing["prompt_id"].n_unique()
    judge, why = judgements["judge"][0], Counter(unread(judgements, scale).drop_nulls())
    answers = judgements.group_by("prompt_id").agg(pl.col("candidate_id").n_unique())["candidate_id"]
    drawn = not isinstance(now.agreement, str) and (answers > eft.ENUMERATED).any()
    return {
        "source": SOURCES.get(judge, "judge"),
        "judge": judge,
        "ranked_prompts": prompts,
        "ranked_answers": len(ranked),
        "answers_judged": answers.sum(),
        "judgements": len(judgements),
        "unparsed": judgements["score"].null_count(),
        "unread": {reason: why[reason] for reason in UNREAD},
        "agreeing_prompts": agreeing_prompts,
        "agreeing_share": round(agreeing_prompts / prompts, 6) if prompts else None,
        "chance_share": round(by_chance / prompts, 6) if prompts else None,
        "chance_is": "drawn" if drawn else "exact",
        "lost_prompts": {reason: lost[reason] for reason in LOST},
        "agreeing": len(agreeing),
        "thinned": len(agreeing) - len(rows),
        "eft": len(rows),
        "score_histogram": {f"{s:g}": n for s, n in rows["score"].value_counts().sort("score").iter_rows()},
    }


def warnings(figures: Mapping[str, Any], eft_yield: float) -> list[str]:
    """Fewer of the ranked prompts than the share `eft_yield` agree, or no more than would by chance."""
    share, by_chance, prompts = figures["agreeing_share"], figures["chance_share"], figures["ranked_prompts"]
    seen = f"{figures['agreeing_prompts']} of {prompts} ranked prompts agree with people"
    if share < eft_yield:
        return [f"only {seen} ({by_chance * prompts:.1f} would by chance; warned below {eft_yield:.0%})"]
    if share <= by_chance:
        return [f"{seen}, no more than by chance ({by_chance * prompts:.1f}): the scores say nothing of the order"]
    return []


def advice(
    ranked: pl.DataFrame,
    judgements: pl.DataFrame,
    now: Setting,
    tau: float,
    figures: Mapping[str, Any],
    seed: int,
    scale: Scale = OF_FIVE,
) -> list[str]:
    """A sentence for each way in which prompts were lost, with what would help, the largest gain first. `figures` are
    those of `counts`. Other settings, with `tau` as threshold, are tried on the judgements at hand, and named where
    they give more than now, and more than chance by two standard deviations (of a Poisson count)."""
    lost, why, total = figures["lost_prompts"], figures["unread"], figures["judgements"]
    one = f"single {'letter' if scale.letters else 'number'} from {scale}"
    remedies = {
        "cut_off": f"{why['cut_off']} of {total} judgements were cut off. Raise judge_seed.max_tokens, unless they "
        "repeat themselves",
        "no_score_line": f"{why['no_score_line']} of {total} judgements have no score line. {ELSEWHERE}, or write a "
        "judge.template that this judge follows",
        "other_score": f"{why['other_score']} of {total} judgements give no {one}. {ELSEWHERE}, or "
        "end judge.template with `Score: <n>`",
        "one_score": f"all answers have one score{_commonest(judgements)}. {ELSEWHERE}",
        "other_order": "the order of the scores is not people's",
    }
    gains = {reason: lost[reason] for reason in remedies}
    if lost["other_order"] or lost["one_score"]:
        now_agree, prompts = figures["agreeing_prompts"], figures["ranked_prompts"]
        tried = sorted(others(ranked, judgements, now, tau, seed), reverse=True)
        better = [each for each in tried if each[0] > max(now_agree, each[1] + 2 * math.sqrt(each[1]))]
        would = ", ".join(f"{n} with {setting} ({by_chance:.1f} by chance)" for n, by_chance, setting in better)
        reason = "other_order" if lost["other_order"] else "one_score"
        if better:
            gains[reason] = better[0][0] - now_agree
            remedies[reason] += f". Of all {prompts}, these would agree: {would}"
        elif reason == "other_order":
            remedies[reason] += f", and no other rule finds clearly more prompts than chance would. {ELSEWHERE}"
    order = sorted(remedies, key=lambda reason: -gains[reason])
    return [f"{n} prompt{'s' * (n > 1)}: {remedies[reason]}" for reason in order if (n := lost[reason])]


def others(
    ranked: pl.DataFrame, judgements: pl.DataFrame, now: Setting, tau: float, seed: int
) -> Iterator[tuple[int, float, str]]:
    """Prompts that would agree under each other setting, how many of them by chance, and the setting."""
    most = ranked.group_by("prompt_id").len()["len"].max()
    rules: tuple[eft.Agreement, ...] = ("weak", tau)
    settings = [now._replace(agreement=rule) for rule in rules]
    settings += [now._replace(tries=each) for each in eft.TRIES if judgements["k"].max()]
    settings += [now._replace(answers=n) for n in (2, 3) if isinstance(most, int) and n < most]
    for each in settings:
        if each == now:
            continue
        answers = draw(ranked, each.answers, seed)
        judged = judgements.join(answers, on="candidate_id", how="semi")
        rule = (answers, judged, each.agreement, each.tries, seed)
        yield eft.agreeing(*rule)["prompt_id"].n_unique(), eft.chance(*rule), each.name(now)


def _commonest(judgements: pl.DataFrame) -> str:
    """What share of the scores is the commonest one."""
    scores = judgements["score"].drop_nulls()
    if scores.is_empty():
        return ""
    score, n = Counter(scores).most_common(1)[0]
    return f" ({n} of {len(scores)} scores are {score:g})"
