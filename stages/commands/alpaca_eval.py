"""alpaca-eval: AlpacaEval 2's outputs for its own tool, and the rates of the annotations that it writes."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from stages.commands.answering import answerer, find_model
from stages.commands.figures import keep_of_model
from stages.commands.records import field, read_records, read_texts
from stages.config.finding import nearest
from stages.console.errors import SrlmError, TableError
from stages.console.sheets import Figure, Sheet, to_terminal
from stages.console.terminal import stderr, warn
from stages.engines.request import Request
from stages.method.evaluation import alpaca_eval as rules
from stages.method.statistics import Floats
from stages.store.files import result_file, write_json
from stages.text.escape import for_terminal

REPO, FILE = "tatsu-lab/alpaca_eval", "alpaca_eval_gpt4_baseline.json"
RESAMPLES, SEED = 1000, 0


def export(
    model: str, instructions: Path | None, out: Path, root: Path, *, temperature: float, top_p: float, max_tokens: int
) -> None:
    """Write `model`'s answers as `alpaca_eval --model_outputs` takes them. Raises SrlmError."""
    out = result_file(out, root)
    find_model(model, root)
    rows = read_instructions(instructions or download())
    requests = [Request(f"alpaca-eval-{i}", [{"role": "user", "content": text}]) for i, (text, _) in enumerate(rows)]
    with answerer("alpaca_eval", model, root, max_tokens=max_tokens, top_p=top_p) as answers:
        written = answers(requests, temperature)
    name = Path(model).name
    write_json(
        out,
        [
            {"instruction": text, "output": a.text, "generator": name, "dataset": dataset, "datasplit": "eval"}
            for (text, dataset), a in zip(rows, written, strict=True)
        ],
    )
    stderr.print(f"{out}: {len(rows)} outputs of {name}. Next: alpaca_eval --model_outputs {out}, then")
    stderr.print("srlm alpaca-eval score results/.../annotations.json")
    if len(rows) != rules.SIZE:
        warn(f"{len(rows)} instructions, and AlpacaEval has {rules.SIZE}: no rate of these is one of the leaderboard")


def download() -> Path:
    """The instructions' file from the Hub: JSON, no code."""
    from huggingface_hub import hf_hub_download

    try:
        return Path(hf_hub_download(REPO, FILE, repo_type="dataset"))
    except Exception as e:  # network, authentication, gating: dozens of types
        raise SrlmError(
            f"{REPO} cannot be had from the Hub: {type(e).__name__}: {' '.join(str(e).split())[:200]}. Name a file of "
            f"the instructions instead: --instructions {FILE}"
        ) from None


def read_instructions(path: Path) -> list[tuple[str, str]]:
    """Texts and the data set that each is of, of records with `instruction`, or of texts alone. Raises TableError."""
    rows: list[tuple[str, str]] = []
    seen: dict[str, str] = {}
    records = [(where, {"instruction": text}) for where, text in read_texts(path)] or read_records(path)
    for where, record in records:
        text, dataset = field(record, "instruction", where), record.get("dataset")
        if not text.strip():
            raise TableError(f"{where}: an empty instruction")
        if text in seen:
            raise TableError(f"{where}: the same instruction as {seen[text]}: {text[:80]!r}")
        seen[text] = where
        rows.append((text, dataset if isinstance(dataset, str) else "alpaca_eval"))
    return rows


