"""The arms of the ablations: what each changes in the plain loop, and why."""

from __future__ import annotations

from itertools import pairwise
from typing import Any, NamedTuple

from benchmarks.seeds import Overrides

BANK: Overrides = {"split_seed.test_ranked": 500, "evaluate.judge_k": 1, "evaluate.judge_temperature": 0.0}
"""In every arm: 500 ranked prompts that no model was trained on, each answer judged greedily once."""


class Arm(NamedTuple):
    group: str
    what: str
    overrides: Overrides
    control: str | None = None
    """The arm that it has to beat to mean what it says."""
    models: int = 3
    """Whose last one stands where M`models` does: what has as many is compared with `plain`."""


def loop(models: int, **aift: Any) -> Overrides:
    """A loop up to M`models`; `aift`: what differs from the default in every AIFT."""
    names = [f"M{t}" for t in range(1, models + 1)]
    return {
        "aift": {
            m: {"writer": "M0", "judge": m, "prompts": 200 if m == "M1" else 600, "rho": None, **aift}
            for m in names[:-1]
        },
        "models": {m: {"prev": prev} for prev, m in pairwise(names)},
        "drift": {m: {"since": since} for since, m in pairwise(names[:-1])},
        "evaluated": ["SFT", *names],
        "head_to_head": {
            "M1-SFT": {"model": "M1", "other": "SFT"},
            **{f"{m}-M1": {"model": m, "other": "M1"} for m in names[1:]},
        },
    }


def equal(n: int, k: int) -> Overrides:
    """N answers judged K times for as many prompts as make the default's tokens (8 answers judged 3 times): an answer
    has some 8 tokens and a judgement some 30."""
    share = 8 * (8 + 3 * 30) / (n * (8 + k * 30))
    prompts = {m: round(p * share) for m, p in (("M1", 200), ("M2", 600))}
    return {
        "sample_candidates.n": n,
        "judge_candidates.k": k,
        **{f"aift.{m}.prompts": p for m, p in prompts.items()},
    }


