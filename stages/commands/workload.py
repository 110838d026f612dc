"""What each stage of a run reads and writes, from params.yaml: texts and tokens, as expected and at most."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import polars as pl

from stages.config.params import Params
from stages.console.errors import SrlmError
from stages.engines.cache import CompletionCache
from stages.method.formats import recognize
from stages.method.judge_pairs import COUPLES
from stages.method.meta_judge import VARIED
from stages.method.seeds import answered_prompts
from stages.store import metrics
from stages.store.catalog import table_path
from stages.store.rows import read_file
from stages.store.run import COMPLETION_CACHE
from stages.store.tables import IFT_TRAIN, RANKED

REASONS = 64
"""Tokens of a judgement that is made of ranks, about."""
FIRST_ROWS = 1000
FEW = 200
"""Prompts of the tiny world whose texts are measured."""


class Facts(NamedTuple):
    """What params.yaml does not say: mean lengths in tokens, and shares. `source`: where those are from that are not
    assumed."""

    prompt: float = 60
    answer: float = 240
    """Of people."""
    markup: float = 8
    """What a chat template writes around a prompt and its answer."""
    written: float | None = None
    """Of a new prompt; None: as people's prompts."""
    candidate: float | None = None
    """None: as people's answers."""
    judgement: float | None = None
    """None: half of the most."""
    template: float = 480
    """Of the judge prompt, without what fills it."""
    ranked: float = 4
    """Ranked answers of a prompt."""
    accepted: float = 0.75
    """New prompts that pass the filters."""
    distinct: float = 0.9
    """Different texts among the answers to a prompt: equal ones are judged once."""
    agreeing: float = 0.5
    """Ranked answers that become EFT."""
    pairs: float = 0.7
    """Prompts that give a pair (the paper: 0.66 and 0.69)."""
    source: dict[str, str] = {}  # noqa: RUF012  # never changed in place

    def told_by(self, *names: str) -> str:
        """The least certain of the sources of some facts."""
        sources = [self.source.get(name) or self.source.get(INSTEAD.get(name, ""), "assumed") for name in names]
        return next((each for each in ("assumed", "people") if each in sources), sources[0])


INSTEAD = {"written": "prompt", "candidate": "answer"}
"""What stands for a length that is not known."""
MOST = Facts(accepted=1, distinct=1, agreeing=1, pairs=1)


class Work(NamedTuple):
    """One stage, or a part of one."""

    stage: str
    role: str
    """What computes: pretrain, sft, dpo, prompts, answers, judgements; or nothing, copy and rows."""
    model: str | None = None
    """Whose weights are asked or trained."""
    texts: float = 0
    read: float = 0
    """Tokens of a text that are read, or trained in one pass."""
    written: float = 0
    """Tokens of a text, as expected."""
    most: int = 0
    """Tokens that a text may have."""
    passes: int = 1
    shared: float = 0
    """Tokens of the prompt that a pair's answers share, which are read twice and computed once."""
    lengths: str = ""
    """Where read and written are from."""


TRAINED = ("pretrain", "sft", "dpo")
WRITTEN = ("prompts", "answers", "judgements")


