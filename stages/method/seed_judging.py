"""Which of the ranked answers are judged, and people's ranks as judgements where no model can judge yet."""

from __future__ import annotations

import math

import polars as pl

from stages.console.errors import ParamsError
from stages.method.scale import OF_FIVE, Scale, read_score
from stages.method.template import render
from stages.text.ids import content_id


def draw(ranked: pl.DataFrame, n: int | None, seed: int) -> pl.DataFrame:
    """`ranked` (RANKED rows) with `n` answers of each prompt at most, in the same order; None leaves all.

    Decided by a hash of `(seed, candidate_id)`: the first n, where the last gives way if all of them have one rank and
    another answer has another. What is drawn can be compared wherever the prompt's answers can.
    """
    if n is None:
        return ranked
    hashes = [content_id(seed, "judge_seed", candidate) for candidate in ranked["candidate_id"]]
    place = pl.int_range(pl.len()).over("prompt_id")
    other = pl.col("human_rank") != pl.col("human_rank").first().over("prompt_id")
    kept = (
        ranked.with_columns(hash=pl.Series(hashes, dtype=pl.String))
        .sort("prompt_id", "hash")
        .with_columns(place=place, first_other=pl.when(other).then(place).min().over("prompt_id"))
        .filter((pl.col("place") < n - 1) | (pl.col("place") == pl.max_horizontal(pl.lit(n - 1), "first_other")))
    )
    return ranked.join(kept, on="candidate_id", how="semi", maintain_order="left")


def score_of(level: int, levels: int, halves: bool = True, scale: Scale = OF_FIVE) -> float:
    """The score of an answer whose rank is the `level`-th best (0 ..) of the prompt's `levels` distinct ranks.

    Of 0 to 5 the best gets 5, the worst 1, from six ranks on 0, and those between are spread evenly, to whole points;
    to `halves` where seven ranks or more need them. Answers that are all ranked alike get 3: nothing can be said of
    them. Other scales likewise.
    """
    if levels < 2:
        return float((scale.min + scale.max + 1) // 2)
    whole, best = len(scale.choices), float(scale.max)
    lowest = scale.min + (levels < whole)
    unit = 2 if halves and levels > whole and scale.letters is None else 1
    return math.floor((best - level * (best - lowest) / (levels - 1)) * unit + 0.5 + 1e-9) / unit


def by_rank(
    ranked: pl.DataFrame, template: str, score_line: str, seed: int, *, halves: bool = True, scale: Scale = OF_FIVE
) -> list[str]:
    """People's ranks as judgements, one for each of `ranked` (RANKED rows, all answers of their prompts): the reasons
    by `template`, the score by `score_of` in the number's place of `score_line` (`Score: 4`).

    Fields of the template: `better`, `equal`, `worse` (how many other answers people ranked above, beside, below this
    one), `pick` (a whole number by hash of `(seed, candidate_id)`, to choose a wording), `score_line`. Raises
    ParamsError when the text is not read as that score.
    """
    rank, others = pl.col("human_rank"), pl.len() - 1
    counted = ranked.select(
        "candidate_id",
        (rank.rank("dense") - 1).over("prompt_id").alias("level"),
        rank.n_unique().over("prompt_id").alias("levels"),
        (rank.rank("min") - 1).over("prompt_id").alias("better"),
        (others - (rank.rank("max") - 1)).over("prompt_id").alias("worse"),
        others.over("prompt_id").alias("others"),
    )
    texts = []
    for candidate, level, levels, better, worse, other in counted.iter_rows():
        counts = {"better": better, "equal": other - better - worse, "worse": worse}
        pick = int(content_id(seed, "by_rank", candidate), 16)
        texts.append(reasons(template, score_line, score_of(level, levels, halves, scale), pick, scale, **counts))
    return texts


def reasons(template: str, score_line: str, score: float, pick: int, scale: Scale = OF_FIVE, **counts: int) -> str:
    """One judgement of `by_rank`."""
    *_, place = scale.verdict.finditer(score_line)
    before, after = score_line[: place.start(2)], score_line[place.end(2) :]
    if before.endswith("<") and after.startswith(">"):  # `<n>` shows the place; nobody writes the brackets
        before, after = before[:-1], after[1:]
    line = f"{before}{scale.written(score)}{after}"
    text = render(template, **counts, pick=pick, score_line=line)
    if (read := read_score(text, scale=scale)) != score:
        raise ParamsError(
            f"a judgement by judge_seed.path is read as the score {read}, expected {score:g}: "
            f"{text[-200:]!r}. End the template with {{{{ score_line }}}}"
        )
    return text
