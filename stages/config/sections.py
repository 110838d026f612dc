"""Sections of params.yaml, one for each stage that has settings of its own, in the order of the run."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stages.config.engines import EngineParams
from stages.config.shared import (
    Count,
    Decoding,
    Name,
    NotNegative,
    Number,
    Positive,
    Rate,
    Section,
    Share,
    Source,
    Temperature,
    Tokens,
    Training,
    Tries,
)

# --- Seed ---


class Tinyworld(Section):
    """The embedded default world and its M0."""

    seed: int
    """Decides the split of the world's prompts into train and test, apart from the run's seed."""
    steps: Annotated[int, Field(ge=1, le=10**6)]
    """Optimizer steps of M0's pretraining."""
    docs_per_step: Annotated[int, Field(ge=1, le=10**4)]
    """Documents of the world's corpus in one step."""
    lr: Rate
    """Highest learning rate of the pretraining."""


class SplitSeed(Source):
    source: Literal["tinyworld", "file", "hub"]
    """`tinyworld`: written by the embedded world's demonstrators. `file`: one's own answers. `hub`: a dataset on
    the Hugging Face Hub."""
    path: str
    """What DVC watches: the file; for other sources the code that makes or fetches the rows."""
    config: str | None
    """Of a dataset on the Hub: which of its configurations; null for its one or default."""
    split: str | None
    """Of a dataset on the Hub: which of its splits; null for all."""
    format: Literal["auto", "open_assistant", "ranked_lists", "scored_answers", "pairs", "instructions", "chat"]
    """What the rows are (docs/data.md); `auto` guesses where it is plain, and tells."""
    columns: dict[str, str] | None
    """Our name for a field -> what the data call it, where that is not guessed: {prompt: question}; null: all are."""
    lang: Annotated[str, Field(min_length=1)] | None
    """Only prompts of this language are read, as the data name it: en. It also decides how new prompts are filtered and
    compared: Self-Instruct's rules for English, those of Unicode for others. Null, or data that name no language: all
    are read."""
    near_duplicates: Annotated[float, Field(ge=0.1, le=1)]
    """Prompts with a ROUGE-L F-measure above this are in one part of the split only, and a new prompt is not that like
    a held-out one; 1 looks for the same text alone."""
    ift: Count
    """Rows of IFT: prompts with the answer that people ranked best."""
    ift_valid: Count
    """Rows of IFT that are held out to watch training."""
    eft_prompts: Count
    """Prompts whose ranked answers are judged to make EFT."""
    eft_constraints: Number
    """How many prompts with constraints stand in EFT's part beside them: they once more, several times where more are
    wanted, with one of people's answers, edited so that all are kept, and so that some are not: ranks by the checker of
    constraints, where people's say nothing of them. In English; wants the extra eval."""
    test_prompts: Count
    """Prompts held out to evaluate the writer; in no training data."""
    test_ranked: Count
    """Prompts with ranked answers held out to evaluate the judge."""

    @model_validator(mode="after")
    def _belongs_to_the_source(self) -> SplitSeed:
        if self.source != "hub" and (self.config or self.split):
            raise ValueError(f"source {self.source} has no config and no split: set both to null")
        if self.source == "tinyworld" and (self.format != "auto" or self.columns):
            raise ValueError("source tinyworld reads no rows: set format to auto and columns to null")
        return self


class TrainSft(Training):
    repeat_ift: Annotated[int, Field(ge=1, le=1000)]
    """How often IFT stands in an epoch beside one pass over EFT."""
    ift_max_length: Annotated[int, Field(ge=8, le=10**9)] | None
    """Where IFT's rows are to be shorter than `max_length`: answers longer than `sample_candidates.max_tokens` teach a
    model to write what is cut off there, and EFT's rows hold an answer, its question and the judge prompt. null:
    `max_length` holds for both."""


