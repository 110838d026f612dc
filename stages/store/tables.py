"""Every table of the store, declared once: where it lies, its columns and their meaning, its key. Checked at every read
and write.

Beside its columns a table has rules between them: what no row may break. A rule whose columns are null says nothing.
Only four polars types are used (String, Int32, Float64, List(String)), so that parquet, DuckDB and the Hub agree.
Unknown is null, never 0 or -1. Text is plain: chat format is put on at the edge of engine and trainer. `data/README.md`
is generated from this file.
"""

from __future__ import annotations

import polars as pl

from stages.store.columns import ANSWERED as _ANSWERED
from stages.store.columns import AUTHOR as _AUTHOR
from stages.store.columns import FINISH as _FINISH
from stages.store.columns import FINISH_REASON as _FINISH_REASON
from stages.store.columns import JUDGEMENT as _JUDGEMENTS
from stages.store.columns import JUDGEMENT_RULES as _JUDGED
from stages.store.columns import THOUGHT as _THOUGHT
from stages.store.columns import TOKENS as _TOKENS
from stages.store.columns import Float64 as Float64
from stages.store.columns import Int32 as Int32
from stages.store.columns import String as String
from stages.store.columns import Strings as Strings
from stages.store.contract import Column as _c
from stages.store.contract import Rule as Rule
from stages.store.contract import Table as Table
from stages.store.contract import among as _among
from stages.store.contract import judged as _judged
from stages.store.contract import within as _range
from stages.store.evaluated import ANSWERS as ANSWERS
from stages.store.evaluated import BANK as BANK
from stages.store.evaluated import BANK_SCORES as BANK_SCORES
from stages.store.evaluated import JUDGED as JUDGED
from stages.store.evaluated import TEST_JUDGEMENTS as TEST_JUDGEMENTS
from stages.store.evaluated import TOURNAMENT as TOURNAMENT
from stages.store.evaluated import VERDICTS as VERDICTS