def score(
    file: Path,
    root: Path,
    *,
    instructions: Path | None,
    difficulty: Path | None,
    weights: Path | None,
    outputs: Path | None,
    model: str | None,
    baseline: str,
    official: bool,
    incomplete: bool,
    as_json: bool,
) -> None:
    """Print the figures of annotations. Exits with 1 where some are missing, unless `incomplete`: then they are what
    the leaderboard's tool makes of them."""
    records = read_records(file)
    texts = [text for text, _ in read_instructions(instructions)] if instructions else None
    annotations = rules.read(records, texts, model=model, baseline=baseline)
    if outputs:
        check_outputs(outputs, records, annotations.model)
    result: dict[str, Any] = {
        "model": annotations.model,
        "baseline": annotations.baseline or baseline,
        "annotator": annotations.annotator,
        "complete": annotations.complete,
        "n_missing": annotations.size - len(annotations.preferences),
    }
    if annotations.complete or (incomplete and len(annotations.preferences)):
        result |= figures(annotations, difficulty, weights, records if official else None)
    if annotations.complete:
        keep_of_model("alpaca_eval", annotations.model, as_metrics(result), root)
    if as_json:
        print(json.dumps(result, indent=2, ensure_ascii=False))
    elif "win_rate" in result:
        show(result)
    if not annotations.complete:
        how = "" if incomplete else ". A part has no score; what the leaderboard's tool makes of it: --incomplete"
        stderr.print(f"incomplete: {annotations.missing}{how}", style="bold yellow")
        if "win_rate" not in result:
            raise SystemExit(TableError.exit_code)


def figures(
    annotations: rules.Annotations,
    difficulty: Path | None,
    weights: Path | None,
    official: list[tuple[str, Any]] | None,
) -> dict[str, Any]:
    """All that can be said: `length_controlled_winrate` by published weights or the official fit alone; else, with
    lengths, `length_adjusted`, a fit of our own that says which."""
    result: dict[str, Any] = rules.win_rate(annotations.preferences)
    low, high = rules.interval(annotations.preferences - 1, n=RESAMPLES, seed=SEED) or (None, None)
    result |= {"low": low and low * 100, "high": high and high * 100, "avg_length": None}
    if annotations.lengths is not None:
        result["avg_length"] = int(
            annotations.lengths[:, 1].sum() / annotations.size
        )  # an empty answer has no annotation
    of_all = rules.difficulties(read_records(difficulty), annotations.size) if difficulty else None
    if weights or official:
        if weights and of_all is None:
            raise SrlmError("--weights need --difficulty: the rate is a mean over the difficulties of the instructions")
        if weights and annotations.baseline not in (None, rules.BASELINE):
            raise SrlmError(f"published weights are of rates against {rules.BASELINE}, not {annotations.baseline}")
        if weights and annotations.annotator not in (None, rules.ANNOTATOR):
            raise SrlmError(f"published weights are of annotator {rules.ANNOTATOR}, not {annotations.annotator}")
        by = "published weights" if weights else "alpaca_eval's own fit"
        if weights and of_all is not None:
            # the leaderboard's tool takes difficulties by row, so of an incomplete file the first ones
            of_rows = of_all[: len(annotations.preferences)]
            predicted = rules.length_controlled(of_rows, _weights(weights, annotations.model))
        else:
            predicted = official_fit(official or [], annotations)
        low, high = rules.interval(predicted, n=RESAMPLES, seed=SEED) or (None, None)
        result |= {
            "length_controlled_winrate": float(predicted.mean() * 100),
            "lc_standard_error": float(predicted.std(ddof=1) / len(predicted) ** 0.5 * 100),
            "lc_low": low and low * 100,
            "lc_high": high and high * 100,
            "lc_by": by,
        }
    elif annotations.lengths is not None:
        of_rows = None
        if of_all is not None:
            if annotations.places is None:
                raise SrlmError("which instruction is of which difficulty? Add --instructions FILE, in their order")
            of_rows = of_all[annotations.places]
        result["length_adjusted"] = rules.own_fit(annotations, of_rows, n=RESAMPLES, seed=SEED)
    return result


def _weights(path: Path, model: str) -> rules.Weights:
    published = rules.published_weights(read_records(path))
    if model not in published:
        near = nearest(model, published)
        raise TableError(
            f"{path}: no weights of {model!r} among {len(published)} models"
            + (f"; did you mean {near}?" if near else "")
            + ". Without --weights a fit of our own is shown, under its own name"
        )
    return published[model]


