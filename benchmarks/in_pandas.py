"""The same work as a data scientist would write it in pandas. `python -m benchmarks.in_pandas "scores and pairs"`, in
the folder of a store."""

from __future__ import annotations

import sys
import tempfile

import numpy as np
import pandas as pd

MODELS = ("M1", "M2")


def table(name: str, *columns: str) -> pd.DataFrame:
    return pd.concat(
        [pd.read_parquet(f"data/AIFT/{m}/{name}.parquet", columns=list(columns)).assign(model=m) for m in MODELS],
        ignore_index=True,
    )


def scores_and_pairs() -> None:
    with tempfile.TemporaryDirectory() as out:
        for model in MODELS:
            candidates = pd.read_parquet(f"data/AIFT/{model}/candidates.parquet")
            judgements = pd.read_parquet(f"data/AIFT/{model}/judgements.parquet", columns=["candidate_id", "score"])
            prompts = pd.read_parquet(f"data/AIFT/{model}/prompts.parquet", columns=["prompt_id", "prompt"])
            by = judgements.groupby("candidate_id")["score"].agg(["mean", "min", "max", "count"])
            rows = candidates.merge(by, left_on="candidate_id", right_index=True).sort_values(["prompt_id", "n"])
            live = rows[
                (rows.finish_reason != "length") & ~rows.duplicated(["prompt_id", "response"]) & rows["mean"].notna()
            ]
            best = live.loc[live.groupby("prompt_id")["mean"].idxmax()]
            worst = live.loc[live.groupby("prompt_id")["mean"].idxmin()]
            both = best.merge(worst, on="prompt_id", suffixes=("_chosen", "_rejected")).merge(prompts, on="prompt_id")
            both = both[both.mean_chosen - both.mean_rejected > 0.5]
            rows["fate"] = np.select(
                [
                    rows.candidate_id.isin(both.candidate_id_chosen),
                    rows.candidate_id.isin(both.candidate_id_rejected),
                    rows["mean"].isna(),
                ],
                ["chosen", "rejected", "unreadable"],
                "other",
            )
            rows[["candidate_id", "prompt_id", "mean", "fate"]].to_parquet(f"{out}/scores.parquet", compression="zstd")
            both.to_parquet(f"{out}/pairs.parquet", compression="zstd")


def score_distribution() -> pd.DataFrame:
    return table("judgements", "score").groupby(["model", "score"], dropna=False).size().reset_index()


def judge_saturation() -> pd.DataFrame:
    return (
        table("judgements", "score")
        .groupby("model")["score"]
        .agg([lambda s: s.mode()[0], lambda s: s.value_counts(normalize=True).iloc[0], lambda s: s.isna().mean()])
    )


def fates() -> pd.DataFrame:
    return table("scores", "fate", "score").groupby(["model", "fate"])["score"].agg(["size", "mean"])


def judge_noise() -> pd.DataFrame:
    return table("scores", "spread", "score").groupby(["model", "spread"], dropna=False)["score"].agg(["size", "mean"])


def pair_quality() -> pd.DataFrame:
    pairs = table("pairs", "prompt_id", "chosen_id", "rejected_id", "chosen_score", "rejected_score")
    tokens = table("candidates", "candidate_id", "tokens").set_index("candidate_id")["tokens"]
    pairs["c"], pairs["r"] = pairs.chosen_id.map(tokens), pairs.rejected_id.map(tokens)
    pairs["margin"], pairs["longer"] = pairs.chosen_score - pairs.rejected_score, pairs.c > pairs.r
    kept = table("prompts", "dropped").query("dropped.isna()").groupby("model").size()
    return (
        pairs.groupby("model")[["margin", "c", "r", "longer"]]
        .mean()
        .assign(prompts=kept, pairs=pairs.groupby("model").size())
    )


def lost_prompts() -> pd.DataFrame:
    fate = pd.get_dummies(table("scores", "prompt_id", "fate"), columns=["fate"]).groupby(["model", "prompt_id"]).max()
    return (
        table("prompts", "prompt_id", "dropped")
        .merge(fate, on=["model", "prompt_id"], how="left")
        .groupby("model")
        .agg("sum", numeric_only=True)
    )


def length_drift() -> pd.DataFrame:
    rows = table("candidates", "candidate_id", "tokens").merge(
        table("scores", "candidate_id", "score", "fate"), on=["model", "candidate_id"]
    )
    rows["chosen"] = rows.tokens.where(rows.fate == "chosen")
    return (
        rows.groupby("model")
        .agg({"tokens": ["mean", "median"], "chosen": "mean"})
        .assign(r=rows.groupby("model")[["tokens", "score"]].corr().iloc[0::2, -1].to_numpy())
    )


def repeats() -> pd.DataFrame:
    asked = table("prompts", "prompt", "dropped").query("dropped.isna()")
    text = asked.prompt.str.strip().str.replace(r"\s+", " ", regex=True).str.lower()
    said = table("candidates", "prompt_id", "response")
    inside = said.duplicated(["model", "prompt_id", "response"])
    first = said.groupby("response")["model"].transform("min")
    return pd.DataFrame(
        {"asked": [text.duplicated().sum()], "inside": [inside.sum()], "before": [(first < said.model).sum()]}
    )


def score_gap() -> pd.DataFrame:
    pairs = table("pairs", "chosen_score", "rejected_score")
    gap = pairs.chosen_score - pairs.rejected_score
    return gap.groupby(pairs.model).agg(["mean", lambda g: g.quantile(0.1), lambda g: g.quantile(0.9)])


def doubtful_pairs() -> pd.DataFrame:
    spread = table("scores", "candidate_id", "spread").set_index("candidate_id")["spread"]
    pairs = table(
        "pairs",
        "prompt_id",
        "prompt",
        "chosen",
        "rejected",
        "chosen_id",
        "rejected_id",
        "chosen_score",
        "rejected_score",
    )
    pairs["doubt"] = (
        pairs.chosen_score
        - pairs.rejected_score
        - np.maximum(pairs.chosen_id.map(spread), pairs.rejected_id.map(spread))
    )
    return pairs.nsmallest(20, "doubt")


def pair_lineage() -> pd.DataFrame:
    pairs = table("pairs", "prompt_id", "chosen_id", "rejected_id", "chosen", "rejected")
    pair = (
        pairs.loc[pairs.prompt_id.idxmin()]
        if pairs.prompt_id.dtype != object
        else pairs.sort_values("prompt_id").iloc[0]
    )
    judgements = table("judgements", "candidate_id", "k", "score", "text")
    said = judgements[judgements.candidate_id.isin([pair.chosen_id, pair.rejected_id])]
    prompts = table("prompts", "prompt_id", "prompt", "shots")
    shots = prompts[prompts.prompt_id == pair.prompt_id].explode("shots")
    return pd.concat([said, shots.merge(pd.read_parquet("data/IFT/train.parquet"), left_on="shots", right_on="ift_id")])


def most_improved(sign: int = 1) -> pd.DataFrame:
    answers = [pd.read_parquet(f"data/EVAL/{m}/answers.parquet").query("decoding == 'greedy'") for m in ("M3", "M1")]
    both = (
        answers[0].merge(answers[1], on="prompt_id").merge(pd.read_parquet("data/TEST/prompts.parquet"), on="prompt_id")
    )
    return both.assign(change=sign * (both.oracle_score_x - both.oracle_score_y)).nlargest(20, "change")


def most_worsened() -> pd.DataFrame:
    return most_improved(-1)


if __name__ == "__main__":
    print(globals()[sys.argv[1].replace(" ", "_")]())
