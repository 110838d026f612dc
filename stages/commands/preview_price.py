"""What the whole of a previewed stage takes: what its few records took, times as many texts; where all of those were
cached, what `srlm plan` reckons."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import polars as pl

from stages.commands import speeds
from stages.commands.costs import cost, counter, markup, shapes
from stages.commands.plan import WORDS, duration
from stages.commands.preview_space import Space, models_of, name
from stages.commands.workload import facts_of, people_of, works
from stages.config.params import Params
from stages.method.prompting import SURPLUS
from stages.store.tables import (
    ANSWERS,
    CANDIDATES,
    JUDGEMENTS,
    PROMPTS,
    RANKED,
    RANKED_VALID,
    SEED_JUDGEMENTS,
    TEST_JUDGEMENTS,
    TEST_PROMPTS,
    Table,
)


def texts(space: Space, stage: str, model: str | None, sizes: dict[str, int]) -> tuple[int, int]:
    """How many texts `stage` asked for here, and asks for in the whole run. `sizes`: rows of the tables of the whole
    run that here hold a few."""
    p = space.params

    def rows(table: Table) -> pl.DataFrame:
        frame = space.read(table, None if "{" not in table.path else model)
        return pl.DataFrame(schema=table.schema) if frame is None else frame

    if stage == "judge_seed" and not p.judge_seed.model:
        return 0, 0
    if stage == "judge_seed":
        return len(rows(SEED_JUDGEMENTS)), sizes["ranked"] * p.judge_seed.k
    if stage == "evaluate":
        k = p.evaluate.judge_k
        return len(rows(ANSWERS)) + len(rows(TEST_JUDGEMENTS)), 2 * sizes["test"] + k * sizes["held_out"]
    if model is None or stage == "build_pairs":
        return 0, 0
    prompts, here = p.aift[model].prompts, rows(PROMPTS)
    if stage == "write_prompts":
        asked = here.filter(pl.col("dropped").is_null() | (pl.col("dropped") != SURPLUS))
        share = asked["dropped"].null_count() / len(asked)
        size = p.write_prompts.round
        return len(here), math.ceil(prompts / share / size) * size
    if stage == "build_judge_pairs":  # it does not say how many it asked for
        asked_here = int(space.spent(stage, model)["texts"])
        whole = asked_here * sizes["ranked"] / max(1, len(rows(RANKED)))
        return asked_here, round(whole if p.judge_pairs.source == "eft" else asked_here * prompts / max(1, len(here)))
    made = len(rows(CANDIDATES if stage == "sample_candidates" else JUDGEMENTS))
    return made, round(made * prompts / here["dropped"].null_count())


def sizes_of(space: Space, stage: str) -> dict[str, int]:
    """Rows of the seed tables of the whole run, before a few of them are written in their place."""
    if stage not in ("judge_seed", "build_eft", "evaluate", "build_judge_pairs"):
        return {}
    space.seed()
    test, held_out = space.read(TEST_PROMPTS), space.read(RANKED_VALID)
    ranked = space.read(RANKED) if stage == "build_judge_pairs" else space.ranked()
    frames = {"ranked": ranked, "test": test, "held_out": held_out}
    return {key: 0 if frame is None else len(frame) for key, frame in frames.items()}


def price(space: Space, stage: str, model: str | None, sizes: dict[str, int]) -> dict[str, Any]:
    """`texts` of the whole stage, `texts_here` and how many of those were `cached`, `tokens_in`, `tokens_out`,
    `seconds`, `usd` of its server (null: no server, or no price is known), and `basis` in words. Unknown is null."""
    here, whole = texts(space, stage, model, sizes)
    spent = space.spent(stage, model)
    new = spent["texts"]
    known: dict[str, Any] = {"texts": whole, "texts_here": here, "cached": round(max(0, here - new))}
    known |= {"tokens_in": None, "tokens_out": None, "seconds": None, "usd": None}
    if not whole:
        start = spent["start_s"]
        return known | {
            "tokens_in": 0,
            "tokens_out": 0,
            "seconds": round(start, 1),
            "basis": f"it asks no model: {duration(start)} here, and little more of the whole",
        }
    if not new:
        return known | planned(space.root, space.params, name(stage, model))
    p, times = space.params, whole / new
    tokens_in, tokens_out = spent["tokens_read"] * times, spent["tokens_written"] * times
    served = [m for m in models_of(p, stage, model) if getattr(p.external.get(m), "source", "") == "server"]
    basis = f"{new:,.0f} texts, just now: {spent['compute_s']:.1f} s, and {spent['start_s']:.1f} s until the first"
    if here < whole:
        basis += "; more texts at a time may be faster"
    usd = None
    if served:
        _, server = p.hardware.server_of(p.engine_for(stage, served[0]))
        rates = server.usd_per_million_prompt_tokens, server.usd_per_million_completion_tokens
        if None not in rates:
            usd = round(sum(n * (r or 0) for n, r in zip((tokens_in, tokens_out), rates, strict=True)) / 1e6, 4)
        else:
            basis += "; no price: hardware.server has none"
    return known | {
        "tokens_in": round(tokens_in) or None,
        "tokens_out": round(tokens_out) or None,
        "seconds": round(spent["start_s"] + spent["compute_s"] * times, 1),
        "usd": usd,
        "basis": basis,
    }


def planned(root: Path, params: Params, stage: str) -> dict[str, Any]:
    """The same as `srlm plan` has it, without trying any model."""
    machine = speeds.machine_of(params, None, None)
    people, why = people_of(params, root, begun=True)
    shape, folder = shapes(params, root, None)
    facts = facts_of(params, root, people, why, counter(folder), markup(folder), begun=True)
    known = speeds.earlier(root, params, shape["M0"])
    rows = [cost(w, params, machine, shape.get(w.model or ""), known) for w in works(params, facts) if w.stage == stage]
    seconds, money = [row.seconds for row in rows], [row.usd for row in rows if row.usd is not None]
    words = dict.fromkeys(WORDS.get(word, word) for row in rows for word in (row.work.lengths, row.speed) if word)
    return {
        "tokens_in": round(sum(row.work.texts * row.work.read for row in rows)),
        "tokens_out": round(sum(row.work.texts * row.work.written for row in rows)),
        "seconds": None if None in seconds else round(sum(s or 0 for s in seconds), 1),
        "usd": round(sum(money), 4) if money else None,
        "basis": f"srlm plan, since all texts here were cached ({', '.join(words)})",
    }


def line(stage: str, of: dict[str, Any]) -> str:
    """`price` of a stage in a sentence for people."""
    if not of["texts"]:
        return f"the whole of {stage}: {of['basis']}"
    tokens = [
        f"{of[key]:,} tokens {what}" for key, what in (("tokens_in", "read"), ("tokens_out", "written")) if of[key]
    ]
    money = [] if of["usd"] is None else [f"{of['usd']:,.2f} USD"]
    parts = ", ".join([f"{of['texts']:,} texts", *tokens, duration(of["seconds"]), *money])
    return f"the whole of {stage}: {parts}. By {of['basis']}. {of['texts_here']:,} of them are in the cache now"
