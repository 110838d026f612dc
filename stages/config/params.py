"""All of `params.yaml` as one frozen object. Each unknown, missing, mistyped or impossible entry is named.

A section is named after the stage that reads it. `engine` (what can change a text) is tracked by every generating stage
in `dvc.yaml`; `hardware` (what only changes speed) by none.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator

from stages.config.engines import EngineParams
from stages.config.machine import Hardware
from stages.config.pair_sections import BuildPairs, JudgePairs
from stages.config.sections import (
    BuildEft,
    Choose,
    Evaluate,
    Judge,
    JudgeCandidates,
    JudgeSeed,
    Publish,
    SampleCandidates,
    SplitSeed,
    Tinyworld,
    TrainDpo,
    TrainSft,
    Warnings,
    WritePrompts,
)
from stages.config.shared import Count, Day, Name, Section, Source
from stages.console.errors import ParamsError

ROLE_ENGINES = {
    "judge_seed": ("judge_seed", "engine"),
    "write_prompts": ("write_prompts", "engine"),
    "judge_candidates": ("judge_candidates", "engine"),
    "choose": ("choose", "engine"),
    "head_to_head": ("evaluate", "judge_engine"),
}
"""Stages that may have an engine of their own, and where it stands."""


PREVIOUS = "previous"
"""Stands for the model that Mt comes of, M(t-1), where a model is named for all AIFTs."""


class Base(Section):
    """A model that is made or copied here before the method begins. Nobody else keeps it, so a DVC remote gets it with
    all else."""

    source: Literal["tinyworld", "local", "gguf", "random"]
    """`local`: a folder as save_pretrained writes it; a LoRA adapter in it is merged. `gguf`: one .gguf file, which is
    dequantized. `random`: a small randomly initialised Llama, to try a pipeline out."""
    path: str
    """What DVC watches: the folder of a local model, the .gguf file; for other sources the code that makes it."""

    @model_validator(mode="before")
    @classmethod
    def _is_made_here(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("source") in ("hub", "server"):
            raise ValueError(
                f"source {data['source']} is for models that others keep: write the entry under external, without path"
            )
        return data


class External(Source):
    """A model that others keep and version; it is not pushed to a DVC remote a second time."""

    source: Literal["hub", "server"]
    """`server`: a model that an OpenAI-compatible server has; `repo` is its name there, `revision` null or an id of the
    weights behind the name, which you give: texts that were cached under another id are not used. It can write or
    judge, never be trained."""


class Aift(Section):
    """How AIFT(Mt), whose name is Mt's, is made, where iterations differ."""

    writer: Name
    """Model that writes the new prompts."""
    judge: Name
    """Model that judges the answers; Mt itself in the paper."""
    prompts: Count
    """New prompts that pass the filters."""
    rho: Annotated[float, Field(ge=0, lt=0.5)] | None
    """Length control of Meta-Rewarding: share of a prompt's range of scores that counts as best, and as worst; null
    switches it off."""


class Step(Section):
    """Mt+1, whose name this is: DPO from `prev` on AIFT(prev)."""

    prev: Name
    """Model that training starts from."""


class PositiveOnly(Section):
    """The paper's variant without rejected answers (2.3): SFT from M0 on IFT, EFT and those answers of AIFT(`aift`)
    that got a perfect mean score."""

    aift: Name
    """Whose AIFT."""


class Drift(Section):
    """AIFT(model) is compared with AIFT(`since`)."""

    since: Name
    """An earlier model that has an AIFT."""


class Match(Section):
    """Two models head to head on the held-out prompts."""

    model: Name
    """One of `evaluated`; wins and losses are told from its side."""
    other: Name
    """Another of `evaluated`."""


