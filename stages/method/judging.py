"""LLM-as-a-Judge (paper 2.2, step 3): what the judge is shown, how its score is read, and the mean of its K tries.

A judgement is text; a score is a number. A judgement that cannot be read has the score null: never 0, never -1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import polars as pl

from stages.console.errors import TableError
from stages.method.template import fold, mask_verdicts, render
from stages.store.tables import JUDGEMENTS
from stages.text.thoughts import answer

BEST = 5.0

_BLANK = r"(?:[ \t]|\\[A-Za-z]++\{?)*+"  # and LaTeX's `\text{`
_TAG = r"</?(?:b|i|u|p|em|strong|code|span|t[dh])>"  # none holds the label: each run ends before the next
_CLOSED = rf"""(?:[*_`"'>\])}}$\\]|{_TAG})*+"""
# What leaves the number as it is: the end of its dress, ` points`, `/5`, `out of 5`.
_SAME = (
    rf"""{_CLOSED}(?:{_BLANK}(?:points?|pts?|stars?)\b)?"""
    rf"""(?:{_BLANK}\(?(?:/|(?:out[ \t]++)?of\b)[ \t*_`<\[({{}}]*+5(?:\.0++)?+(?![0-9.,/]*[0-9]))?{_CLOSED}"""
)
SAME = re.compile(_SAME, re.IGNORECASE)
# The label, a colon or `=`, then a number, in the dress that models give it: `Score: 4`, `**Score:** <4>`,
# `"score": 4`, `Score = \boxed{4}`, `<b>Score</b>: 4`. Where it stands on the next line, behind a dash, in the next
# cell of a table or in a tag, nothing else may stand there: `Score:\n4`, `Final score - 4`, `| Score | 4 |`,
# `<score>4</score>`, but not `Score:\n1. Relevant`. The rubric's own numbers have no such label. Group 1 is the label,
# group 2 the number. Every run is possessive (`*+`), so that hostile text takes linear time.
_LABEL = rf"""(?<![^\W_])(score)(?:[*_`"'\])}} \t\xa0]|{_TAG})*+"""
_OPEN = rf"""(?:{_TAG}|[*_`"' \t\xa0~<\[({{}}|$\\]|(?:boxed|text[a-z]{{0,2}}|math[a-z]{{2}})\{{)*+"""
_NUMBER = r"[+\-−–]?[0-9]++(?:[.,][0-9]++)*+"
_ALONE = r"""(?:\.?+[*_`"' \t]*+(?:\r?\n(?!\s*+[0-9])|\Z)|\s*+</|[ \t]*+\|)"""
SCORE = re.compile(
    rf"{_LABEL}(?:[:：=]{{1,2}}+{_OPEN}(?=[+\-−–]?[0-9])|"
    rf"(?:[:：=]{{0,2}}+(?:{_OPEN}[\r\n]++)++|[-–—]++(?=[ \t])|(?=[-−–][0-9])|\||>\s*+){_OPEN}"
    rf"(?={_NUMBER}{_SAME}{_ALONE}))({_NUMBER})",
    re.IGNORECASE,
)
CHOICES = ("0", "1", "2", "3", "4", "5")
SCORE_LOGPROBS = (f"(?i){SCORE.pattern}", 2, CHOICES)
"""Where the judge's own probabilities are asked for, and of what: pattern, group, choices (`request.ScoreLogprobs`)."""
# What makes it another number: `4/10`, `4th`, `3 or 4`, `40 %`; a second number with nothing but signs or one word
# between, also behind a remark in brackets: `4-5`, `3 -> 4`, `4 sur 10`, `1 (relevance) + 1 (coverage) = 2`; points of
# which each is for something: `2 points for A and 1 for B`. A new sentence may begin with a number.
OTHER = re.compile(
    rf"{_BLANK}(?:\(?(?:/|(?:out[ \t]+)?of\b|[0-9.,]++\))|(?:or|to|and|plus|minus|times|percent)\b)|[^\W_]"
    rf"|(?:{_BLANK}\([^()\n]*+\))?+(?:{_BLANK}[%+=×^]|{_BLANK}[^\W\d_]++[ \t]++[0-9]"
    r"|(?!\.[ \t])(?:\\[A-Za-z]++|[^\w\r\n(]|_)*+[0-9])"
    r"|[ \t]*+for\b[^.\n]*\b[0-9]++[ \t]++(?:points?[ \t]++)?for\b"
    # per mille, parts and multiples: `4 ‰`, `4 percentile`, `4 tenths`, `4 hundred`
    rf"|{_BLANK}(?:[‰٪]|\\%|(?:percent|(?:half|halves|third|quarter|tenth|hundred|thousand|million)s?\b))"
    r"|(?:</?[a-z]{1,6}>|[^\w/(])*+(?:/|\bout[ \t]++of\b)[ \t]*+(?!5\b)[0-9]",  # `4</b>/10`, and on the next line
    re.IGNORECASE,
)
# What another remark on the line makes of it. A scale that does not end at 5: `(max 10)`, `(0-10)`, `(8/10)`, `on a
# scale from 1 to 10`, `on a 10-point scale`; a correction: `3, raised to 4`, `5 (reduced to 4)`.
_TOP = r"(?!5(?:\.0++)?(?!\.?[0-9]))[0-9]++"
_RANGE = r"(?:[0-9.]++[ \t]*+(?:-|–|—|to\b)[ \t]*+)?+"
REMARK = re.compile(
    rf"\b(?:max(?:imum)?|scale|range|out[ \t]++of)\b(?:[ \t:=]|of\b|is\b|from\b)*+{_RANGE}{_TOP}"
    rf"|[(\[][= \t]*+[0-9.]++[ \t]*+(?:/|-|–|—|to\b|of\b)[ \t]*+{_TOP}[ \t]*+[)\]]"
    rf"|(?<![\w.]){_TOP}[- ]points?\b[ \t]++scale\b"
    r"|\b(?:actually|rather|raised|reduced|lowered|increased|corrected|changed|revised|adjusted|final|so)\b"
    r"[^\n0-9]{0,20}[0-9](?:\.[05])?[ \t.)\]]*+$",
    re.IGNORECASE,
)


# What a list of points adds up to, behind its last score line.
TOTAL = re.compile(
    rf"""\b(?:total|overall|sum)(?:[ \t]++(?:points?|rating|grade|marks?))?+[*_`"' \t]*+[:：=|]{{1,2}}+{_OPEN}"""
    rf"({_NUMBER}){_SAME}{_ALONE}",
    re.IGNORECASE,
)
ECHO = 20
"""Characters before a score line that tell whose it is."""


def read_score(text: str, finish_reason: str = "stop") -> float | None:
    """The score that a judgement gives, 0 to 5 in halves; None when it cannot be read.

    The last score line decides, readable or not: a judge that ends on `Score: 10` gave no score, whatever it wrote
    before. `Score: <n>`, `Score (out of 5): 4`, `a score of 4`, `Score 4` and `Score: four` are no score lines.
    Unreadable are numbers below 0, above 5 or between halves, a number that goes on as another (`4/10`, `3 or 4`,
    `1 + 1 = 2`), on another scale or corrected in the same line, with another total behind it, and a judgement cut off
    by the length limit. Nothing is read in what the judge thought first (`thoughts.split`). Read as it is seen
    (`template.fold`).
    """
    text = fold(answer(text))
    if finish_reason == "length" or not (lines := list(SCORE.finditer(text))):
        return None
    number, after = lines[-1][2], SAME.match(text, lines[-1].end())
    if (after and OTHER.match(text, after.end())) or not re.fullmatch(r"[0-9]+(\.[0-9]+)?", number):
        return None
    if REMARK.search(text[lines[-1].end() :].partition("\n")[0]):
        return None
    if any(total != number for total in TOTAL.findall(text, lines[-1].end())):
        return None
    score = float(number)
    return score if score <= BEST and (2 * score).is_integer() else None


def is_echo(text: str, response: str) -> bool:
    """Whether the last score line of a judgement stands in the answer, behind the same words: the judge repeated the
    answer without the mark (`mask_verdicts`), and gave no score of its own."""
    seen, told = fold(answer(text)), fold(answer(response))
    if not (SCORE.search(told) and (lines := list(SCORE.finditer(seen)))):
        return False
    before = seen[max(0, lines[-1].start() - ECHO) : lines[-1].start()]
    return len(re.findall(r"\w", before)) >= ECHO // 2 and before + lines[-1][0] in told


def expected(probs: Sequence[float] | None) -> float | None:
    """Mean score under the judge's probabilities of 0 to 5 (`CHOICES`), taken as adding up to 1; None when they are not
    known or all 0. Rounded to 1/1024, so that sums are exact and no order of rows can change a mean."""
    if probs is None or not sum(probs):
        return None
    return round(sum(score * p for score, p in enumerate(probs)) / sum(probs) * 1024) / 1024


def same_text(candidates: pl.DataFrame) -> pl.DataFrame:
    """candidate_id and text_id of the candidates that were not cut off: of those of a prompt with the same text, the
    one of lowest n."""
    whole = candidates.filter(pl.col("finish_reason") != "length").sort("prompt_id", "n", "candidate_id")
    return whole.select("candidate_id", text_id=pl.col("candidate_id").first().over("prompt_id", "response"))


def distinct(candidates: pl.DataFrame) -> pl.DataFrame:
    """The candidates (CANDIDATES rows) that are judged: one of each text, none that was cut off."""
    judged = same_text(candidates).filter(pl.col("candidate_id") == pl.col("text_id"))
    return candidates.join(judged, on="candidate_id", how="semi", maintain_order="left")


def pool(candidates: pl.DataFrame, judgements: pl.DataFrame) -> pl.DataFrame:
    """The judgements (JUDGEMENTS rows) under the `distinct` candidate of their text, so that none of a text's readable
    scores is lost; those of cut-off candidates are left out. Raises TableError for one of no candidate."""
    require_answers(judgements, candidates, "candidate")
    pooled = judgements.join(same_text(candidates), on="candidate_id", maintain_order="left")
    return pooled.with_columns(candidate_id="text_id").drop("text_id")


def require_answers(judgements: pl.DataFrame, answers: pl.DataFrame, what: str) -> None:
    """Raises TableError when a judgement's candidate_id is not in `answers`."""
    stray = judgements.join(answers, on="candidate_id", how="anti", maintain_order="left")["candidate_id"]
    if len(stray):
        raise TableError(f"{len(stray)} judgements are of no {what}, the first of {stray[0]!r}. Run: dvc repro")


def judge_prompts(template: str, answers: pl.DataFrame) -> pl.DataFrame:
    """The judge's prompt for every answer: candidate_id, prompt_id, text, in the order of `answers` (candidate_id,
    prompt_id, prompt, response): without what a model thought, and with verdicts and tags inside prompt or response
    marked (`template.mask_verdicts`). Raises SrlmError when the template fails."""
    texts = [
        render(
            template,
            prompt=mask_verdicts(prompt, template, SCORE),
            response=mask_verdicts(answer(response), template, SCORE),
        )
        for prompt, response in answers.select("prompt", "response").iter_rows()
    ]
    return answers.select("candidate_id", "prompt_id", pl.Series("text", texts, pl.String))


def as_completions(answers: pl.DataFrame, texts: Sequence[str]) -> pl.DataFrame:
    """Judgements that people wrote, one per answer, as a judge's completions (id, n, text, finish_reason, probs)."""
    return answers.select(
        pl.col("candidate_id").alias("id"),
        pl.lit(0, pl.Int32).alias("n"),
        pl.Series("text", texts, pl.String),
        pl.lit("stop").alias("finish_reason"),
        pl.lit(None, pl.List(pl.Float64)).alias("probs"),
    )


def judgements(answers: pl.DataFrame, completions: pl.DataFrame, judge: str) -> pl.DataFrame:
    """JUDGEMENTS rows, sorted by answer (as in `answers`), then k. `completions`: id (= candidate_id), n, text,
    finish_reason, probs (of `SCORE_LOGPROBS`), matched by id. Raises TableError naming the first id that is no answer,
    or an answer that lacks one of its K completions."""
    completions = completions.rename({"id": "candidate_id", "n": "k"})
    require_answers(completions, answers, "answer")
    k = completions.select(pl.col("k").max() + 1).item() or 0
    tries = completions.group_by("candidate_id").agg(pl.col("k").n_unique().alias("different"), pl.len().alias("all"))
    counted = answers.select("candidate_id").join(tries, on="candidate_id", how="left", maintain_order="left")
    wrong = counted.fill_null(0).filter((pl.col("different") != k) | (pl.col("all") != k) | (pl.lit(k) == 0))
    if len(wrong):
        candidate, _, seen = wrong.row(0)
        raise TableError(
            f"{len(wrong)} answers lack judgements or have too many: {candidate!r} has {seen} of {k}. Judge every "
            f"answer the same number of times"
        )

    def whole(text: str) -> bool:  # a judge that wrote a half has no expected score: known are the choices alone
        lines = SCORE.findall(text)
        return bool(lines) and lines[-1][1] in CHOICES and lines == SCORE.findall(fold(text))  # probed as it stands

    judged = dict(answers.select("candidate_id", "response").iter_rows())
    read = []
    for candidate, text, why, probs in completions.select("candidate_id", "text", "finish_reason", "probs").iter_rows():
        score = None if is_echo(text, judged[candidate]) else read_score(text, why)
        read.append((score, expected(probs) if score is not None and whole(answer(text)) else None))
    scores = pl.DataFrame(read, schema={"score": pl.Float64, "expected": pl.Float64}, orient="row")
    rows = completions.hstack(scores).with_columns(judge=pl.lit(judge))
    joined = answers.select("candidate_id", "prompt_id").with_row_index("row").join(rows, on="candidate_id")
    return joined.sort("row", "k").select(pl.col(name).cast(dtype) for name, dtype in JUDGEMENTS.schema.items())


def unreadable(judgements: pl.DataFrame, template: str) -> str:
    """What to say where no judgement could be read: the template, and one of them as it was written."""
    return (
        f"None of {len(judgements)} judgements has a score that can be read, such as `Score: 4`. Does {template} ask "
        f"for one? The first judgement is {judgements['text'][0][:300]!r}"
    )


def mean_scores(judgements: pl.DataFrame, kind: Literal["sampled", "expected"] = "sampled") -> pl.DataFrame:
    """One row per answer, sorted by candidate_id: candidate_id, prompt_id, score, spread, variance, parsed; of the
    written scores or the expected.

    score: mean of the readable judgements, not rounded; spread: highest minus lowest; variance: of the readable ones
    (over their number). All three are null when none could be read; parsed (Int32) says how many could. Scores are
    halves or 1024ths, so all sums are exact, and no order of the rows can change a result.
    """
    score = pl.col("score" if kind == "sampled" else "expected")
    n, total, squares = score.count().cast(pl.Float64), score.sum(), (score * score).sum()
    some = pl.when(score.count() > 0)
    figures = judgements.group_by("candidate_id", "prompt_id").agg(
        some.then(total / n).alias("score"),
        (score.max() - score.min()).alias("spread"),
        some.then((n * squares - total * total) / (n * n)).alias("variance"),
        score.count().cast(pl.Int32).alias("parsed"),
    )
    return figures.sort("candidate_id", "prompt_id")
