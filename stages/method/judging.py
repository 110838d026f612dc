"""LLM-as-a-Judge (paper 2.2, step 3): what the judge is shown, how its score is read, and the mean of its K tries.

A judgement is text; a score is a number. A judgement that cannot be read has the score null: never 0, never -1.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import polars as pl

from stages.console.errors import TableError
from stages.method.template import mask_verdicts, render
from stages.store.tables import JUDGEMENTS

BEST = 5.0

# What leaves the number as it is: the end of its dress, ` points`, `/5`, `out of 5`.
_SAME = (
    r"""[*_`"'>\])}$\\]*+(?:[ \t]*+(?:points?|stars?)\b)?"""
    r"""(?:[ \t]*+\(?(?:/|out[ \t]++of\b)[ \t]*+[*_`<\[({]*+5(?:\.0++)?+(?![0-9.,/]*[0-9]))?[*_`"'>\])}$\\]*+"""
)
SAME = re.compile(_SAME, re.IGNORECASE)
# The label, a colon or `=`, then a number, in the dress that models give it: `Score: 4`, `**Score:** <4>`,
# `"score": 4`, `Score = \boxed{4}`. Where the number is on the next line or behind a dash, it must end its line:
# `Score:\n4`, `Final score - 4`, but not `Score:\n1. Relevant`. The rubric's own numbers have no such label. Group 1 is
# the label, group 2 the number. Every run is possessive (`*+`), so that hostile text takes linear time.
_OPEN = r"""(?:[*_`"' \t\xa0~<\[({$\\]|boxed\{)*+"""
_NUMBER = r"[+\-−–]?[0-9]++(?:[.,][0-9]++)*+"
_LINE_END = r"""\.?+[*_`"' \t]*+(?:\r?\n(?!\s*+[0-9])|\Z)"""
SCORE = re.compile(
    r"""(?<![^\W_])(score)[*_`"' \t\xa0]*+(?:[:：=]{1,2}+"""
    rf"{_OPEN}(?=[+\-−–]?[0-9])|(?:[:：=]{{1,2}}+(?:{_OPEN}[\r\n]++)++|[-–—]++(?=[ \t])|(?=[-−–][0-9])){_OPEN}"
    rf"(?={_NUMBER}{_SAME}{_LINE_END}))({_NUMBER})",
    re.IGNORECASE,
)
CHOICES = ("0", "1", "2", "3", "4", "5")
SCORE_LOGPROBS = (f"(?i){SCORE.pattern}", 2, CHOICES)
"""Where the judge's own probabilities are asked for, and of what: pattern, group, choices (`request.ScoreLogprobs`)."""
# What makes it another number: `4/10`, `4-5`, `1 + 1 = 2`, `3 or 4`, `40 %`, `4th`.
OTHER = re.compile(
    r"[ \t]*(?:\(?(?:/|(?:out[ \t]+)?of\b)|[%+=×^]|[-–−~*x,:][ "
    r"\t]*[0-9]|(?:or|to|and|plus|minus|times|percent)\b|[0-9])|[^\W_]",
    re.IGNORECASE,
)


def read_score(text: str, finish_reason: str = "stop") -> float | None:
    """The score that a judgement gives, 0 to 5 in halves; None when it cannot be read.

    The last score line decides, readable or not: a judge that ends on `Score: 10` gave no score, whatever it wrote
    before. A score line is `Score:` or `Score =` and a number, anywhere in a line, also as `**Score:** 4`, `4/5`, `4
    out of 5` or in LaTeX's `boxed`. The number may stand on the next line, or behind a dash (`Final score - 4`), if it
    ends its line. Without a number (`Score: <n>`, as in the rubric) it is none; nor are `Score (out of 5): 4`, `a score
    of 4`, `Score 4` and `Score: four`. Unreadable are: numbers below 0, above 5 or between halves; a number that goes
    on as another (`4/10`, `3 or 4`, `1 + 1 = 2`); a judgement cut off by the length limit.
    """
    if finish_reason == "length":
        return None
    lines = list(SCORE.finditer(text))
    if not lines:
        return None
    number, after = lines[-1][2], SAME.match(text, lines[-1].end())
    if (after and OTHER.match(text, after.end())) or not re.fullmatch(r"[0-9]+(\.[0-9]+)?", number):
        return None
    score = float(number)
    return score if score <= BEST and (2 * score).is_integer() else None


def expected(probs: Sequence[float] | None) -> float | None:
    """Mean score under the judge's probabilities of 0 to 5 (`CHOICES`), taken as adding up to 1; None when they are not
    known or all 0.

    Known are the choices alone: a judge that wrote a half has no expected score. Rounded to 1/1024, so that sums are
    exact and no order of rows can change a mean.
    """
    if probs is None or not sum(probs):
        return None
    return round(sum(score * p for score, p in enumerate(probs)) / sum(probs) * 1024) / 1024


def _last_number(text: str) -> str | None:
    lines = SCORE.findall(text)
    return lines[-1][1] if lines else None


def distinct(candidates: pl.DataFrame) -> pl.DataFrame:
    """The candidates (CANDIDATES rows) that are judged: of equal texts of a prompt the one of lowest n; none that was
    cut off by the length limit."""
    whole = candidates.filter(pl.col("finish_reason") != "length").sort("prompt_id", "n", "candidate_id")
    first = whole.unique(["prompt_id", "response"], keep="first", maintain_order=True)
    return candidates.join(first, on="candidate_id", how="semi", maintain_order="left")


def same_text(candidates: pl.DataFrame) -> pl.DataFrame:
    """candidate_id and text_id of the whole candidates: the `distinct` one with the same prompt and text."""
    first = distinct(candidates).select("prompt_id", "response", pl.col("candidate_id").alias("text_id"))
    whole = candidates.filter(pl.col("finish_reason") != "length")
    return whole.join(first, on=["prompt_id", "response"]).select("candidate_id", "text_id")


def pool(candidates: pl.DataFrame, judgements: pl.DataFrame) -> pl.DataFrame:
    """The judgements (JUDGEMENTS rows) under the `distinct` candidate of their text, so that none of a text's readable
    scores is lost; those of cut-off candidates are left out.

    Raises TableError when something was judged that is no candidate.
    """
    stray = judgements.join(candidates, on="candidate_id", how="anti", maintain_order="left")
    if len(stray):
        raise TableError(
            f"{len(stray)} judgements are of no candidate, the first of {stray['candidate_id'][0]!r}. Run: dvc repro"
        )
    pooled = judgements.join(same_text(candidates), on="candidate_id", maintain_order="left")
    return pooled.with_columns(candidate_id="text_id").drop("text_id")


def judge_prompts(template: str, answers: pl.DataFrame) -> pl.DataFrame:
    """The judge's prompt for every answer: candidate_id, prompt_id, text, in the order of `answers` (candidate_id,
    prompt_id, prompt, response).

    What looks like a verdict or like a tag of the template inside prompt or response is marked `(quoted)`; see
    `template.mask_verdicts`. Raises SrlmError when the template fails.
    """
    columns = answers.select("candidate_id", "prompt_id", "prompt", "response")
    rows = [
        (
            candidate,
            prompt_id,
            render(
                template,
                prompt=mask_verdicts(prompt, template, SCORE),
                response=mask_verdicts(response, template, SCORE),
            ),
        )
        for candidate, prompt_id, prompt, response in columns.iter_rows()
    ]
    return pl.DataFrame(
        rows, schema={"candidate_id": pl.String, "prompt_id": pl.String, "text": pl.String}, orient="row"
    )


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
    finish_reason, probs (of `SCORE_LOGPROBS`).

    Matched by id, never by position. Raises TableError naming the first id that is no answer, or an answer that lacks
    one of its K completions.
    """
    k = completions.select(pl.col("n").max() + 1).item() or 0
    stray = completions.join(answers, left_on="id", right_on="candidate_id", how="anti", maintain_order="left")
    if len(stray):
        raise TableError(
            f"{len(stray)} judgements are of no answer, the first of {stray['id'][0]!r}. Judge the answers of this "
            f"very table"
        )
    tries = completions.group_by("id").agg(pl.col("n").n_unique().alias("different"), pl.len().alias("all"))
    counted = (
        answers.select("candidate_id")
        .join(tries, left_on="candidate_id", right_on="id", how="left", maintain_order="left")
        .fill_null(0)
    )
    wrong = counted.filter((pl.col("different") != k) | (pl.col("all") != k) | (pl.lit(k) == 0))
    if len(wrong):
        candidate, _, seen = wrong.row(0)
        raise TableError(
            f"{len(wrong)} answers lack judgements or have too many: {candidate!r} has {seen} of {k}. Judge every "
            f"answer the same number of times"
        )
    texts = completions.select("text", "finish_reason", "probs").rows()
    scores = pl.Series("score", [read_score(text, reason) for text, reason, _ in texts], dtype=pl.Float64)
    whole = pl.Series([_last_number(text) in CHOICES for text, _, _ in texts], dtype=pl.Boolean)
    means = pl.Series("expected", [expected(probs) for _, _, probs in texts], dtype=pl.Float64)
    read = completions.with_columns(scores, means, k="n", judge=pl.lit(judge))
    read = read.with_columns(expected=pl.when(pl.col("score").is_not_null(), whole).then("expected"))
    joined = (
        answers.select("candidate_id", "prompt_id")
        .with_row_index("row")
        .join(read, left_on="candidate_id", right_on="id")
    )
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
    return (
        judgements.group_by("candidate_id", "prompt_id")
        .agg(
            some.then(total / n).alias("score"),
            (score.max() - score.min()).alias("spread"),
            some.then((n * squares - total * total) / (n * n)).alias("variance"),
            score.count().cast(pl.Int32).alias("parsed"),
        )
        .sort("candidate_id", "prompt_id")
    )
