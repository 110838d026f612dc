"""LLM-as-a-Judge (paper 2.2, step 3): what the judge is shown, how its score is read, and the mean of its K tries.

A judgement is text; a score is a number (`scale.read_score`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import polars as pl

from stages.console.errors import TableError
from stages.method.scale import OF_FIVE, Scale, expected, is_echo, read_score
from stages.method.template import fold, mask_verdicts, render
from stages.store.tables import JUDGEMENTS
from stages.text.thoughts import answer


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


def judge_prompts(template: str, answers: pl.DataFrame, scale: Scale = OF_FIVE) -> pl.DataFrame:
    """The judge's prompt for every answer: candidate_id, prompt_id, text, in the order of `answers` (candidate_id,
    prompt_id, prompt, response): without what a model thought, and with verdicts and tags inside prompt or response
    marked (`template.mask_verdicts`). Raises SrlmError when the template fails."""
    texts = [
        render(
            template,
            prompt=mask_verdicts(prompt, template, scale.verdict),
            response=mask_verdicts(answer(response), template, scale.verdict),
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


def judgements(answers: pl.DataFrame, completions: pl.DataFrame, judge: str, scale: Scale = OF_FIVE) -> pl.DataFrame:
    """JUDGEMENTS rows, sorted by answer (as in `answers`), then k. `completions`: id (= candidate_id), n, text,
    finish_reason, probs (of `Scale.score_logprobs`), matched by id. Raises TableError naming the first id that is no
    answer, or an answer that lacks one of its K completions."""
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

    def whole(text: str) -> bool:  # known are the choices alone, not halves, as they stand
        lines = scale.verdict.findall(text)
        return bool(lines) and lines[-1][1] in scale.choices and lines == scale.verdict.findall(fold(text))

    judged = dict(answers.select("candidate_id", "response").iter_rows())
    read = []
    for candidate, text, why, probs in completions.select("candidate_id", "text", "finish_reason", "probs").iter_rows():
        score = None if is_echo(text, judged[candidate], scale) else read_score(text, why, scale)
        read.append((score, expected(probs, scale.min) if score is not None and whole(answer(text)) else None))
    scores = pl.DataFrame(read, schema={"score": pl.Float64, "expected": pl.Float64}, orient="row")
    rows = completions.hstack(scores).with_columns(judge=pl.lit(judge))
    joined = answers.select("candidate_id", "prompt_id").with_row_index("row").join(rows, on="candidate_id")
    return joined.sort("row", "k").select(pl.col(name).cast(dtype) for name, dtype in JUDGEMENTS.schema.items())


def unreadable(judgements: pl.DataFrame, template: str, scale: Scale = OF_FIVE) -> str:
    """What to say where no judgement could be read: the template, and one of them as it was written."""
    return (
        f"None of {len(judgements)} judgements has a score that can be read, such as `Score: {scale.example}`. Does "
        f"{template} ask for one? The first judgement is {judgements['text'][0][:300]!r}"
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
