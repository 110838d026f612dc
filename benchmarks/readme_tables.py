"""readme_tables: the tables of README.md and docs/, from what is in data/results (by `make seeds`, `make controls` and
`--run`).

python -m benchmarks.readme_tables              rewrites the pages between their markers
python -m benchmarks.readme_tables --check      fails when a page does not show what data/results holds
python -m benchmarks.readme_tables --run DIR    first records times and some answers of the default run in DIR
python -m benchmarks.readme_tables --smol DIR   first records the run of the profile smol in DIR
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
from functools import reduce
from io import StringIO
from operator import getitem
from pathlib import Path
from statistics import mean
from typing import Any

from benchmarks import ablations, six
from benchmarks import smol as real
from stages.config.load import load_params
from stages.console.command import command
from stages.console.errors import SrlmError
from stages.console.sheets import Code, Figure, Sheet, to_markdown
from stages.store.database import connect
from stages.store.files import atomic_write, write_json
from stages.store.questions import questions
from stages.store.run import times as times_of

PAGES = ("README.md", "docs/ablations.md", "docs/querying.md", "docs/results.md")
Run = dict[str, Any]
"""One variant: overrides, seconds, metrics (kind -> name -> content), stages (name -> seconds, compute_s, peak_mb)."""
WRITER = (("oracle_score", "oracle score 0–5", 1, 2), ("fully_right", "fully right %", 100, 1))
COLUMNS = (
    *(
        (f"{title}, {decoding}", ("writer", decoding, name), scale, digits)
        for name, title, scale, digits in WRITER
        for decoding in ("greedy", "sampled")
    ),
    ("all five points %", ("writer", "greedy", "all_five"), 100, 1),
    ("characters", ("writer", "greedy", "chars"), 1, 1),
    ("judge: pairwise acc. % (pairs)", ("judge", "pairwise_accuracy"), 100, 1),
    ("5-best % (fives)", ("judge", "five_best"), 100, 1),
    ("Spearman (prompts)", ("judge", "spearman"), 1, 3),
)
ASKED = ("pair_quality", "score_gap")
"""Canned questions that docs/querying.md answers."""
WIDEST_PAIR = """
SELECT prompt, chosen, rejected, chosen_score, rejected_score FROM pairs
ORDER BY chosen_score - rejected_score DESC, length(prompt), prompt_id LIMIT 1"""


def main(check: bool = False, run: Path | None = None, smol: Path | None = None, root: Path = Path()) -> None:
    """Put the tables into the pages."""
    smol_file = root / "data" / "results" / "smol.json"
    smol_runs = json.loads(smol_file.read_text(encoding="utf-8")) if smol_file.is_file() else {}
    if smol:
        recorded = real.record(smol)
        smol_runs[f"{real.prompts(recorded)} prompts"] = recorded
        write_json(smol_file, smol_runs)
    if run:
        write_json(root / "data" / "results" / "default.json", default_run(run))
    seeds, controls, default = load(root, "seeds"), load(root, "controls"), load(root, "default")
    arms = ablations.load(root)
    tables = {
        **({"quick": quick(default)} if "shown" in default else {}),
        "summary": summary(seeds, controls),
        "record": result(seeds, controls),
        "seeds": by_seed(seeds),
        "time": times(default["stages"]),
        "smol": real.table(smol_runs, real.SHORT),
        "smol, all": real.table(smol_runs, real.ALL),
        **ablations.tables(arms),
        **six.tables(arms),
    } | {f"query {name}": markdown(answer["columns"], answer["rows"]) for name, answer in default["answers"].items()}
    pages: dict[str, str | None] = {f"docs/{six.SVG}": six.figure(arms)}
    for page in PAGES:
        fresh = (root / page).read_text(encoding="utf-8")
        for name in re.findall(r"^<!-- ([^/].*) -->$", fresh, flags=re.MULTILINE):
            fresh = between(fresh, name, tables[name])
        pages[page] = fresh
    for page, content in pages.items():
        file = root / page
        there = file.read_text(encoding="utf-8") if file.is_file() else None
        if content == there or (check and page.endswith(six.SVG) and first_line(content) == first_line(there)):
            continue
        if check:
            raise SrlmError(f"{page} does not show what data/results holds. Run: python -m benchmarks.readme_tables")
        if content is None:
            file.unlink()
        else:
            with atomic_write(file) as partial:
                partial.write_text(content, encoding="utf-8")


def first_line(text: str | None) -> str | None:
    return text and text.partition("\n")[0]


def default_run(folder: Path) -> dict[str, Any]:
    """Of the run in `folder`: threads, figures of each stage, answers to the questions of ASKED, its result and a
    pair."""
    answers = {}
    with connect(folder) as store:
        for name in ASKED:
            relation = store.select(questions()[name].sql)
            answers[name] = {"columns": relation.columns, "rows": relation.fetchall()}
        [pair] = store.rows(WIDEST_PAIR)
    shown = subprocess.run(
        [sys.executable, "-m", "stages.commands.cli", "results"], cwd=folder, capture_output=True, text=True, check=True
    ).stdout
    spent = [{"stage": name, **figures} for name, figures in times_of(folder).items()]
    threads = load_params(folder).hardware.threads
    return {"threads": threads, "stages": spent, "answers": answers, "pair": pair, "shown": shown}


def quick(default: dict[str, Any]) -> str:
    """What the run ends with, and one of its pairs."""
    sheets = default["shown"].strip("\n").split("\n\n")
    first = next(sheet for sheet in sheets if sheet.startswith("Head to head"))
    first = "\n".join(line for line in first.splitlines() if "  sampled  " not in line)
    pair = json.dumps(default["pair"], ensure_ascii=False)
    return (
        f'Among its last lines (`srlm query "FROM pairs"` has rows like the one '
        f"below):\n\n```text\n{first}\n```\n\n```json\n{pair}\n```\n"
    )


def last_under(controls: dict[str, Run]) -> dict[str, list[Run]]:
    """The runs of each control, those of most seeds first."""
    names = dict.fromkeys(name.rpartition("-")[0] for name in controls)
    groups = {name: [run for key, run in controls.items() if key.rpartition("-")[0] == name] for name in names}
    return dict(sorted(groups.items(), key=lambda group: -len(group[1])))


def models_of(seeds: dict[str, Run]) -> list[str]:
    evaluated = next(iter(seeds.values()))["metrics"]["EVAL"]
    return sorted(evaluated, key=lambda model: (model != "SFT", len(model), model))


def summary(seeds: dict[str, Run], controls: dict[str, Run]) -> str:
    """Means over the seeds of what the models reach, and of the last model under each control."""
    runs, models, columns = list(seeds.values()), models_of(seeds), (0, 2, 6)
    groups = {model: (runs, model) for model in models}
    groups |= {f"{models[-1]}, control: {name}": (own, models[-1]) for name, own in last_under(controls).items()}
    rows = [
        [
            name,
            *(cells(group, model, with_n=False)[i] for i in columns),
            "–" if model == "SFT" else shares(group, f"{model}-SFT", "greedy"),
        ]
        for name, (group, model) in groups.items()
    ]
    return markdown(["", *(COLUMNS[i][0].split(" (")[0] for i in columns), "against SFT, win/tie/lose %"], rows)


def load(root: Path, name: str) -> dict[str, Any]:
    file = root / "data" / "results" / f"{name}.json"
    if not file.is_file():
        how = "python -m benchmarks.readme_tables --run ." if name == "default" else f"make {name}"
        raise SrlmError(f"{file} is not there. Run: {how}")
    content: dict[str, Any] = json.loads(file.read_text(encoding="utf-8"))
    return content


def between(text: str, name: str, table: str) -> str:
    head, tail = f"<!-- {name} -->\n", f"<!-- /{name} -->"
    if text.count(head) != 1 or text.count(tail) != 1:
        raise SrlmError(f"a page has the marker {head.strip()} or {tail} not once")
    return f"{text.split(head)[0]}{head}{table}{tail}{text.split(tail)[1]}"


def markdown(columns: list[str], rows: list[list[Any]]) -> str:
    file = StringIO()
    to_markdown(Sheet(columns, rows), file)
    return file.getvalue()


def result(seeds: dict[str, Run], controls: dict[str, Run]) -> str:
    """One row per model, means over seeds; then the last model under each control, of fewer seeds below its self-judged
    self with the same ones; then its matches against every earlier model."""
    runs, models = list(seeds.values()), models_of(seeds)
    last, rows, shown = models[-1], [[model, *cells(runs, model)] for model in models], [*seeds]
    for name, own in last_under(controls).items():
        used = [key.rpartition("-")[2] for key in controls if key.rpartition("-")[0] == name]
        if used != shown:
            rows.append([f"{last}, seeds {' and '.join(used)}", *cells([seeds[seed] for seed in used], last)])
            shown = used
        rows.append([f"the same, {name}", *cells(own, last)])
    matches = [
        f"{last} against {other} {shares(runs, f'{last}-{other}', 'greedy')} (sampled "
        f"{shares(runs, f'{last}-{other}', 'sampled')})"
        for other in models[:-1]
    ]
    return (
        markdown(["", *(column[0] for column in COLUMNS)], rows)
        + f"\nHead to head by the checker's points, greedy, win/tie/lose %: {'; '.join(matches)}.\n"
    )


def by_seed(seeds: dict[str, Run]) -> str:
    models = ("M1", "M2", "M3")

    def chain(runs: list[Run], column: int) -> tuple[Figure, ...]:
        return tuple(cells(runs, model, with_n=False)[column] for model in models)

    rows = [
        [
            name,
            *(chain(runs, column) for column in (0, 1, 2, 6)),
            shares(runs, "M3-M1", "greedy"),
            tuple(Figure(mean(run["metrics"]["AIFT"][m]["pairs"] for run in runs), digits=0) for m in models[:-1]),
        ]
        for name, runs in {**{seed: [run] for seed, run in seeds.items()}, "mean": list(seeds.values())}.items()
    ]
    columns = ["seed", *(COLUMNS[i][0] for i in (0, 1, 2)), "judge: pairwise acc. %", "M3 against M1, win/tie/lose %"]
    return markdown([*columns, "pairs"], rows)


def times(stages: list[dict[str, Any]]) -> str:
    """Seconds of each stage, and the share that was the model's own compute."""
    total = {"stage": "all stages", "peak_mb": max(s["peak_mb"] for s in stages)}
    total |= {key: sum(s[key] for s in stages) for key in ("seconds", "compute_s")}
    rows = []
    for s in (*stages, total):
        share = Figure(s["compute_s"] / s["seconds"], digits=0, scale=100)
        rows.append([Code(s["stage"]), Figure(s["seconds"], digits=1), share, s["peak_mb"]])
    return markdown(["stage", "seconds", "model's own compute %", "peak MB"], rows)


def cells(runs: list[Run], model: str, with_n: bool = True) -> list[Figure]:
    """The figures of COLUMNS, means over `runs`; of a judge's also all that they are means of."""
    row = []
    for _, path, scale, digits in COLUMNS:
        figures = [reduce(getitem, path, run["metrics"]["EVAL"][model]) for run in runs]
        n = sum(figure["n"] for figure in figures) if with_n and path[0] == "judge" else None
        row.append(Figure(mean(figure["value"] for figure in figures), n=n, digits=digits, scale=scale))
    return row


def shares(runs: list[Run], match: str, decoding: str) -> str:
    outcomes = [run["metrics"]["head_to_head"][match][decoding] for run in runs]
    return "/".join(f"{100 * mean(found[k]['value'] for found in outcomes):.0f}" for k in ("win", "tie", "lose"))


if __name__ == "__main__":
    command(main)
