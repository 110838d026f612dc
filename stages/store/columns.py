"""Columns and rules that several tables share."""

from __future__ import annotations

import polars as pl

from stages.store.contract import Column, Rule, among, judged, within

String, Int32, Float64, Strings = pl.String(), pl.Int32(), pl.Float64(), pl.List(pl.String())

FINISH = among("finish_reason", "stop", "length")
FINISH_REASON = Column("finish_reason", String, "`stop`, or `length` when it was cut off")
TOKENS = Column("tokens", Int32, "length in tokens, thought included; null where a server tells none", nullable=True)
THOUGHT = Column("thought", String, "what the model thought before it answered, with its marks; or null", nullable=True)
ANSWERED = Column("prompt_id", String, "the prompt it answers")
AUTHOR = Column("model", String, "who answered")
JUDGE = Column("judge", String, "model that judged; of the seed also `ranks` or `people`")
JUDGEMENT = (
    Column("candidate_id", String, "the answer that was judged"),
    ANSWERED,
    JUDGE,
    Column("k", Int32, "0 .. K-1"),
    Column("text", String, "all the judge said; no score is read in a thought"),
    FINISH_REASON,
    Column(
        "score",
        Float64,
        "the number that the judge wrote, on `judge.scale`; null when none could be read, never 0, never -1",
        nullable=True,
    ),
    Column(
        "expected",
        Float64,
        "mean score by the judge's probabilities of the whole scores in its place; null when not asked for or unknown",
        nullable=True,
    ),
)

JUDGEMENT_RULES = (
    within("k", 0),
    FINISH,
    judged("score", halves=True),
    judged("expected"),
    Rule(
        "a judgement that was cut off has no score", (pl.col("finish_reason") != "length") | pl.col("score").is_null()
    ),
)