class Scale(Section):
    min: Annotated[int, Field(ge=0, le=1000)]
    """The worst score."""
    max: Annotated[int, Field(ge=1, le=1000)]
    """The best score."""
    letters: Annotated[str, Field(pattern="^[A-Z]{2,26}$")] | None
    """Of a multiple-choice prompt: the letters that are read in the place of `min` to `max`, the worst first, as EDCBA
    for 1 to 5. null: numbers."""

    @model_validator(mode="after")
    def _counts_up(self) -> Scale:
        if self.max <= self.min:
            raise ValueError(f"expected a max above the min, seen min {self.min} and max {self.max}")
        if self.letters is not None and not len(self.letters) == len({*self.letters}) == self.max - self.min + 1:
            number = self.max - self.min + 1
            raise ValueError(f"expected {number} different letters for {self.min} to {self.max}, seen {self.letters}")
        return self


class Judge(Section):
    template: str
    """File of the LLM-as-a-Judge prompt; holds `{{ prompt }}` and `{{ response }}`, and asks for a line
    `Score: <n>`."""
    scale: Scale
    """Of the scores that it asks for; halves of numbers are read, too. Points of other keys, as
    `build_pairs.min_margin`, are of it."""


class JudgeSeed(Decoding):
    source: Literal["model", "judge", "ranks", "written"]
    """`model`: the SFT baseline judges (the paper). `judge`: the model that `judge` names. `ranks`: people's ranks are
    turned into judgements, without a model. `written`: judgements that people wrote (the tiny world's
    demonstrators)."""
    judge: Name | None
    """Model of `base` or `external` that judges where source is judge; else null."""
    path: str
    """What DVC watches: data/models/SFT, or the folder of `judge`; with ranks the template of the reasons,
    stages/templates/judge_by_rank.jinja or one of yours; with written the code that writes."""
    engine: EngineParams | None
    """The judge's, where it differs from the section `engine`: any of its keys."""
    k: Tries
    """Judgements of each ranked answer by a model."""
    answers_per_prompt: Annotated[int, Field(ge=2, le=1000)] | None
    """Ranked answers of each prompt that are judged, drawn by seed, two of them ranked apart; null judges all. The
    order of many answers is hardly ever right as a whole."""

    @property
    def model(self) -> str | None:
        """Name of the model that judges; None where none does."""
        return {"model": "SFT", "judge": self.judge}.get(self.source)


class BuildEft(Section):
    agreement: Literal["strict", "weak", "tau"]
    """`strict`: no pair that people ranked apart may be tied in score. `weak`: ties allowed, inversions not. `tau`:
    some pairs may be inverted, as many as `tau` allows."""
    tau: Annotated[float, Field(ge=-1, le=1)]
    """Least Kendall's tau-b of a prompt's scores with people's order, where agreement is tau: 1 is the same order, 0
    none, -1 the reverse."""
    tries: Literal["first", "mean"]
    """Of the K judgements of each answer. `first`: the first of K tries that agrees is taken, so a random judge has K
    chances. `mean`: the mean scores must agree, and the judgement nearest to the mean is taken. The metrics hold the
    share of prompts that would agree by chance."""
    max_share_of_commonest_score: Annotated[float, Field(ge=0.1, le=1)]
    """The commonest score is thinned to at most this share of EFT; there are eleven scores, 0 to 5 in halves, so that
    less than about a tenth cannot be reached. 1 thins nothing."""


# --- AIFT(Mt) ---