def works(params: Params, facts: Facts) -> Iterator[Work]:
    """The stages in the order of the run."""
    seed, sft, dpo, of = params.split_seed, params.train_sft, params.train_dpo, params.evaluate
    answer = min(facts.candidate or facts.answer, params.sample_candidates.max_tokens)
    asked, shown = facts.prompt + facts.answer + facts.markup, facts.prompt + answer + facts.markup
    for name, base in params.base.items():
        world = base.source == "tinyworld"
        rows = params.world.steps * params.world.docs_per_step if world else 0
        yield Work(f"get_model@{name}", "pretrain" if world else "copy", name, rows, facts.prompt + facts.answer)
    yield from (Work(f"get_external@{name}", "copy", name) for name in params.external)
    yield Work("split_seed", "rows")
    people = facts.told_by("prompt", "answer")
    baseline = Work("train_sft@SFT", "sft", "SFT", seed.ift, asked, passes=sft.epochs, lengths=people)
    yield from (baseline, *_choice(baseline, params, facts))
    judge, ranked = params.judge_seed, seed.eft_prompts * (params.judge_seed.answers_per_prompt or facts.ranked)
    tells = facts.told_by("prompt", "answer", "judgement")
    review = min(facts.judgement or judge.max_tokens / 2, judge.max_tokens)
    if judge.model:
        judged = facts.template + asked, review, judge.max_tokens
        yield Work("judge_seed", "judgements", judge.model, ranked * judge.k, *judged, lengths=tells)
    else:
        yield Work("judge_seed", "rows", None, ranked, most=REASONS)
    yield Work("build_eft", "rows")
    eft, ift = ranked * facts.agreeing, seed.ift * sft.repeat_ift
    mixed = (ift * asked + eft * (facts.template + asked + review)) / (ift + eft)
    both = Work("train_sft@M1", "sft", "M1", ift + eft, mixed, passes=sft.epochs, lengths=facts.told_by("agreeing"))
    yield from (both, *_choice(both, params, facts))
    for name in params.aift:
        yield from _aift(name, params, facts, shown, answer)
    yield from (Work(f"watch_drift@{name}", "rows") for name in params.drift)
    sampled = facts.told_by("candidate", "pairs")
    for name, step in params.models.items():
        pairs = params.aift[step.prev].prompts * facts.pairs if step.prev in params.aift else 0
        twice = Work(f"train_dpo@{name}", "dpo", name, pairs, 2 * shown, passes=dpo.epochs, lengths=sampled)
        yield (twice := twice._replace(shared=facts.prompt + facts.markup))
        replayed = dpo.replay.rows * pairs / dpo.batch
        rehearsed = {
            "eft": facts.template + asked + review,
            "ift": asked,
            "judge_pairs": facts.template + shown + review,
        }
        for row in (rehearsed[of] for of in dpo.replay.weights):
            yield Work(f"train_dpo@{name}", "sft", name, replayed, row, passes=dpo.epochs, lengths=people)
        yield from _choice(twice, params, facts)
    for name, variant in params.positive_only.items():
        some = ift + eft + params.aift[variant.aift].prompts
        perfect = Work(f"train_positive@{name}", "sft", name, some, mixed, passes=sft.epochs, lengths=sampled)
        yield from (perfect, *_choice(perfect, params, facts))
    for name in params.evaluated:
        wrote = min(facts.candidate or facts.answer, of.max_tokens)
        lengths = facts.told_by("candidate")
        texts = facts.prompt + facts.markup, wrote, of.max_tokens
        yield Work(f"evaluate@{name}", "answers", name, 2 * seed.test_prompts, *texts, lengths=lengths)
        review = min(facts.judgement or of.judge_max_tokens / 2, of.judge_max_tokens)
        judged = facts.template + asked, review, of.judge_max_tokens
        count = seed.test_ranked * facts.ranked * of.judge_k
        yield Work(f"evaluate@{name}", "judgements", name, count, *judged, lengths=tells)
    for name in params.head_to_head:
        if of.compare_by == "oracle":
            yield Work(f"head_to_head@{name}", "rows")
        else:  # greedy and sampled answers, in both orders
            compared = facts.template + shown + answer, of.compare_max_tokens / 2, of.compare_max_tokens
            many = 4 * seed.test_prompts
            yield Work(f"head_to_head@{name}", "judgements", of.compare_with, many, *compared, lengths="assumed")
    yield Work("summarize", "rows")


def kept(training: Work, params: Params) -> int:
    """Models that it keeps on its way, to choose one of them or the last when it ends."""
    choose, dpo = params.choose, training.stage.startswith("train_dpo@")
    trains = training.role == ("dpo" if dpo else "sft")  # and is no replay beside
    if not (trains and choose.every_steps and choose.by) or (dpo and choose.by == "oracle"):
        return 0
    steps = training.passes * math.ceil(training.texts / (params.train_dpo if dpo else params.train_sft).batch)
    return max(0, steps - 1) // choose.every_steps


