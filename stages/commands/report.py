"""report: what the model did to itself, as one HTML file that needs no network. `srlm report`, `srlm report --rev v1
--out v1.html`.

The figures are the canned questions' own; the verb only chooses and names them.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from stages.config.load import PARAMS
from stages.console.errors import TableError
from stages.console.terminal import stderr
from stages.page import charts
from stages.page.pairs import fitting
from stages.page.render import Page, Section, render
from stages.store import database, metrics, versions
from stages.store.files import atomic_write, md5, result_file
from stages.store.questions import questions

Rows = list[dict[str, Any]]

PAIRS_BYTES = 3_500_000
"""What the pairs may take of the page."""
PAIRS_MOST = 20_000
METRICS = {
    "writer.greedy.oracle_score": "oracle score, greedy",
    "writer.greedy.fully_right": "fully right, greedy",
    "writer.greedy.chars": "characters, greedy",
    "judge.pairwise_accuracy": "judge: pairwise accuracy",
    "judge.tie_share": "judge: tie share",
    "judge.spearman": "judge: Spearman",
}
LOOP = """
SELECT model, prompts, candidates, judgements, pairs FROM
    (SELECT model FROM prompts UNION SELECT model FROM candidates UNION SELECT model FROM pairs)
    LEFT JOIN (SELECT model, count(*) AS prompts FROM prompts WHERE dropped IS NULL GROUP BY model) USING (model)
    LEFT JOIN (SELECT model, count(*) AS candidates FROM candidates GROUP BY model) USING (model)
    LEFT JOIN (SELECT model, count(*) AS judgements FROM judgements GROUP BY model) USING (model)
    LEFT JOIN (SELECT model, count(*) AS pairs FROM pairs GROUP BY model) USING (model)
ORDER BY length(model), model
"""
MATCHES = """
SELECT coalesce(model || ' against ' || other, name) || ', ' || decoding AS match, verdict, value AS share, low, high
FROM (SELECT *, split_part(metric, '.', 1) AS decoding, split_part(metric, '.', 2) AS verdict FROM metrics)
WHERE kind = 'head_to_head' AND verdict IN ('win', 'tie', 'lose') AND value IS NOT NULL
ORDER BY decoding, length(name), name, verdict DESC
"""
PICKED = """
WITH drawn AS (
    SELECT model, prompt_id, row_number() OVER (PARTITION BY model ORDER BY hash(prompt_id), prompt_id) AS place
    FROM pairs
    ORDER BY place, length(model), model LIMIT $most
), said AS (
    SELECT judgements.model, candidate_id, list({'score': judgements.score, 'text': text} ORDER BY k) AS judgements
    FROM judgements WHERE candidate_id IN (
        SELECT unnest([chosen_id, rejected_id]) FROM pairs SEMI JOIN drawn USING (model, prompt_id)
    ) GROUP BY ALL
), side AS (
    SELECT candidate_id, {
        'id': candidate_id, 'text': response, 'tokens': tokens, 'score': scores.score, 'spread': spread,
        'judgements': coalesce(said.judgements, [])
    } AS side
    FROM candidates JOIN scores USING (candidate_id) LEFT JOIN said USING (candidate_id)
    WHERE candidate_id IN (SELECT unnest([chosen_id, rejected_id]) FROM pairs SEMI JOIN drawn USING (model, prompt_id))
)
SELECT pairs.model, pairs.prompt, c.side AS chosen, r.side AS rejected
FROM drawn JOIN pairs USING (model, prompt_id)
    JOIN side AS c ON c.candidate_id = chosen_id JOIN side AS r ON r.candidate_id = rejected_id
