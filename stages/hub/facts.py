"""What the cards say, gathered from parameters, metrics and lineages: plain values for the templates."""

from __future__ import annotations

import json
import re
from collections.abc import Container, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from huggingface_hub import get_local_safetensors_metadata
from huggingface_hub.errors import NotASafetensorsRepoError, SafetensorsParsingError
from markupsafe import Markup

from stages.config.params import Params
from stages.console.errors import ModelError
from stages.store.tables import EFT, IFT_TRAIN, PAIRS, SCORES, Table
from stages.text.escape import for_markdown

Metrics = Mapping[str, Any]
"""Name of a metrics file (M1, AIFT-M1, M3-M1 ...) to its content."""
Lineages = Mapping[str, Mapping[str, Any]]
"""Model -> the lineage.json that training left beside it."""
ARXIV = "arxiv:2401.10020"


def of_the_run(params: Params) -> dict[str, Any]:
    """Who wrote, answered and judged, and what the engine `scripted` wrote in the place of a model."""
    stages = {"the prompts": "write_prompts", "the answers": "sample_candidates", "the judgements": "judge_candidates"}
    if params.judge_seed.model:
        stages["the judgements in EFT"] = "judge_seed"
    engines = {what: params.engine_for(stage) for what, stage in stages.items()}
    scripted = [what for what, engine in engines.items() if engine.worker == "scripted"]
    lagged = [model for model, how in params.aift.items() if how.judge != model]
    return {
        "params": params,
        **{key: Markup(text) for key, text in eft_judge(params).items()},
        "engines": {what: " of ".join(dict.fromkeys([engine.worker, engine.name])) for what, engine in engines.items()},
        "scripted": join_words(scripted),
        "toy": "tinyworld" in {params.split_seed.source, *(base.source for base in params.base.values())},
        "lagged": bool(lagged),
        "own": all(params.aift[model].judge in params.ancestors(model) for model in lagged),  # the model, or it earlier
        "method": bool(params.aift) and not scripted and params.build_pairs.signal == "judge",
    }


def eft_judge(params: Params) -> dict[str, str]:
    """Where the judgements in EFT come from: as a sentence's beginning, and within one. Markdown."""
    seed = params.judge_seed
    if seed.source == "ranks":
        return {
            "eft_judge": "No model judged the ranked answers: people's ranks were turned into judgements, the score by "
            "rank and the reasons by template (`judge_seed.source: ranks`)",
            "eft_source": "people's ranks, turned into judgements whose reasons say nothing of what an answer holds",
        }
    if seed.source == "written":
        return {
            "eft_judge": "Judgements of the ranked answers came with the seed data",
            "eft_source": "judgements that came with the seed data",
        }
    who = "the SFT baseline" if seed.model == "SFT" else f"{for_markdown(str(seed.model))} (`judge_seed.source: judge`)"
    return {
        "eft_judge": f"{who[0].upper()}{who[1:]} judged each ranked answer {seed.k} times",
        "eft_source": f"judgements that {who} wrote, as far as they agree with people's ranks",
    }