def _choice(training: Work, params: Params, facts: Facts) -> Iterator[Work]:
    """What the models that a training kept, and the last, answer, and how a model compares each with the best before
    it, in both orders."""
    choose, prompts, later = params.choose, params.split_seed.ift_valid, kept(training, params)
    if not later:
        return
    answer = min(facts.candidate or facts.answer, choose.max_tokens)
    asked = facts.prompt + facts.markup
    lengths, many = facts.told_by("candidate"), (later + 1) * prompts
    yield Work(training.stage, "answers", training.model, many, asked, answer, choose.max_tokens, lengths=lengths)
    if choose.by == "model":
        compared = facts.template + asked + 2 * answer, choose.compare_max_tokens / 2, choose.compare_max_tokens
        many = 2 * later * prompts
        yield Work(training.stage, "judgements", choose.judge, many, *compared, lengths="assumed")


def _aift(name: str, params: Params, facts: Facts, shown: float, answer: float) -> Iterator[Work]:
    aift, write = params.aift[name], params.write_prompts
    sample, judge = params.sample_candidates, params.judge_candidates
    asked = facts.prompt * (1 + write.ift_shots + write.new_shots)
    rounds = math.ceil(aift.prompts / facts.accepted / write.round)
    texts = aift.prompts if facts.accepted == 1 else rounds * write.round
    new = min(facts.written or facts.prompt, write.max_tokens)
    lengths = facts.told_by("written", "accepted")
    yield Work(f"write_prompts@{name}", "prompts", aift.writer, texts, asked, new, write.max_tokens, lengths=lengths)
    count = aift.prompts * sample.n
    texts_ = facts.prompt + facts.markup, answer, sample.max_tokens
    lengths = facts.told_by("candidate")
    writers, judges = [name, params.rejected_from(name)], [aift.judge, params.second_judge(name)]
    for writer in filter(None, writers):
        yield Work(f"sample_candidates@{name}", "answers", writer, count, *texts_, lengths=lengths)
    review = min(facts.judgement or judge.max_tokens / 2, judge.max_tokens)
    judged = facts.template + shown, review, judge.max_tokens
    lengths = facts.told_by("candidate", "judgement", "distinct")
    answers = count * (1 if params.build_pairs.rejected == "unjudged" else sum(map(bool, writers)))
    many = answers * facts.distinct * judge.k
    if judge.kind == "pairwise":
        own = answers * facts.distinct / aift.prompts
        many = 2 * aift.prompts * min(own * (own - 1) / 2, judge.comparisons or math.inf)
        judged = facts.template + shown + answer, review, judge.max_tokens
    for by in filter(None, judges):
        yield Work(f"judge_candidates@{name}", "judgements", by, many, *judged, lengths=lengths)
    yield Work(f"build_pairs@{name}", "rows")
    known = params.judge_pairs
    if not known.source:
        yield Work(f"build_judge_pairs@{name}", "rows")
        return
    most = known.share / (1 - known.share) * aift.prompts * facts.pairs
    again = {"eft": params.split_seed.eft_prompts * facts.ranked, "meta_judge": VARIED * most}
    again_of = again.get(known.source, 2 * COUPLES * most)
    yield Work(f"build_judge_pairs@{name}", "judgements", name, again_of * known.n, *judged, lengths=lengths)
    if known.source == "meta_judge":
        both = facts.template + facts.template + shown + 2 * review  # one template about another
        many = again_of * known.n * (known.n - 1)
        compared = both, review, judge.max_tokens
        yield Work(f"build_judge_pairs@{name}", "judgements", name, many, *compared, lengths=lengths)


