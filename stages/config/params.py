"""`params.yaml` as one frozen object. An unknown, missing, mistyped or impossible entry is an error that names it.

A section is named after the stage that reads it. `engine` (what can change a text) is tracked by every generating stage
in `dvc.yaml`; `hardware` (what only changes speed) by none.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from stages.config.engines import EngineParams
from stages.config.machine import Hardware
from stages.config.shared import Count, Decoding, Name, Positive, Section, Share, Training
from stages.config.sources import Base, External, Source
from stages.console.errors import ParamsError


class Aift(Section):
    """How AIFT(Mt) is made, where iterations differ."""

    writer: Name
    judge: Name
    """Mt itself in the paper."""
    prompts: Count
    rho: Annotated[float, Field(ge=0, lt=0.5)] | None
    """Length control of Meta-Rewarding; null switches it off."""


class Step(Section):
    prev: Name


class PositiveOnly(Section):
    """The paper's variant without rejected answers (2.3): SFT from M0 on IFT, EFT and those answers of AIFT(`aift`)
    that got a perfect mean score."""

    aift: Name


class Drift(Section):
    """AIFT(model) is compared with AIFT(`since`)."""

    since: Name


class Match(Section):
    model: Name
    other: Name


class Tinyworld(Section):
    """The embedded default world and its M0."""

    seed: int
    """Decides the split of the world's prompts into train and test, apart from the run's seed."""
    steps: Count
    docs_per_step: Count
    lr: Positive


class SplitSeed(Source):
    source: Literal["tinyworld", "file", "hub"]
    path: str
    """What DVC watches: the file; for other sources the code that makes or fetches the rows."""
    lang: str
    ift: Count
    ift_valid: Annotated[int, Field(ge=0)]
    eft_prompts: Count
    test_prompts: Count
    test_ranked: Count


class TrainSft(Training):
    repeat_ift: Count
    """How often IFT stands in an epoch beside one pass over EFT."""


class TrainDpo(Training):
    beta: Positive
    nll_weight: Annotated[float, Field(ge=0)]
    """Weight of the negative log-likelihood of `chosen` beside the DPO loss; 0 is the paper's."""


class Judge(Section):
    template: str
    """File of the LLM-as-a-Judge prompt; holds `{{ prompt }}` and `{{ response }}`."""


class JudgeSeed(Decoding):
    source: Literal["model", "written"]
    """`model`: the SFT baseline judges (the paper). `written`: judgements that people wrote (the tiny world's
    demonstrators)."""
    k: Count


class BuildEft(Section):
    agreement: Literal["strict", "weak"]
    """`strict`: no pair that people ranked apart may be tied in score. `weak`: ties allowed, inversions not."""
    tries: Literal["first", "mean"]
    """Of the K judgements of each answer. `first`: the first of K tries that agrees is taken, so a random judge has K
    chances. `mean`: the mean scores must agree, and the judgement nearest to the mean is taken. The metrics hold the
    share of prompts that would agree by chance."""
    max_share_of_commonest_score: Share
    """The commonest score is thinned to at most this share of EFT."""


class WritePrompts(Decoding):
    engine: EngineParams | None
    """The writer's, where it differs from the section `engine`: any of its keys."""
    template: str
    chat: bool
    """Send the rendered template as a user message instead of text to continue."""
    ift_shots: Annotated[int, Field(ge=0)]
    new_shots: Annotated[int, Field(ge=0)]
    stop: list[str]
    rouge_l: Share
    """A new prompt whose ROUGE-L F-measure against a seed or accepted prompt is above this is dropped."""
    round: Count
    """Prompts asked for at a time; those accepted in a round are shots in the next."""
    max_rounds: Count


class SampleCandidates(Decoding):
    n: Count


class JudgeCandidates(Decoding):
    engine: EngineParams | None
    """The judge's, where it differs from the section `engine`: any of its keys."""
    k: Count
    score: Literal["sampled", "expected"]
    """`sampled`: the number that the judge wrote (the paper). `expected`: the mean of 0 to 5 under the judge's
    probabilities of them in its place."""