class WritePrompts(Decoding):
    engine: EngineParams | None
    """The writer's, where it differs from the section `engine`: any of its keys."""
    template: str
    """File of the writer's prompt; lists the demonstrations, `shots`."""
    chat: bool
    """Send the rendered template as a user message instead of text to continue."""
    ift_shots: Annotated[int, Field(ge=0, le=100)]
    """Demonstrations from IFT in each request."""
    new_shots: Annotated[int, Field(ge=0, le=100)]
    """Demonstrations from prompts that were accepted before; IFT fills in until there are enough."""
    stop: list[Annotated[str, Field(min_length=1)]]
    """Texts that end a new prompt; they are not part of it."""
    rouge_l: Annotated[float, Field(ge=0.1, le=1)]
    """A new prompt whose ROUGE-L F-measure against a seed or accepted prompt is above this is dropped; 1 drops none."""
    round: Annotated[int, Field(ge=1, le=10**5)]
    """Prompts asked for at a time; those accepted in a round are shots in the next."""
    max_rounds: Annotated[int, Field(ge=1, le=10**5)]
    """Rounds after which the stage gives up."""
    constraints: Annotated[float, Field(ge=0, le=1)]
    """Share of the new prompts that ask for something beside that can be seen in an answer, as with
    `evaluate.oracle: constraints`; 0 adds none."""


class SampleCandidates(Decoding):
    n: Annotated[int, Field(ge=2, le=10_000)]
    """Answers to each prompt; a pair needs two."""


class JudgeCandidates(Decoding):
    engine: EngineParams | None
    """The judge's, where it differs from the section `engine`: any of its keys."""
    kind: Literal["score", "pairwise"]
    """`score`: each answer gets a score by `judge.template` (the paper). `pairwise`: each two answers to a prompt are
    compared in both orders by stages/templates/compare.jinja, where they disagree it is a tie; a score is the share of
    wins, 0 to 1. EFT and `evaluate` score all the same."""
    comparisons: Count | None
    """Of a prompt's answers at most so many, each answer as often as any; null: each two. Where kind is pairwise."""
    k: Tries
    """Judgements of each answer; its score is their mean. A comparison is made once: 1 where kind is pairwise."""
    score: Literal["sampled", "expected"]
    """`sampled`: the number that the judge wrote (the paper). `expected`: the mean of 0 to 5 under the judge's
    probabilities of them in its place."""
    second_judge: Name | None
    """A model that judges the same answers once more, which gives Kendall's tau per prompt and decides nothing by
    itself: a model that Mt comes of, `previous` for M(t-1), or Mt where another one judges. AIFTs of which it is none
    of these have no second judge. null: none has."""


# --- Mt+1, and what we got ---


class Replay(Section):
    """Texts to imitate, mostly learnt before, in every step of DPO beside the pairs."""

    eft: Annotated[float, Field(ge=0, le=100)]
    """Weight of the negative log-likelihood of EFT's judgements, per token; 0: none, as in the paper."""
    ift: Annotated[float, Field(ge=0, le=100)]
    """The same of IFT's responses."""
    judge_pairs: Annotated[float, Field(ge=0, le=100)]
    """The same of the chosen judgements of `judge_pairs`: a negative log-likelihood of their own, beside `nll_weight`
    of all pairs."""
    rows: Annotated[int, Field(ge=1, le=10**6)]
    """How many of each that has a weight in one step, drawn by seed without replacement until all were used."""
    order: Literal["known", "shuffled"]
    """Control: `shuffled` deals the scores of EFT's judgements out anew among them, by seed; their reasons stay."""

    @property
    def weights(self) -> dict[str, float]:
        """Of what is replayed, by name."""
        weights = {"eft": self.eft, "ift": self.ift, "judge_pairs": self.judge_pairs}
        return {name: weight for name, weight in weights.items() if weight}


class TrainDpo(Training):
    loss: Literal["sigmoid", "sigmoid_norm", "ipo", "robust"]
    """TRL's losses of pairs (docs/training.md has the formulas). `sigmoid`: the paper's. `sigmoid_norm`: of rewards per
    token, so that length alone is no margin. `ipo`: a square around the margin 1/(2 beta) per token. `robust`: unbiased
    where a share `label_smoothing` of the pairs is the wrong way round."""
    beta: Annotated[float, Field(ge=1e-4, le=100)]
    """Of the DPO loss: how much it costs to leave the reference model."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)]
    """Share of pairs taken to be the wrong way round. With `sigmoid` this is conservative DPO (cDPO)."""
    nll_weight: Annotated[float, Field(ge=0, le=100)]
    """Weight of the negative log-likelihood of `chosen` beside the DPO loss; 0 is the paper's."""
    replay: Replay
    """EFT and IFT in every step, so that the judge does not forget while answers are trained."""


