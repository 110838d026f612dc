"""Tables of what was measured: held-out answers, judgements of ranked answers, matches. `tables` has them all."""

from __future__ import annotations

import polars as pl

from stages.store.columns import (
    ANSWERED,
    AUTHOR,
    FINISH,
    FINISH_REASON,
    JUDGE,
    JUDGEMENT,
    JUDGEMENT_RULES,
    THOUGHT,
    TOKENS,
    Float64,
    Int32,
    String,
    Strings,
)
from stages.store.contract import Column, Rule, Table, among, judged, within

DECODING = among("decoding", "greedy", "sampled")
DECODED = Column("decoding", String, "`greedy` or `sampled`")
HELD_OUT = Column("prompt_id", String, "the held-out prompt")
ANSWERS = Table(
    "answers",
    "data/EVAL/{model}/answers.parquet",
    "Answers of one model to the held-out prompts",
    "evaluate",
    ("prompt_id", "decoding"),
    (
        HELD_OUT,
        AUTHOR,
        DECODED,
        Column("response", String, "the answer"),
        FINISH_REASON,
        TOKENS,
        Column("oracle_score", Float64, "0 to 5 by a checker, where the world has one", nullable=True),
        Column("points", Strings, "names of the rubric's points that the checker gave", nullable=True),
        THOUGHT,
    ),
    (DECODING, FINISH, within("tokens", 0), within("oracle_score", 0, 5)),
)
JUDGED = Table(
    "judged",
    "data/EVAL/{model}/judge.parquet",
    "One model's scores of the held-out ranked answers",
    "evaluate",
    ("candidate_id",),
    (
        Column("candidate_id", String, "the ranked answer"),
        ANSWERED,
        JUDGE,
        Column("human_rank", Int32, "people's rank; 0 is best"),
        Column("score", Float64, "mean of the judgements that could be read; null if none could", nullable=True),
        Column("parsed", Int32, "how many of the K judgements could be read"),
    ),
    (judged("score"), within("human_rank", 0), within("parsed", 0)),
    may_be_empty=True,  # data without ranks
)
TEST_JUDGEMENTS = Table(
    "test_judgements",
    "data/EVAL/{model}/judgements.parquet",
    "One model's judgements of the held-out ranked answers, of which `judged` has the means",
    "evaluate",
    ("candidate_id", "k"),
    JUDGEMENT,
    JUDGEMENT_RULES,
    may_be_empty=True,  # data without ranks
)
VERDICT = (
    HELD_OUT,
    Column("model", String, "the first model"),
    Column("other", String, "the second model"),
    DECODED,
    Column("judge", String, "`oracle`, or the model that compared them"),
    Column(
        "first",
        String,
        "verdict with the first model's answer shown first: `win`, `tie`, `lose`; null if unreadable",
        nullable=True,
    ),
    Column("second", String, "verdict with it shown second, from the first model's view", nullable=True),
    Column("verdict", String, "both agree, else `tie`; null if either is unreadable", nullable=True),
)
VERDICT_RULES = (
    DECODING,
    Rule("model and other are two models", pl.col("model") != pl.col("other")),
    *(among(name, "win", "tie", "lose") for name in ("first", "second", "verdict")),
    Rule(
        "verdict is what first and second agree on, else tie; null where either is",
        pl.when(pl.col("first").is_null() | pl.col("second").is_null())
        .then(pl.col("verdict").is_null())
        .otherwise(
            pl.col("verdict").eq_missing(
                pl.when(pl.col("first") == pl.col("second")).then("first").otherwise(pl.lit("tie"))
            )
        ),
    ),
)
VERDICTS = Table(
    "verdicts",
    "data/EVAL/head_to_head/{model}.parquet",
    "Head to head of two models on the held-out prompts",
    "head_to_head",
    ("model", "other", "prompt_id", "decoding"),
    VERDICT,
    VERDICT_RULES,
)
TOURNAMENT = Table(
    "tournament",
    "data/EVAL/tournament/{model}.parquet",
    "Every model head to head with every other, by one judge, after whom the file is named; `constant` is one text as "
    "the answer to every prompt",
    "srlm head-to-head",
    ("model", "other", "prompt_id", "decoding"),
    VERDICT,
    VERDICT_RULES,
)
BANK = Table(
    "bank",
    "data/EVAL/bank.parquet",
    "Answers whose order is known, drawn once: what judges are compared on, whatever becomes of the models",
    "srlm bank",
    ("candidate_id",),
    (
        Column("candidate_id", String, "the ranked answer's id, or a hash of prompt and response"),
        ANSWERED,
        Column("prompt", String, "its text"),
        Column("response", String, "the answer"),
        Column("authors", Strings, "`people`, or the models that gave this answer"),
        Column("source", String, "`ranked` by people and held out, or `candidates` of models in the checker's order"),
        Column("human_rank", Int32, "place in that order; 0 is best, places can be equal"),
        Column("oracle_score", Float64, "0 to 5 by the checker; null for what people ranked", nullable=True),
    ),
    (among("source", "ranked", "candidates"), within("human_rank", 0), within("oracle_score", 0, 5)),
)
BANK_SCORES = Table(
    "bank_scores",
    "data/EVAL/bank/{model}.parquet",
    "One judge's scores of the answers in the bank",
    "srlm bank",
    ("candidate_id",),
    JUDGED.columns,
    JUDGED.rules,
)
