"""`params.yaml` as one frozen object. An unknown, missing, mistyped or impossible entry is an error that names it.

A section is named after the stage that reads it. `engine` (what can change a text) is tracked by every generating stage in `dvc.yaml`;
`hardware` (what only changes speed) by none.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal, TypeVar

from pydantic import Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from stages.config.explain import explain
from stages.config.shared import Count, Decoding, Name, Positive, Section, Share, Source, Training
from stages.console.errors import ParamsError

PARAMS = "params.yaml"
CHECKER = "stages/tinyworld/oracle.py"
T = TypeVar("T")


class Base(Source):
    """A model that we do not train with the method: M0, and optionally a separate writer."""

    source: Literal["tinyworld", "hub", "local", "random"]
    """`random`: a small randomly initialised Llama of the `random_model` shape, to try a pipeline out."""


class Aift(Section):
    """How AIFT(Mt) is made, where iterations differ."""

    writer: Name
    prompts: Count
    rho: Annotated[float, Field(ge=0, lt=0.5)] | None
    """Length control of Meta-Rewarding; null switches it off."""


class Step(Section):
    prev: Name


class Match(Section):
    model: Name
    other: Name


class EngineParams(Section):
    name: Literal["transformers", "scripted"]
    dtype: Literal["float32", "bfloat16", "float16"]
    max_context: Count
    """Tokens of prompt and answer together."""
    chunk: Count
    """Completions decoded together. Floating-point sums depend on it, so it is tracked, not under `hardware`."""


class Hardware(Section):
    device: Literal["auto", "cpu", "cuda"]
    threads: Annotated[int, Field(ge=0)]
    """CPU threads of torch; 0 = all cores. Recorded in lineage."""


class Tinyworld(Section):
    """The embedded default world and its M0."""

    seed: int
    """Decides the split of the world's prompts into train and test, apart from the run's seed."""
    steps: Count
    docs_per_step: Count
    lr: Positive


class SplitSeed(Source):
    source: Literal["tinyworld", "file", "hub"]
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
    """`model`: the SFT baseline judges (the paper). `written`: judgements that people wrote (the tiny world's demonstrators)."""
    k: Count


class BuildEft(Section):
    agreement: Literal["strict", "weak"]
    """`strict`: no pair that people ranked apart may be tied in score. `weak`: ties allowed, inversions not."""
    thin_commonest_to: Share
    """The commonest score is thinned to at most this share of EFT."""


class WritePrompts(Decoding):
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
    k: Count


class BuildPairs(Section):
    signal: Literal["judge", "shuffled", "longest"]
    """`judge` is the method. The others are controls: judged scores dealt out at random, or length instead of score."""
    min_margin: Annotated[float, Field(ge=0)]
    """A pair is kept when chosen_score - rejected_score is above this."""


class Warnings(Section):
    commonest_score: Share
    unreadable: Share
    pair_yield: Share


class Evaluate(Decoding):
    oracle: Literal["tinyworld", "none"]
    judge_k: Count
    judge_temperature: Annotated[float, Field(ge=0)]
    judge_max_tokens: Count
    compare_with: str
    """Who decides head to head: the folder of a model (`data/models/writer`), or the checker of the tiny world (`stages/tinyworld/oracle.py`)."""
    compare_max_tokens: Count
    bootstrap: Count


class Params(Section):
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    base: dict[Name, Base]
    aift: dict[Name, Aift]
    models: dict[Name, Step]
    evaluated: Annotated[list[Name], Field(min_length=1)]
    head_to_head: dict[Name, Match]
    engine: EngineParams
    hardware: Hardware
    tinyworld: Tinyworld
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

    @model_validator(mode="after")
    def _loops_hold_together(self) -> Params:
        if "M0" not in self.base:
            raise ValueError("base needs an entry M0")
        made = {*self.base, "SFT", "M1", *self.models}
        for name, step in self.models.items():
            if name in {*self.base, "SFT", "M1"} or name == step.prev:
                raise ValueError(
                    f"models.{name} cannot be trained from {step.prev}: {'it is itself' if name == step.prev else f'{name} is made by another stage'}"
                )
            if step.prev not in self.aift:
                raise ValueError(f"models.{name} is trained on AIFT({step.prev}): add {step.prev} to aift")
        for where, name in [
            *((f"aift.{k}.writer", a.writer) for k, a in self.aift.items()),
            *((f"aift.{k}", k) for k in self.aift),
            *(("evaluated", e) for e in self.evaluated),
            *((f"head_to_head.{k}", x) for k, m in self.head_to_head.items() for x in (m.model, m.other)),
        ]:
            if name not in made:
                raise ValueError(f"{where} names {name}, which nothing makes; known models: {', '.join(sorted(made))}")
        for name, match in self.head_to_head.items():
            if name in made:
                raise ValueError(f"head_to_head.{name} has the name of a model, and so of its metrics file")
            for side in (match.model, match.other):
                if side not in self.evaluated:
                    raise ValueError(f"head_to_head.{name} compares {side}, which is not in evaluated")
        judge = self.evaluate.compare_with
        if judge not in {CHECKER, *(f"data/models/{name}" for name in made)}:
            raise ValueError(f"evaluate.compare_with is {judge}; wanted {CHECKER}, or data/models/ and one of {', '.join(sorted(made))}")
        if judge == CHECKER and self.evaluate.oracle == "none":
            raise ValueError("evaluate.compare_with is the checker, and evaluate.oracle is none: name a model that compares")
        if judge != CHECKER and 2 * self.evaluate.max_tokens + self.evaluate.compare_max_tokens >= self.engine.max_context:
            raise ValueError(
                f"two answers of evaluate.max_tokens {self.evaluate.max_tokens} and evaluate.compare_max_tokens {self.evaluate.compare_max_tokens} do not fit "
                f"into engine.max_context {self.engine.max_context}: long answers could not be compared"
            )
        return self


def load_params(root: Path = Path(), file: str = PARAMS) -> Params:
    """Read and check `params.yaml` under `root`.

    Raises ParamsError with one line per fault (key, what was seen, what is allowed).
    """
    path = root / file
    try:
        data = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))  # the reader that DVC uses: 1e-4 is a number in it
    except FileNotFoundError:
        raise ParamsError(f"no {file} in {root.resolve()}. Run this from the project's folder, or copy a profile there: srlm profile tiny") from None
    except (YAMLError, UnicodeDecodeError) as e:
        raise ParamsError(f"{path} is not YAML: {e}") from None
    if not isinstance(data, dict):
        raise ParamsError(f"{path} holds {type(data).__name__}, not a mapping of sections. Start from a profile: srlm profile tiny")
    try:
        return Params.model_validate(data)
    except ValidationError as e:
        raise ParamsError(explain(e, path, Params)) from None


def entry(mapping: dict[str, T], section: str, name: str) -> T:
    """`mapping[name]`. Raises ParamsError that lists the names there are."""
    if name not in mapping:
        raise ParamsError(f"{section} in params.yaml has no entry {name}; there are: {', '.join(mapping)}")
    return mapping[name]