def official_fit(records: Sequence[tuple[str, Any]], annotations: rules.Annotations) -> Floats:
    """Of each annotation the preference at equal length, by the package alpaca_eval, which takes its gamed baselines
    from the Hub. Raises SrlmError where it is not installed or does not get them."""
    if annotations.lengths is None or annotations.annotator is None:
        raise SrlmError("the official fit needs annotations.json with both outputs, as alpaca_eval writes it")
    try:
        import pandas as pd
        from alpaca_eval.metrics import get_length_controlled_winrate
    except ImportError as e:
        raise SrlmError(
            f"the official fit needs the package {e.name}. In an environment of its own: pip install alpaca_eval"
        ) from None
    rows = [record for _, record in records if record.get("generator_2") == annotations.model]
    frame = pd.DataFrame(rows)
    try:
        with warnings.catch_warnings(action="ignore"):  # of scikit-learn, about its next version
            get_length_controlled_winrate(frame, save_weights_dir=None)
    except Exception as e:  # the Hub, its data, another version: of many types
        why = " ".join(str(e).split())[:200]
        raise SrlmError(
            f"alpaca_eval could not fit: {type(e).__name__}: {why}. Leave --official out for ours"
        ) from None
    return frame["glm_preference"].to_numpy(dtype=float)


def check_outputs(path: Path, records: Sequence[tuple[str, Any]], model: str) -> None:
    """Raises TableError where the annotations are not of the outputs in `path`."""
    outputs = {field(r, "instruction", where): (field(r, "output", where), where) for where, r in read_records(path)}
    for where, record in records:
        if isinstance(record, dict) and record.get("generator_2", record.get("model")) == model:
            text = field(record, "instruction", where)
            if text not in outputs:
                raise TableError(f"{where}: {path} has no output to {text[:80]!r}")
            if outputs[text][0] != record.get("output_2"):
                raise TableError(f"{where}: its output_2 is not the output of {outputs[text][1]}")


def as_metrics(result: dict[str, Any]) -> dict[str, Any]:
    """The rates as figures, the counts as they are."""
    n = result["n_total"]
    content = {name: result[name] for name in ("n_wins", "n_wins_base", "n_draws", "avg_length", "standard_error")}
    content["win_rate"] = {"value": result["win_rate"], "low": result["low"], "high": result["high"], "n": n}
    if "lc_by" in result:
        rate = {"value": result["length_controlled_winrate"], "low": result["lc_low"], "high": result["lc_high"]}
        content |= {"length_controlled_winrate": rate | {"n": n}, "lc_by": result["lc_by"]}
    if adjusted := result.get("length_adjusted"):
        rate = {"value": adjusted["win_rate"], "low": adjusted["low"], "high": adjusted["high"], "n": n}
        content[f"length_adjusted_{adjusted['variant']}"] = rate
    return content | {name: result[name] for name in ("baseline", "annotator")}


def show(result: dict[str, Any]) -> None:
    rows: list[tuple[str, Any, Any]] = [
        ("win rate %", Figure(result["win_rate"], result["low"], result["high"]), result["n_total"]),
        ("standard error", Figure(result["standard_error"]), None),
        ("wins, losses, draws", f"{result['n_wins']}, {result['n_wins_base']}, {result['n_draws']}", None),
        (f"average length{'' if result['complete'] else ', 0 where not judged'}", result["avg_length"], None),
    ]
    if "lc_by" in result:
        figure = Figure(result["length_controlled_winrate"], result["lc_low"], result["lc_high"])
        rows.append((f"length-controlled win rate %, {result['lc_by']}", figure, result["n_total"]))
    if adjusted := result.get("length_adjusted"):
        figure = Figure(adjusted["win_rate"], adjusted["low"], adjusted["high"])
        rows.append((f"length-adjusted win rate %, own fit {adjusted['variant']}", figure, result["n_total"]))
    title = f"{result['model']} against {result['baseline']}, by {result['annotator'] or 'an annotator not named'}"
    to_terminal(Sheet(("figure", "value ± 95 %", "n"), rows, for_terminal(title)), sys.stdout, longest=100)
    if adjusted:
        missing = "the leaderboard's two gamed baselines"
        missing += " and the difficulties" if adjusted["variant"] == "minimal" else ""
        stderr.print(f"{adjusted['variant']}: without {missing}, so not the leaderboard's length-controlled rate")