class BuildPairs(Section):
    signal: Literal["judge", "shuffled", "longest"]
    """`judge` is the method. The others are controls: judged scores dealt out at random, or length instead of score."""
    min_margin: Annotated[float, Field(ge=0)]
    """A pair is kept when chosen_score - rejected_score is above this."""


class Publish(Section):
    data_license: str
    """Of the seed data, as the Hub names licences: apache-2.0, cc-by-4.0, other."""
    model_license: str
    """Of the base model."""


class Warnings(Section):
    left_out: Share
    """Of the seed's first turns, or of the rows of a training as too long."""
    commonest_score: Share
    unreadable: Share
    pair_yield: Share
    distinct: Share
    """Warned below this share of different texts among the candidates."""
    length_growth: Positive
    """From one AIFT to the next, 0.3 = 30 % more tokens."""
    gap_shrink: Share
    distinct_shrink: Share


class Evaluate(Decoding):
    oracle: Literal["tinyworld", "none"]
    judge_k: Count
    judge_temperature: Annotated[float, Field(ge=0)]
    judge_max_tokens: Count
    judge_engine: EngineParams | None
    """Of the model that decides head to head, where it differs from the section `engine`: any of its keys."""
    compare_with: str
    """Who decides head to head: the folder of a model (`data/models/writer`), or the checker of the tiny world
    (`stages/tinyworld/oracle.py`)."""
    compare_max_tokens: Count
    bootstrap: Count


class Params(Section):
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    base: dict[Name, Base]
    external: dict[Name, External]
    aift: dict[Name, Aift]
    models: dict[Name, Step]
    positive_only: dict[Name, PositiveOnly]
    drift: dict[Name, Drift]
    evaluated: Annotated[list[Name], Field(min_length=1)]
    head_to_head: dict[Name, Match]
    engine: EngineParams
    hardware: Hardware
    tinyworld: Tinyworld | None
    """Null where nothing comes from the tiny world."""
    split_seed: SplitSeed
    train_sft: TrainSft
    judge: Judge
    judge_seed: JudgeSeed
    build_eft: BuildEft
    write_prompts: WritePrompts
    sample_candidates: SampleCandidates
    judge_candidates: JudgeCandidates
    build_pairs: BuildPairs
    train_dpo: TrainDpo
    evaluate: Evaluate
    warn: Warnings
    publish: Publish

    @property
    def input_models(self) -> dict[str, Base | External]:
        """Models that the method does not train: M0, and optionally separate writers and judges."""
        return {**self.base, **self.external}

    @model_validator(mode="before")
    @classmethod
    def _roles_say_what_differs(cls, data: Any) -> Any:
        """An engine of a role holds what differs from the section `engine`."""
        for section, key in (("write_prompts", "engine"), ("judge_candidates", "engine"), ("evaluate", "judge_engine")):
            role, engine = data.get(section), data.get("engine")
            if isinstance(role, dict) and isinstance(role.get(key), dict) and isinstance(engine, dict):
                data = data | {section: role | {key: engine | role[key]}}
        return data

    @property
    def world(self) -> Tinyworld:
        """The section `tinyworld`. Raises ParamsError where it is null and something comes from there."""
        if self.tinyworld is None:
            raise ParamsError("tinyworld is null, and a source is tinyworld. Copy the section from: srlm profile tiny")
        return self.tinyworld

    def engine_for(self, stage: str, model: str | None = None) -> EngineParams:
        """The engine that `stage` (write_prompts, judge_candidates, head_to_head, ...) asks: its own, where it names
        one, else the section `engine`.

        `evaluate` asks `model`: what only a server has is there to judge, so the judge's own engine reaches it.
        """
        served = model is not None and getattr(self.external.get(model), "source", None) == "server"
        own = {
            "write_prompts": self.write_prompts.engine,
            "judge_candidates": self.judge_candidates.engine,
            "head_to_head": self.evaluate.judge_engine,
            "evaluate": self.judge_candidates.engine if served else None,
        }
        return own.get(stage) or self.engine
