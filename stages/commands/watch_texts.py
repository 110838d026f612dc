"""Texts that a stage writes just now, with what they answer or judge, and the score that is read from a judgement."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from stages.config.load import PARAMS, read_mapping
from stages.method.scale import Scale, read_score
from stages.store.catalog import UNREADABLE, table_path
from stages.store.tables import CANDIDATES, PROMPTS, RANKED, TEST_PROMPTS, Table

JUDGES = ("judge_seed", "judge_candidates")
Texts = list[dict[str, Any]]


def shown(root: Path, stage: str, texts: list[list[Any]]) -> Texts:
    """`texts` (id, n, text) of a stage as `sample_candidates@M1`: id, n, text, and where they are known prompt,
    response (of a judgement) and score, null where none can be read."""
    if not texts:
        return []
    verb, _, model = stage.partition("@")
    ids = list(dict.fromkeys(str(i) for i, _, _ in texts))
    scale = _scale(root) if verb in JUDGES else None
    about: dict[str, dict[str, str]] = {}
    if verb == "sample_candidates":
        about = _found(root, PROMPTS, model, "prompt_id", ids)
    elif verb == "judge_candidates":
        about = _found(root, CANDIDATES, model, "candidate_id", ids)
        prompts = _found(root, PROMPTS, model, "prompt_id", [one["prompt_id"] for one in about.values()])
        about = {i: one | prompts.get(one["prompt_id"], {}) for i, one in about.items()}
    elif verb == "judge_seed":
        about = _found(root, RANKED, None, "candidate_id", ids)
    elif verb == "evaluate":
        about = _found(root, TEST_PROMPTS, None, "prompt_id", ids)
    return [
        {"id": i, "n": n, "text": text}
        | {key: value for key, value in about.get(str(i), {}).items() if key in ("prompt", "response")}
        | ({"score": read_score(text, "stop", scale)} if scale else {})
        for i, n, text in texts
    ]


def _found(root: Path, table: Table, model: str | None, key: str, ids: list[str]) -> dict[str, dict[str, str]]:
    """Rows of these ids, where their table is there and can be read."""
    try:
        path = table_path(table, root, model)
        columns = [c for c in ("prompt_id", "prompt", "response", key) if c in table.schema]
        rows = (
            pl.scan_parquet(path, glob=False).filter(pl.col(key).is_in(ids)).select(*dict.fromkeys(columns)).collect()
        )
    except (*UNREADABLE, ValueError):
        return {}
    return {row[key]: row for row in rows.iter_rows(named=True)}


def _scale(root: Path) -> Scale | None:
    """None where the judge compares answers, or params.yaml does not say."""
    params = read_mapping(root / PARAMS) or {}
    try:
        scale = Scale(**params["judge"]["scale"])
        return None if params["judge_candidates"]["kind"] == "pairwise" else scale
    except (KeyError, TypeError):
        return None