def shape(folder: Path) -> dict[str, Any]:
    """Of a model: `parameters`, `architecture`, `layers`, `width`, `context`; None for what its files do not say.

    Raises ModelError for files that cannot be read.
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        counts = get_local_safetensors_metadata(folder).parameter_count
    except (OSError, ValueError, NotASafetensorsRepoError, SafetensorsParsingError) as e:
        raise ModelError(f"{folder} cannot be read as a model: {e}. Run: srlm repro") from None
    return {
        "parameters": sum(counts.values()),
        "architecture": next(iter(config.get("architectures") or ()), None),
        "layers": config.get("num_hidden_layers"),
        "width": config.get("hidden_size"),
        "context": config.get("max_position_embeddings"),
    }


def versions(graph: Mapping[str, Any]) -> str:
    """Of the packages that trained the models of a lineage, and that wrote its texts; two where they differ."""
    numbers: dict[str, list[str]] = {}
    for packages in [*(model.get("versions", {}) for model in graph["models"].values()), *graph["packages"].values()]:
        for package, version in packages.items():
            numbers.setdefault(package, []).append(version)
    return ", ".join(f"{package} {join_words(versions)}" for package, versions in sorted(numbers.items()))


def warnings(params: Params, of: Container[str], metrics: Metrics) -> list[dict[str, str]]:
    """What was warned of EFT, of AIFT by their names, and of their drift, as far as they are in `of`. Other files are
    of models that are no longer made."""
    files = ["EFT"] * ("EFT" in of)
    files += [f"{kind}-{m}" for kind, all in (("AIFT", params.aift), ("drift", params.drift)) for m in all if m in of]
    return [{"of": name, "text": text} for name in files for text in metrics.get(name, {}).get("warned", ())]


def tags(run: Mapping[str, Any], *names: str) -> list[str]:
    """Of a card; `names` are true only of what the method made."""
    own = ["self-rewarding"] if run["own"] and names else []
    return [*own, *names, ARXIV] if run["method"] else [ARXIV]


def dataset_metadata(params: Params, run: Mapping[str, Any]) -> dict[str, Any]:
    """Of the dataset's card, without what depends on its files."""
    return {
        "license": params.publish.data_license,
        "language": [params.split_seed.lang or "mul"],
        "task_categories": ["text-generation"],
        "tags": tags(run, "preference", "dpo", "rlaif", "llm-as-a-judge"),
    }


def meaning(table: Table, model: str | None, trained: Mapping[str, str]) -> Markup:
    """What a table is, with the names of its models. Only the contracts' own words may hold markup."""
    words = table.meaning
    for general, name in (("Mt+1", trained.get(model or "", "")), ("Mt", model or "")):
        words = words.replace(general, name) if re.fullmatch(r"[\w., -]+", name) else words
    return Markup(words)


def columns(tables: Mapping[str, Table]) -> list[dict[str, Any]]:
    """Each distinct list of columns once, with the configs that have it; `tables` by config."""
    configs: dict[Any, list[str]] = {}
    for config, table in tables.items():
        configs.setdefault(table.columns, []).append(config)
    return [{"configs": names, "columns": columns} for columns, names in configs.items()]


def outcomes(params: Params, metrics: Metrics) -> dict[str, Any]:
    """The figures of each AIFT and of EFT, warnings, and how well the models judge and write."""
    aift = {model: metrics[f"AIFT-{model}"] for model in params.aift if f"AIFT-{model}" in metrics}
    return {
        "counted": list(aift),
        "counts": figures(aift.values()),
        "fate_meaning": Markup(next(column.meaning for column in SCORES.columns if column.name == "fate")),
        "eft": figures([metrics.get("EFT", {})]),
        "warnings": warnings(params, {"EFT", *params.aift}, metrics),
        "judged": {model: quality(metrics[model]) for model in params.evaluated if model in metrics},
    }


def figures(files: Iterable[Mapping[str, Any]]) -> dict[str, list[Any]]:
    """Name of a number -> its value in each of some metrics files; None where a file does not hold it. What is 0 in
    each by name (fates, scores) is left out."""
    flat: list[dict[str, Any]] = []
    for content in files:
        flat.append({})
        for key, value in content.items():
            name = key.replace("_", " ")
            if isinstance(value, dict):
                flat[-1] |= {f"{name}: {part}": number for part, number in value.items() if number}
            elif value is None or isinstance(value, (int, float)):
                flat[-1][name] = value
    return {name: [row.get(name) for row in flat] for name in dict.fromkeys(name for row in flat for name in row)}


