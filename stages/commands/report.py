"""report: what the model did to itself, as one HTML file that needs no network. `srlm report`, `srlm report --rev v1
--out v1.html`.

The figures are the canned questions' own; the verb only chooses and names them.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from stages.commands.results import named
from stages.config.load import PARAMS, read_mapping
from stages.console.errors import MissingTableError
from stages.console.terminal import stderr
from stages.method.drift import both_scores, parted
from stages.page import sections
from stages.page.answer import answer
from stages.page.pairs import fitting
from stages.page.render import Page, render
from stages.page.sections import Section
from stages.store import database, metrics, models, versions
from stages.store.damage import other_bank, other_params
from stages.store.files import atomic_write, md5, result_file
from stages.store.questions import questions

Rows = list[dict[str, Any]]

PAIRS_BYTES = 3_500_000
"""What the pairs may take of the page."""
PAIRS_MOST = 20_000
LATER = "not evaluated yet"


def write(out: Path, *, revision: str | None = None, root: Path = Path()) -> None:
    """Write the report of the workspace, or of `revision`, to `out`. Raises RevisionError; TableError for damage."""
    result_file(out, root)
    with versions.at(root, revision) as folder, database.connect(folder) as store:
        page = gather(store, folder, identity(root, folder, revision))
    with atomic_write(out) as partial:
        partial.write_text(render(page), encoding="utf-8")
    size = out.stat().st_size / 1e6
    stderr.print(f"written: {out} ({size:.1f} MB, {page.pairs_shown} of {page.pairs_total} pairs)")


def gather(store: database.Store, folder: Path, revision: dict[str, str], pairs: int = PAIRS_MOST) -> Page:
    """Everything that the page shows, and `pairs` at most in it."""
    loop, lineage = ask(store, "loop"), models.lineages(folder)
    figures, matches = ask(store, "improvement"), ask(store, "head_to_head")
    params, measured = folder / PARAMS, {row["model"] for row in figures}
    listed = (read_mapping(params) or {}).get("evaluated") or sorted(measured, key=models.by_age)
    evaluated, later = ([m for m in listed if (m in measured) == known] for known in (True, False))
    figures.sort(key=lambda row: evaluated.index(row["model"]))
    gains = ask(store, "gains", other=evaluated[0]) if evaluated else []
    doubts = [*([f"{LATER}: {', '.join(later)}. Run: srlm repro"] if later else []), *warnings(folder)]
    pairs_json, shown = fitting(ask(store, "pairs_in_full", most=pairs) if pairs else [], PAIRS_BYTES)
    return Page(
        title="Self-rewarding run",
        answer=answer(evaluated, matches, gains, figures, doubts),
        loop=tuple({**step, "trains": trained_on(step["model"], lineage)} for step in loop),
        sections=(
            sections.head_to_head(matches),
            *sections.figures(figures),
            *sections.training(models.training_logs(folder)),
            *(answered(store, view) for view in sections.VIEWS),
        ),
        lineage=tuple(lineage),
        revision=revision,
        params=params.read_text(encoding="utf-8") if params.is_file() else "",
        pairs_json=pairs_json,
        pairs_shown=shown,
        pairs_total=sum(step["pairs"] or 0 for step in loop),
        models=tuple(step["model"] for step in loop),
    )


def trained_on(model: str, lineage: Rows) -> list[str]:
    """The models that AIFT(model) trained."""
    return [child["name"] for child in lineage if any(f"data/AIFT/{model}/" in path for path in child["data"])]


def answered(store: database.Store, view: sections.View) -> Section:
    """A question's section; its text says which stage is missing where a table is."""
    try:
        return view.section(ask(store, view.question))
    except MissingTableError as e:
        return view.section([], missing=str(e))


def ask(store: database.Store, name: str, **values: Any) -> Rows:
    """Rows of a canned question. Raises TableError where it needs a table that is not there."""
    question = questions()[name]
    return store.rows(question.sql, dict.fromkeys(question.values) | values, question.may_lack)


def warnings(folder: Path) -> list[str]:
    """What the stages warned of, and where params.yaml is not what they ran with."""
    figures, params = metrics.read_all(folder), read_mapping(folder / PARAMS) or {}
    warned = [
        f"{named(kind, name)}: {warning}"
        for (kind, name), content in figures.items()
        for warning in content.get("warned", [])
    ]
    limit, loop = (params.get("warn") or {}).get("scores_apart"), params.get("aift") or {}
    scale = (params.get("judge") or {}).get("scale") or {"min": 0, "max": 5}  # an older revision has no such key
    points = scale["max"] - scale["min"]
    apart = parted(both_scores(figures, loop), limit, points) if isinstance(limit, int | float) else []
    return [*filter(None, [other_params(folder), other_bank(folder, figures)]), *apart, *warned]


def identity(root: Path, folder: Path, revision: str | None) -> dict[str, str]:
    """Which version this is: the git revision, and the hash of dvc.lock."""

    def git(*command: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(["git", *command], cwd=root, capture_output=True, text=True, check=False)

    lock, head = folder / "dvc.lock", git("rev-parse", "--short=12", revision or "HEAD")
    names = {"revision": revision} if revision else {}
    if head.returncode == 0:
        dirty = revision is None and git("diff", "--quiet", "HEAD").returncode == 1
        names["git"] = head.stdout.strip() + (" with changes" if dirty else "")
    return names | ({"dvc.lock": md5(lock)} if lock.is_file() else {})