LAGGED: Overrides = {"aift.M2.judge": "M1"}
EFT_2: Overrides = {"train_dpo.replay.eft": 2.0}
BEST: Overrides = LAGGED | EFT_2
ANCHORED: Overrides = {"build_pairs.rejected_from": "previous", "aift.M2.prompts": 300}
SECOND: Overrides = {"judge_candidates.second_judge": "previous"}
JUDGE_PAIRS: Overrides = {"judge_pairs.source": "eft"}
ARMS: dict[str, Arm] = {
    "plain": Arm("", "the plain loop", {}),
    "no-eft": Arm(
        "The paper's ablations",
        "M2 and M3 from SFT, which judges without having been taught to, and stands in M1's place",
        {
            "aift": {
                "SFT": {"writer": "M0", "judge": "SFT", "prompts": 200, "rho": None},
                "M2": {"writer": "M0", "judge": "M2", "prompts": 600, "rho": None},
            },
            "models": {"M2": {"prev": "SFT"}, "M3": {"prev": "M2"}},
            "drift": {"M2": {"since": "SFT"}},
        },
    ),
    "positive-only": Arm(
        "The paper's ablations",
        "SFT on AIFT(M1)'s perfect answers: its last model is M2P",
        {**loop(2), "positive_only": {"M2P": {"aift": "M1"}}, "evaluated": ["SFT", "M1", "M2", "M2P"]},
        control="plain-2",
        models=2,
    ),
    "plain-2": Arm("The paper's ablations", "control of positive-only: the plain loop to M2", loop(2), models=2),
    "own-writer": Arm(
        "The paper's ablations",
        "Mt writes the prompts itself",
        {"aift.M1.writer": "M1", "aift.M2.writer": "M2"},
    ),
    "n-2": Arm("Compute", "2 answers to four times the prompts", equal(2, 3)),
    "n-4": Arm("Compute", "4 answers to twice the prompts", equal(4, 3)),
    "k-1": Arm("Compute", "judged once, 2.6 times the prompts", equal(8, 1)),
    "length-control": Arm(
        "The paper's ablations", "rho 0.32 in both iterations", {"aift.M1.rho": 0.32, "aift.M2.rho": 0.32}
    ),
    "shuffled": Arm("Controls", "scores shuffled within a prompt", {"build_pairs.signal": "shuffled"}),
    "longest": Arm("Controls", "the longest answer wins", {"build_pairs.signal": "longest"}),
    "lagged": Arm("A judge that lasts", "M1 judges AIFT(M2), too", LAGGED),
    "replay-eft": Arm("A judge that lasts", "EFT in every DPO step, weight 2", EFT_2, control="replay-eft-shuffled"),
    "replay-eft-shuffled": Arm(
        "A judge that lasts",
        "control of EFT replay: the scores dealt out anew among EFT's judgements",
        EFT_2 | {"train_dpo.replay.order": "shuffled"},
    ),
    "replay-ift": Arm(
        "A judge that lasts",
        "the same with IFT: is it EFT that helps?",
        {"train_dpo.replay.ift": 2.0},
    ),
    "lagged-replay": Arm("A judge that lasts", "both: M1 judges AIFT(M2), too, and EFT is replayed, weight 2", BEST),
    "lagged-replay-5": Arm("A judge that lasts", "the same with weight 5", LAGGED | {"train_dpo.replay.eft": 5.0}),
    "anchored": Arm(
        "Levers",
        "M1's answers may be the rejected ones of AIFT(M2), half as many prompts for as many tokens",
        ANCHORED,
        control="anchored-half",
    ),
    "anchored-half": Arm(
        "Levers", "control: of half of the prompts, by seed", ANCHORED | {"build_pairs.rejected": "half"}
    ),
    "anchored-unjudged": Arm("Levers", "control: unjudged (SPIN)", ANCHORED | {"build_pairs.rejected": "unjudged"}),
    "filter": Arm(
        "Levers",
        "prompts on which M1's and M2's scores do not agree give no pair (Kendall's tau below 0.3)",
        SECOND | {"build_pairs.consistency": "filter", "build_pairs.min_tau": 0.3},
        control="filter-shuffled",
    ),
    "filter-shuffled": Arm(
        "Levers",
        "control: another prompt's tau",
        SECOND | {"build_pairs.consistency": "filter", "build_pairs.min_tau": 0.3, "build_pairs.tau": "shuffled"},
    ),
    "smooth": Arm(
        "Levers",
        "a pair is reversed as often as M1's and M2's scores disagree on its prompt",
        SECOND | {"build_pairs.consistency": "smooth"},
        control="smooth-mean",
    ),
    "smooth-mean": Arm(
        "Levers",
        "control: as often in every prompt (CREAM)",
        SECOND | {"build_pairs.consistency": "smooth", "build_pairs.tau": "mean"},
    ),
    "judge-pairs-eft": Arm(
        "Levers", "pairs of judgements of people's ranked answers", JUDGE_PAIRS, control="judge-pairs-eft-shuffled"
    ),
    "judge-pairs-eft-shuffled": Arm(
        "Levers", "control: order by chance", JUDGE_PAIRS | {"judge_pairs.order": "shuffled"}
    ),
    "judge-pairs-eft-nll": Arm(
        "Levers",
        "the same, and their chosen judgements in every DPO step, weight 2",
        JUDGE_PAIRS | {"train_dpo.replay.judge_pairs": 2.0},
        control="judge-pairs-eft",
    ),
    "judge-pairs-eft-line": Arm(
        "Levers",
        "pairs of judgements of people's ranked answers, of which only the score line is trained",
        JUDGE_PAIRS | {"judge_pairs.score_line": 1.0},
        control="judge-pairs-eft",
    ),
    "judge-pairs-changed": Arm(
        "Levers",
        "pairs of judgements of answers and of those to another prompt",
        JUDGE_PAIRS | {"judge_pairs.source": "changed_prompt"},
        control="judge-pairs-changed-shuffled",
    ),
    "judge-pairs-changed-shuffled": Arm(
        "Levers",
        "control: order by chance",
        JUDGE_PAIRS | {"judge_pairs.source": "changed_prompt", "judge_pairs.order": "shuffled"},
    ),
    "judge-pairs-meta": Arm(
        "Levers",
        "pairs of judgements that Mt compared itself, none where the gate is closed",
        JUDGE_PAIRS | {"judge_pairs.source": "meta_judge"},
        control="judge-pairs-meta-shuffled",
    ),
    "judge-pairs-meta-shuffled": Arm(
        "Levers",
        "control: order by chance",
        JUDGE_PAIRS | {"judge_pairs.source": "meta_judge", "judge_pairs.order": "shuffled"},
    ),
    "six-plain": Arm("Six iterations", "the plain loop on to M6", loop(6), models=6),
    "six-lasting": Arm(
        "Six iterations",
        "the same with M1 as judge throughout and EFT replay",
        loop(6, judge="M1") | EFT_2,
        control="six-plain",
        models=6,
    ),
}