def facts_of(
    params: Params,
    root: Path,
    people: pl.DataFrame | None,
    why: str,
    count: Callable[[str], float],
    markup: float | None,
    *,
    begun: bool,
) -> Facts:
    """What can be known: from the tables and cached completions of a run that was begun, else from people's texts (from
    `why`); `count` tells a text's tokens. Unless `begun`, the tables here are of other parameters."""
    texts: dict[str, float] = {}
    source: dict[str, str] = {}

    def learn(name: str, value: float | None, why: str) -> None:
        if value:
            texts[name], source[name] = value, why

    def tokens(column: pl.Series) -> float:
        return sum(map(count, column)) / len(column) + 1  # its end

    learn("markup", markup, "file")
    if (template := root / params.judge.template).is_file():
        learn("template", count(template.read_text(encoding="utf-8", errors="replace")), "file")
    if people is not None and len(people):
        few = people.head(FIRST_ROWS)
        learn("prompt", tokens(few["prompt"]), why)
        learn("answer", tokens(few["response"]), why)
        learn("ranked", len(people) / people["prompt"].n_unique(), why)
        if params.split_seed.source == "tinyworld":
            from stages.tinyworld.reviews import review

            texts_ = [review(prompt, answer) for prompt, answer in few.head(FEW).select("prompt", "response").rows()]
            learn("judgement", tokens(pl.Series(texts_)), "people")
    if not begun:
        return Facts(**texts, source=source)
    if (path := root / COMPLETION_CACHE).is_file():
        with suppress(SrlmError), CompletionCache(path) as cache:
            of_verb = cache.lengths()
            for name, verbs in (
                ("written", ("write_prompts",)),
                ("candidate", ("sample_candidates",)),
                ("judgement", ("judge_candidates", "judge_seed")),
            ):
                learn(name, next((of_verb[verb] for verb in verbs if verb in of_verb), None), "cache")
    for kind, name, share in (("EFT", "agreeing", "agreeing_share"), *(("AIFT", m, "") for m in params.aift)):
        with suppress(SrlmError, OSError, ValueError, TypeError, AttributeError, ZeroDivisionError):
            if kind == "EFT":
                learn(name, json.loads(metrics.file_of(root, kind).read_bytes())[share], "metrics")
            else:  # the last iteration that is done
                done = json.loads(metrics.file_of(root, kind, name).read_bytes())
                learn("pairs", done["pair_yield"], "metrics")
                learn("accepted", done["prompts"] / (done["prompts"] + sum(done["dropped"].values())), "metrics")
                if params.judge_candidates.kind == "score":
                    k = params.judge_candidates.k
                    learn("distinct", done["judgements"] / (k * done["candidates"]), "metrics")
    return Facts(**texts, source=source)


def people_of(params: Params, root: Path, *, begun: bool) -> tuple[pl.DataFrame | None, str]:
    """Prompts with people's answers (prompt, response), and where they are from."""
    if begun and (path := table_path(RANKED, root)).is_file():
        frame = pl.read_parquet(path, columns=["prompt", "response"])
        if frame.is_empty():
            ift = pl.read_parquet(table_path(IFT_TRAIN, root), columns=["instruction", "response"])
            frame = ift.rename({"instruction": "prompt"})
        return frame, "tables"
    seed = params.split_seed
    if seed.source == "tinyworld":
        from stages.tinyworld.demonstrators import seed_tables

        few = {"ift": 1, "ift_valid": 1, "test_prompts": 1, "test_ranked": 1, "eft_prompts": FEW}
        return seed_tables(seed.model_copy(update=few), params.world.seed, params.seed)["ranked"], "people"
    if seed.source == "file":
        with suppress(SrlmError):
            rows = read_file(root / seed.path, FIRST_ROWS)
            reading = recognize(rows, seed.path, seed.format, seed.columns)
            messages = list(reading.messages(rows))
            answered = answered_prompts(messages, lang=seed.lang, source=seed.path, ranked=reading.ranked)
            return answered[0], "people"
    return None, "assumed"