OF_LEVERS = ("inconsistent", "capped", "unjudged", "withdrawn")
FATES = ("chosen", "rejected", "between", "tied", "unreadable", "cut_off", "duplicate", *OF_LEVERS)
_PROMPT_ID = _c("prompt_id", String, "hash of the prompt")
_SOURCE = _c("source", String, "where it came from"), _c("source_id", String, "its id there")
_UNUSABLE = (
    "`cut_off` by the length limit; else `duplicate` of an earlier answer to the prompt; else `unreadable`, "
    "without a score"
)
_USABLE = (
    "usable: `chosen` or `rejected`, the pair; `between`, beside it; `tied`, no pair: margin not above "
    "`build_pairs.min_margin`, or the only one. With levers (docs/levers.md) `inconsistent` or `capped` where the "
    "prompt's pair was left out, `unjudged`, an older model's, and `withdrawn` where a person dropped it"
)
_IFT = (
    _c("ift_id", String, "hash of instruction and response"),
    _c("instruction", String, "first human turn"),
    _c("response", String, "its answer that people ranked best"),
    *_SOURCE,
)
_RANKED = (
    _c("candidate_id", String, "hash of prompt and response"),
    _PROMPT_ID,
    _c("prompt", String, "first human turn"),
    _c("response", String, "one of its answers"),
    _c("human_rank", Int32, "people's rank (source constraints: the checker's); 0 is best, ranks can be equal"),
    *_SOURCE,
)
IFT_TRAIN = Table(
    "ift", "data/IFT/train.parquet", "Instruction fine-tuning seed data (paper 2.1)", "split_seed", ("ift_id",), _IFT
)
IFT_VALID = Table(
    "ift_valid", "data/IFT/valid.parquet", "IFT rows held out to watch training", "split_seed", ("ift_id",), _IFT
)
RANKED = Table(
    "ranked",
    "data/EFT/ranked.parquet",
    "Human-ranked answers from which EFT is made",
    "split_seed",
    ("candidate_id",),
    _RANKED,
    (_range("human_rank", 0),),
    may_be_empty=True,  # data without ranks
)
RANKED_VALID = Table(
    "ranked_valid",
    "data/EFT/valid.parquet",
    "Human-ranked answers held out to evaluate the judge",
    "split_seed",
    ("candidate_id",),
    _RANKED,
    (_range("human_rank", 0),),
    may_be_empty=True,  # data without ranks
)
SEED_JUDGEMENTS = Table(
    "seed_judgements",
    "data/EFT/judgements.parquet",
    "Judgements of the human-ranked answers: by a model (the SFT baseline or another), by people's ranks, or by people",
    "judge_seed",
    ("candidate_id", "k"),
    _JUDGEMENTS,
    _JUDGED,
)
EFT = Table(
    "eft",
    "data/EFT/train.parquet",
    "Evaluation fine-tuning data: judging as instruction following (paper 2.1)",
    "build_eft",
    ("eft_id",),
    (
        _c("eft_id", String, "hash of instruction and response"),
        _c("candidate_id", String, "the ranked answer that is judged"),
        _c("instruction", String, "the rendered judge prompt"),
        _c("response", String, "the judgement to imitate: reasons, then the score line"),
        _c("score", Float64, "the score in it"),
        _c("human_rank", Int32, "people's rank of the answer"),
    ),
    (_judged("score"), _range("human_rank", 0)),
)
TEST_PROMPTS = Table(
    "test_prompts",
    "data/TEST/prompts.parquet",
    "Prompts held out to evaluate the writer; in no training data",
    "split_seed",
    ("prompt_id",),
    (_PROMPT_ID, _c("prompt", String, "first human turn"), *_SOURCE),
)
PROMPTS = Table(
    "prompts",
    "data/AIFT/{model}/prompts.parquet",
    "New prompts (paper 2.2, step 1); kept and dropped share one table, so that the loss can be queried",
    "write_prompts",
    ("prompt_id",),
    (
        _c("prompt_id", String, "hash of the prompt; for a repeat (always dropped) also of its order of arrival"),
        _c("model", String, "whose AIFT this is"),
        _c("prompt", String, "the new prompt"),
        _c("writer", String, "model that wrote it"),
        _c("shots", Strings, "ids of the examples shown: ift_id, then prompt_id of earlier new prompts"),
        _c("dropped", String, "why it was filtered; null = kept", nullable=True),
    ),
    (Rule("a prompt that was not dropped is not empty", pl.col("dropped").is_not_null() | (pl.col("prompt") != "")),),
)
CANDIDATES = Table(
    "candidates",
    "data/AIFT/{model}/candidates.parquet",
    "N answers to every kept prompt (paper 2.2, step 2); with `build_pairs.rejected_from` N of an older model's "
    "behind them",
    "sample_candidates",
    ("candidate_id",),
    (
        _c("candidate_id", String, "hash of prompt_id, model and n"),
        _ANSWERED,
        _AUTHOR,
        _c("n", Int32, "0 .. N-1; an older model's from N on"),
        _c("response", String, "the answer"),
        _FINISH_REASON,
        _TOKENS,
        _THOUGHT,
    ),
    (_range("n", 0), _FINISH, _range("tokens", 0)),
)
JUDGEMENTS = Table(
    "judgements",
    "data/AIFT/{model}/judgements.parquet",
    "K judgements of every different answer to a prompt: of equal texts the lowest n is judged, cut-off ones are not "
    "(paper 2.2, step 3); with `judge_candidates.second_judge` K of that judge behind them; with `kind: pairwise` a "
    "row for each comparison of an answer, its score the share won",
    "judge_candidates",
    ("candidate_id", "judge", "k"),
    _JUDGEMENTS,
    _JUDGED,
)
SCORES = Table(
    "scores",
    "data/AIFT/{model}/scores.parquet",
    "One score and one fate per candidate; the fates add up to the candidates",
    "build_pairs",
    ("candidate_id",),
    (
        _c("candidate_id", String, "the candidate"),
        _ANSWERED,
        _AUTHOR,
        _c(
            "score",
            Float64,
            "mean `score` (or `expected`, see params) of the judgements of its text, not rounded; null if none could "
            "be read, or it was cut off",
            nullable=True,
        ),
        _c("spread", Float64, "highest minus lowest readable score", nullable=True),
        _c("parsed", Int32, "how many judgements of its text could be read"),
        _c("fate", String, f"{_UNUSABLE}; else {_USABLE}"),
        _c(
            "tau",
            Float64,
            "Kendall's tau-b of the judge's and the second judge's scores of the prompt's answers; null without a "
            "second judge, or where one of them gives the same score to all",
            nullable=True,
        ),
    ),
    (
        _among("fate", *FATES),
        _range("score", 0),
        _range("spread", 0),
        _range("parsed", 0),
        Rule(
            "what is chosen, rejected, between or tied has a score, but for what was rejected unjudged",
            pl.col("score").is_not_null()
            | ~pl.col("fate").is_in(FATES[:4])
            | ((pl.col("fate") == "rejected") & (pl.col("parsed") == 0)),
        ),
        _range("tau", -1, 1),
        Rule("what is unreadable has no score", (pl.col("fate") != "unreadable") | pl.col("score").is_null()),
    ),
)
PAIRS = Table(
    "pairs",
    "data/AIFT/{model}/pairs.parquet",
    "AIFT(Mt): the preference pairs that train Mt+1 (paper 2.2, step 4)",
    "build_pairs",
    ("prompt_id", "chosen_id", "rejected_id"),
    (
        _c("prompt_id", String, "the prompt"),
        _c("model", String, "whose answers and judgements these are"),
        _c("prompt", String, "the prompt's text"),
        _c("chosen", String, "the best candidate's text"),
        _c("rejected", String, "the worst candidate's text"),
        _c("chosen_id", String, "candidate_id of chosen"),
        _c("rejected_id", String, "candidate_id of rejected"),
        _c("chosen_score", Float64, "its mean score, above rejected_score"),
        _c("rejected_score", Float64, "its mean score; null where it was taken unjudged", nullable=True),
        _c("chosen_thought", String, "what was thought before chosen, and is trained with it", nullable=True),
        _c("rejected_thought", String, "what was thought before rejected, and is trained with it", nullable=True),
        _c("rejected_by", String, "the older model that wrote rejected; null: `model` did", nullable=True),
        _c(
            "reversed",
            Int32,
            "1: trained the other way round (`build_pairs.consistency`, `build_pairs.reviews`); or null",
            nullable=True,
        ),
    ),
    (
        Rule("chosen_score is above rejected_score", pl.col("chosen_score") > pl.col("rejected_score")),
        _range("rejected_score", 0),
        Rule("reversed is 0, 1 or null", pl.col("reversed").is_in([0, 1])),
        Rule("chosen and rejected are two texts", pl.col("chosen") != pl.col("rejected")),
        Rule("chosen_id and rejected_id are two answers", pl.col("chosen_id") != pl.col("rejected_id")),
    ),
)
JUDGE_PAIRS = Table(
    "judge_pairs",
    "data/AIFT/{model}/judge_pairs.parquet",
    "Pairs of Mt's judgements of answers whose order is known without it, trained beside AIFT(Mt)'s pairs of answers; "
    "empty where `judge_pairs.source` is null, as in the paper",
    "build_judge_pairs",
    ("candidate_id", "prompt_id"),
    (
        _c("candidate_id", String, "the answer that is judged: of `ranked` (source `eft`), else of `candidates`"),
        _c("prompt_id", String, "the prompt under which it is judged, not always the one that it answers"),
        _c("other_id", String, "the answer that it is compared with; null with `meta_judge`", nullable=True),
        _c(
            "source",
            String,
            "what says which is better: `eft`, people's ranks; `changed_prompt`; `meta_judge`, Mt",
        ),
        _c("known", String, "the judged answer is the `better` or the `worse` one; or null", nullable=True),
        _c("prompt", String, "the rendered judge prompt"),
        _c("chosen", String, "a judgement on the right side of other_score, or the best one by Mt"),
        _c("rejected", String, "a judgement on the wrong side of it, or the worst one"),
        _c("chosen_score", Float64, "the score in chosen"),
        _c("rejected_score", Float64, "the score in rejected"),
        _c("other_score", Float64, "mean score of the other answer; or null", nullable=True),
    ),
    (
        _among("source", "eft", "changed_prompt", "meta_judge"),
        _among("known", "better", "worse"),
        *(_judged(f"{name}_score") for name in ("chosen", "rejected", "other")),
        Rule(
            "chosen_score is on the right side of other_score, rejected_score on the wrong one",
            pl.when(pl.col("known") == "better")
            .then((pl.col("chosen_score") > pl.col("other_score")) & (pl.col("other_score") > pl.col("rejected_score")))
            .otherwise(
                (pl.col("chosen_score") < pl.col("other_score")) & (pl.col("other_score") < pl.col("rejected_score"))
            ),
        ),
    ),
    may_be_empty=True,
)
REVIEWS = Table(
    "reviews",
    "data/REVIEW/{model}.parquet",
    "What people said of AIFT(Mt)'s pairs by hand: the last word of each counts where `build_pairs.reviews` is on",
    "srlm watch",
    ("prompt_id", "chosen_id", "rejected_id", "who", "reviewed_at"),
    (
        _c("prompt_id", String, "the pair's prompt"),
        _c("chosen_id", String, "candidate_id that the judge has chosen"),
        _c("rejected_id", String, "candidate_id that the judge has rejected"),
        _c("decision", String, "`agree` with the judge, `swap` the sides, or `drop` the pair"),
        _c("who", String, "the person: git's user.name, else the name on this machine"),
        _c("reviewed_at", String, "when, UTC, ISO 8601 with microseconds"),
    ),
    (
        _among("decision", "agree", "swap", "drop"),
        Rule("chosen_id and rejected_id are two answers", pl.col("chosen_id") != pl.col("rejected_id")),
        Rule("who is not empty", pl.col("who") != ""),
    ),
)
TABLES: tuple[Table, ...] = (
    IFT_TRAIN,
    IFT_VALID,
    RANKED,
    RANKED_VALID,
    TEST_PROMPTS,
    SEED_JUDGEMENTS,
    EFT,
    PROMPTS,
    CANDIDATES,
    JUDGEMENTS,
    SCORES,
    PAIRS,
    JUDGE_PAIRS,
    REVIEWS,
    ANSWERS,
    JUDGED,
    TEST_JUDGEMENTS,
    VERDICTS,
    TOURNAMENT,
    BANK,
    BANK_SCORES,
)