class Choose(Section):
    """Early stopping as in the paper (3.1): of the models on the way of a training the best on IFT_VALID's prompts."""

    every_steps: Count | None
    """Every so many optimizer steps, and after the last, the loss of IFT_VALID is measured, and the model is kept to be
    chosen from (paper: 200). null: neither; the last weights are the model."""
    by: Literal["oracle", "model"] | None
    """Who compares the answers of each model with those of the best before it. `model`: the one that `judge` names,
    in both orders. `oracle`: the tiny world's checker, for SFT and M1 alone: the loop never sees it, so M2 and later
    are their last weights. null: nobody, only the loss is measured."""
    judge: Name
    """Model of `base` or `external` that compares; not asked unless `by` is model."""
    engine: EngineParams | None
    """The judge's, where it differs from the section `engine`: any of its keys."""
    max_tokens: Tokens
    """Longest answer, in tokens; answers are greedy."""
    compare_max_tokens: Annotated[int, Field(ge=4, le=10**9)]
    """Longest comparison of two answers, in tokens."""


class Evaluate(Decoding):
    oracle: Literal["tinyworld", "constraints", "none"]
    """`tinyworld`: its checker scores the answers, which it can for its own prompts alone. `constraints`: the held-out
    prompts ask for something beside that can be checked (to be short, to use a word), and IFEval's checkers count what
    was kept; needs the extra eval. `none`: nobody knows the right answers."""
    judge_k: Tries
    """Judgements of each held-out ranked answer."""
    judge_temperature: Temperature
    """Of these judgements; 0 is greedy."""
    judge_max_tokens: Tokens
    """Longest of these judgements, in tokens."""
    judge_engine: EngineParams | None
    """Of the model that decides head to head, where it differs from the section `engine`: any of its keys."""
    compare_by: Literal["oracle", "model"]
    """Who decides head to head: the `oracle`, more points win, or the `model` that compare_with names."""
    compare_with: Name
    """The model that compares two answers, in both orders; not asked where the oracle decides."""
    compare_max_tokens: Annotated[int, Field(ge=4, le=10**9)]
    """Longest comparison of two answers, in tokens."""
    bootstrap: Annotated[int, Field(ge=10, le=1_000_000)]
    """Resamples of the prompts behind each 95 % interval."""


class Warnings(Section):
    """Limits that stop nothing: beyond them a stage prints a warning, which also stands in its metrics."""

    left_out: Share
    """Share of the seed's first turns that may be left out, or of the rows of a training as too long."""
    commonest_score: Share
    """Share of the judgements that one score may have."""
    unreadable: Share
    """Share of the judgements that may be without a readable score."""
    eft_yield: Share
    """Warned below this share of ranked prompts whose judgements agree with people."""
    pair_yield: Share
    """Warned below this share of prompts that give a pair."""
    distinct: Share
    """Warned below this share of different texts among the candidates."""
    length_growth: Positive
    """From one AIFT to the next, 0.3 = 30 % more tokens."""
    gap_shrink: Share
    """From one AIFT to the next, 0.5 = half of the gap between chosen and rejected scores is gone."""
    distinct_shrink: Share
    """From one AIFT to the next, 0.5 = half of the share of different texts is gone."""

    scores_apart: NotNegative
    """Warned where, from one iteration to the next, the mean score by the loop's judge rises by more than so many
    points of 5 while the checker's score of held-out answers falls by more."""


class Publish(Section):
    data_license: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+-]*$")]
    """Of the seed data, as the Hub names licences: apache-2.0, cc-by-4.0, other."""
    model_license: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9.+-]*$")]
    """Of the base model."""