def quality(metrics: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The figures of one model that an evaluation gave, as judge and as writer: `value`, `low`, `high`, `n`."""
    parts = {name: metrics.get(name, {}) for name in ("judge", "trust", "writer")}
    parts["writer"] = parts["writer"].get("greedy", {})
    return {
        part: {name: f for name, f in named.items() if isinstance(f, dict) and f.get("value") is not None}
        for part, named in parts.items()
    }


def example(pairs: Sequence[tuple[str, pl.DataFrame]]) -> dict[str, Any] | None:
    """The pair of the last AIFT with the widest margin among short ones."""
    margin = pl.col("chosen_score") - pl.col("rejected_score")
    for model, frame in reversed(pairs):
        short = frame.filter(pl.sum_horizontal(pl.col("prompt", "chosen", "rejected").str.len_chars()) < 1500)
        if not short.is_empty():
            return {"model": model, **short.sort(margin, "prompt_id", descending=[True, False]).row(0, named=True)}
    return None


def line_of(model: str, lineages: Lineages, params: Params) -> list[str]:
    """The model, its parent, and so on to the first."""
    line, others = [model], {*lineages, *params.input_models}
    while line[-1] in lineages and (parent := lineages[line[-1]].get("parent")) in others - {*line}:
        line.append(parent)
    return line


def model_metadata(
    params: Params,
    dataset: str,
    base: str | None,
    about: Mapping[str, Any],
    run: Mapping[str, Any],
    *,
    adapter: bool = False,
) -> dict[str, Any]:
    """Of a model's card. `base`: the repository of what it was trained from, where that is on the Hub; `adapter`:
    whether it is one, beside the weights that it goes over."""
    trained = [about["by"], "trl"] if about["by"] in ("sft", "dpo") else []
    judge = ["llm-as-a-judge"] if about["learnt"] in ("EFT", "perfect", "pairs") else []
    return {
        "license": params.publish.model_license,
        "language": [params.split_seed.lang or "mul"],
        "library_name": "peft" if adapter else "transformers",
        "pipeline_tag": "text-generation",
        "datasets": [dataset],
        **({"base_model": base} if base else {}),
        "tags": [*trained, *["lora"] * adapter, *tags(run, *judge)],
    }


def of_the_model(name: str, params: Params, metrics: Metrics, lineages: Lineages) -> dict[str, Any]:
    """What `name` learnt from, what was warned of each AIFT that it or a model it comes from was trained on, and how
    good it is."""
    paths = {m: {table.path.format(model=m) for table in (PAIRS, SCORES)} for m in params.aift}
    line = [lineages[above] for above in line_of(name, lineages, params) if above in lineages]
    read = [[m for m in paths if paths[m] & {*lineage["data"]}] for lineage in line]
    data, method, aift = line[0]["data"], line[0]["method"], next(iter(read[0]), None)
    eft = ["EFT"] * any(EFT.path in lineage["data"] for lineage in line)
    learnt = "EFT" if EFT.path in data else "IFT" if IFT_TRAIN.path in data else ""
    return {
        "learnt": ("pairs" if method == "dpo" else "perfect") if aift else learnt,
        "by": method,
        "learnt_aift": aift and {"model": aift, "judge": params.aift[aift].judge},
        "warnings": warnings(params, {m for models in (*read, eft) for m in models}, metrics),
        "quality": quality(metrics[name]) if name in metrics else {},
        "matches": [
            {"other": match.other, **metrics[pair]["greedy"]}
            for pair, match in params.head_to_head.items()
            if match.model == name and pair in metrics
        ],
        "compared_by": "the tiny world's checker"
        if params.evaluate.compare_by == "oracle"
        else params.evaluate.compare_with,
    }


def origin(names: Iterable[str], lineages: Lineages, graph: Mapping[str, Any]) -> dict[str, Any]:
    """Of the first models: what intake put right in each, and what servers would not take of the requests for a
    table, by its path."""
    mended = {name: lineages.get(name, {}).get("mended", ()) for name in names}
    return {
        "first_models": list(mended),
        "mended": {name: "; ".join(map(str, sentences)) for name, sentences in mended.items() if sentences},
        "left_out": {path: ", ".join(fields) for path, fields in graph.get("left_out", {}).items()},
    }


def join_words(names: Iterable[str]) -> str:
    """Each once: `a, b and c`; nothing of none."""
    *first, last = dict.fromkeys(names) or [""]
    return f"{', '.join(first)} and {last}" if first else last