class Params(Section):
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    """Of all draws: with the same params on the same machine a run gives the same bytes."""
    template_date: Day
    """The day that chat templates with a clock write (Llama 3 does), YYYY-MM-DD: one in a store, else a prompt would be
    another text tomorrow."""
    base: dict[Name, Base]
    """Models that are made or copied here before the method begins; M0 stands here or under `external`."""
    external: dict[Name, External]
    """Models that others keep and version."""
    aift: dict[Name, Aift]
    """AIFT(Mt) by the name of Mt."""
    models: dict[Name, Step]
    """M2, M3, ...: trained by DPO."""
    positive_only: dict[Name, PositiveOnly]
    """Models of the variant without rejected answers; mostly empty."""
    drift: dict[Name, Drift]
    """Which AIFT is compared with which before it."""
    evaluated: Annotated[list[Name], Field(min_length=1)]
    """Models that answer and judge the held-out prompts."""
    head_to_head: dict[Name, Match]
    """Matches, by a name that is no model's."""
    engine: EngineParams
    """What generates texts, where a role has no engine of its own."""
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
    judge_pairs: JudgePairs
    train_dpo: TrainDpo
    choose: Choose
    evaluate: Evaluate
    warn: Warnings
    publish: Publish

    @property
    def input_models(self) -> dict[str, Base | External]:
        """Models that the method does not train: M0, and optionally separate writers and judges."""
        return {**self.base, **self.external}

    @property
    def world(self) -> Tinyworld:
        """The section `tinyworld`. Raises ParamsError where it is null and something comes from there."""
        if self.tinyworld is None:
            raise ParamsError("tinyworld is null, and a source is tinyworld. Copy the section from: srlm profile tiny")
        return self.tinyworld

    def ancestors(self, model: str) -> list[str]:
        """The models that `model` comes of by DPO, nearest first: it learnt from the AIFT of each."""
        chain: list[str] = []
        while (step := self.models.get(model)) and step.prev not in chain:
            chain.append(model := step.prev)
        return chain

    def rejected_from(self, model: str) -> str | None:
        """The older model whose answers may be rejected in AIFT(model)."""
        return self._older(self.build_pairs.rejected_from, model)

    @property
    def score_points(self) -> int:
        """How far apart the worst and the best score of AIFT are: of `judge.scale`, or of shares of wins."""
        return 1 if self.judge_candidates.kind == "pairwise" else self.judge.scale.max - self.judge.scale.min

    def second_judge(self, model: str) -> str | None:
        """The model that judges AIFT(model) once more."""
        name = self.judge_candidates.second_judge
        second = model if name == model else self._older(name, model)
        return None if second == self.aift[model].judge else second

    def _older(self, name: str | None, model: str) -> str | None:
        """`name`, or the model that `previous` stands for, where `model` comes of it. Its weights are recorded in the
        lineage of `model`, which DVC watches."""
        chain = self.ancestors(model)
        if name == PREVIOUS:
            return chain[0] if chain else None
        return name if name in (*chain, "M0") else None

    @property
    def trained_models(self) -> list[str]:
        """SFT and M1, which every run trains, and those of `models` and `positive_only`."""
        return ["SFT", "M1", *self.models, *self.positive_only]

    @model_validator(mode="before")
    @classmethod
    def _roles_say_what_differs(cls, data: Any) -> Any:
        return merge_role_engines(data)

    def engine_of(self, stage: str) -> tuple[str, EngineParams]:
        """The engine that `stage` asks, its own or the section `engine`, with the key that says so."""
        if place := ROLE_ENGINES.get(stage):
            section, key = place
            if own := getattr(getattr(self, section), key):
                return f"{section}.{key}", own
        return "engine", self.engine

    def engine_for(self, stage: str, model: str | None = None) -> EngineParams:
        """The engine that `stage` (write_prompts, judge_candidates, head_to_head, ...) asks.

        `evaluate` asks `model`: what only a server has is there to judge, so the judge's own engine reaches it.
        """
        served = model is not None and getattr(self.external.get(model), "source", None) == "server"
        return self.engine_of("judge_candidates" if stage == "evaluate" and served else stage)[1]


def merge_role_engines(data: dict[str, Any]) -> dict[str, Any]:
    """An engine of a role holds what differs from the section `engine`."""
    engine = data.get("engine")
    for section, key in ROLE_ENGINES.values():
        role = data.get(section)
        if isinstance(role, dict) and isinstance(role.get(key), dict) and isinstance(engine, dict):
            data = data | {section: role | {key: engine | role[key]}}
    return data