ORDER BY place, length(pairs.model), pairs.model
"""


def write(out: Path, *, revision: str | None = None, root: Path = Path()) -> None:
    """Write the report of the workspace, or of `revision`, to `out`. Raises RevisionError, TableError."""
    result_file(out, root)
    with versions.at(root, revision) as folder, database.connect(folder) as store:
        page = gather(store, folder, identity(root, folder, revision))
    with atomic_write(out) as partial:
        partial.write_text(render(page), encoding="utf-8")
    stderr.print(
        f"written: {out} ({out.stat().st_size / 1e6:.1f} MB, {page.pairs_shown} of {page.pairs_total} pairs)",
    )


def gather(store: database.Store, folder: Path, revision: dict[str, str]) -> Page:
    """Everything that the page shows."""
    steps = store.rows(LOOP, may_lack=("prompts", "candidates", "judgements", "pairs"))
    lineage = [lineage_of(file) for file in sorted((folder / "data" / "models").glob("*/lineage.json"), key=by_age)]
    trains = {model["parent"]: model["name"] for model in lineage if model["method"] == "dpo"}
    pairs_json, shown = fitting(picked(store), PAIRS_BYTES)
    params = folder / PARAMS
    return Page(
        title="Self-rewarding run",
        loop=tuple({**step, "trains": trains.get(step["model"])} for step in steps),
        warnings=tuple(warned(folder)),
        sections=tuple(sections(store)),
        lineage=tuple(lineage),
        revision=revision,
        params=params.read_text(encoding="utf-8") if params.is_file() else "",
        pairs_json=pairs_json,
        pairs_shown=shown,
        pairs_total=sum(step["pairs"] or 0 for step in steps),
        models=tuple(step["model"] for step in steps),
    )


def sections(store: database.Store) -> Iterator[Section]:
    """The charts, each with its table."""

    def section(name: str, title: str, text: str, rows: Rows | TableError, draw: Any) -> Section:
        if isinstance(rows, TableError) or not rows:
            return Section(name, title, text, missing=str(rows or "no rows yet"))
        return Section(name, title, text, draw(rows), tuple(rows[0]), tuple(tuple(row.values()) for row in rows))

    metrics = store.rows(questions()["improvement"].sql)
    chosen = [{**row, "metric": title} for name, title in METRICS.items() for row in metrics if row["metric"] == name]
    yield section(
        "models",
        "Models compared",
        "On held-out prompts and held-out ranked answers; bars are 95 % bootstrap intervals.",
        chosen,
        charts.with_intervals,
    )
    yield section(
        "matches",
        "Head to head",
        "Answers to the same held-out prompts; the line is the 95 % bootstrap interval of the wins.",
        store.rows(MATCHES),
        lambda rows: charts.stacked(rows, "match", "verdict", charts.VERDICTS, interval="win"),
    )
    for name, title, text, draw in (
        (
            "score_distribution",
            "Scores",
            "Every single judgement.",
            lambda rows: charts.distribution(rows, "score", "score of one judgement"),
        ),
        ("pair_quality", "Pair quality", "Yield per kept prompt, margin, and which side is longer.", lambda rows: ""),
        ("score_gap", "Chosen minus rejected", "Does the gap close from iteration to iteration?", lambda rows: ""),
        ("judge_saturation", "Judge saturation", "Does one score drown the others?", lambda rows: ""),
        (
            "fates",
            "Where the candidates went",
            "Each candidate has exactly one fate.",
            lambda rows: charts.stacked([r for r in rows if r["fate"] != "all"], "model", "fate", charts.FATES),
        ),
        (
            "lost_prompts",
            "Where the prompts went",
            "Filtered when written, or kept and judged.",
            lambda rows: charts.stacked([r for r in rows if r["reason"] != "all"], "model", "reason"),
        ),
        (
            "judge_noise",
            "Judge noise",
            "How far the judgements of one candidate lie apart.",
            lambda rows: charts.distribution(rows, "spread_of_k", "highest minus lowest score"),
        ),
        ("length_drift", "Length", "Do answers grow?", lambda rows: ""),
        ("repeats", "Repeats", "What comes again from iteration to iteration.", lambda rows: ""),
        (
            "most_improved",
            "Most improved",
            "Held-out prompts that gained most from M1 to the last model.",
            lambda rows: "",
        ),
        ("most_worsened", "Most worsened", "Held-out prompts that lost most.", lambda rows: ""),
    ):
        yield section(name.replace("_", "-"), title, text, answered(store, name), draw)


def answered(store: database.Store, name: str) -> Rows | TableError:
    """Rows of a canned question, or the error that says which stage is missing."""
    question = questions()[name]
    try:
        return store.rows(question.sql, dict.fromkeys(question.values), question.may_lack)
    except TableError as e:
        return e


def picked(store: database.Store) -> Iterator[dict[str, Any]]:
    """Pairs with both sides and all their judgements, evenly over the models, in an order that says nothing about
    them."""
    yield from store.rows(PICKED, {"most": PAIRS_MOST}, ("pairs", "candidates", "scores", "judgements"))


def warned(folder: Path) -> Iterator[str]:
    """What the stages warned of, from their metrics, which connecting to the store has checked."""
    for (_, name), content in metrics.read_all(folder).items():
        yield from (f"AIFT({name}): {warning}" for warning in content.get("warned", []))


def identity(root: Path, folder: Path, revision: str | None) -> dict[str, str]:
    """Which version this is: the git revision, and the hash of dvc.lock."""
    done = subprocess.run(
        ["git", "rev-parse", "--short=12", revision or "HEAD"], cwd=root, capture_output=True, text=True, check=False
    )
    dirty = (
        revision is None
        and subprocess.run(["git", "diff", "--quiet", "HEAD"], cwd=root, capture_output=True, check=False).returncode
        == 1
    )
    lock = folder / "dvc.lock"
    found = {"git": done.stdout.strip() + (" with changes" if dirty else "")} if done.returncode == 0 else {}
    return {
        **({"revision": revision} if revision else {}),
        **found,
        **({"dvc.lock": md5(lock)} if lock.is_file() else {}),
    }


def lineage_of(file: Path) -> dict[str, Any]:
    """A model's lineage.json. Raises TableError when it is none."""
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
        lacking = [key for key in ("name", "parent", "method", "data", "params", "versions") if key not in found]
    except (ValueError, TypeError) as e:
        raise TableError(f"{file} is no lineage: {e}. Run: dvc checkout {file.parent}, or dvc repro") from None
    if lacking:
        raise TableError(f"{file} lacks {', '.join(lacking)}. Run: dvc checkout {file.parent}, or dvc repro")
    return dict(found)


def by_age(file: Path) -> tuple[bool, int, str]:
    """SFT before M1 before M10."""
    name = file.parent.name
    return name != "SFT", len(name), name
