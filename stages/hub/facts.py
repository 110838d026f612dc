"""What the cards tell, gathered from parameters, metrics and lineages: plain values for the templates."""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from typing import Any

import polars as pl
from markupsafe import Markup

from stages.config.names import CHECKER
from stages.config.params import Params
from stages.console.errors import HubError
from stages.hub import making
from stages.hub.configs import Config
from stages.hub.making import generation_summary, join_words
from stages.store.tables import CANDIDATES, EFT, IFT_TRAIN, PAIRS, PROMPTS, SCORES

Metrics = Mapping[str, Any]
"""Name of a metrics file (M1, AIFT-M1, M3-M1 ...) to its content."""

LEARNT = {
    "EFT": ("EFT",),
    "perfect": ("prompts", "answers", "judgements", "EFT"),
    "pairs": ("prompts", "answers", "judgements"),
}
"""What a model learnt from, to those parts of `making.DATA` that stand in it."""


def size_category(rows: int) -> str:
    """The Hub's word for so many rows."""
    names = ((10**3, "n<1K"), (10**4, "1K<n<10K"), (10**5, "10K<n<100K"), (10**6, "100K<n<1M"), (10**7, "1M<n<10M"))
    return next((name for limit, name in names if rows < limit), "n>10M")


def dataset_metadata(name: str, params: Params, rows: int) -> dict[str, Any]:
    """Of the dataset's card, without what depends on its files."""
    return {
        "pretty_name": name.split("/")[1],
        "license": params.publish.data_license,
        "language": [params.split_seed.lang],
        "task_categories": ["text-generation"],
        "size_categories": [size_category(rows)],
        "tags": making.dataset_tags(params),
    }


def model_metadata(
    name: str, params: Params, dataset: str, first: str, method: str, about: Mapping[str, Any]
) -> dict[str, Any]:
    """Of a model's card. `first`: that of its line. `about`: as `of_the_model`, so that what a tag says is true of
    it."""
    base = params.external.get(first)
    judged = {*LEARNT.get(str(about["learnt"]), ())} & {"judgements", "EFT"} - making.scripted(params)
    judges = [*(["self-rewarding"] if about["self_rewarding"] else []), "llm-as-a-judge"] if judged else []
    return {
        "pretty_name": name.split("/")[1],
        "license": params.publish.model_license,
        "language": [params.split_seed.lang],
        "library_name": "transformers",
        "pipeline_tag": "text-generation",
        "datasets": [dataset],
        **({"base_model": base.repo} if base and base.source == "hub" else {}),
        "tags": [*judges, *([method, "trl"] if method in ("sft", "dpo") else []), "arxiv:2401.10020"],
    }


def described(configs: Iterable[Config], rows: Mapping[tuple[str, str], int], params: Params) -> list[dict[str, Any]]:
    """The configs for the template; `rows` by config and split. Only the contracts' own words may hold markup."""
    return [
        {
            "name": config.name,
            "variable": re.sub(r"\W", "_", config.name),
            "raw": config.raw,
            "trains": _trains(config, params),
            "splits": [
                {
                    "name": split.name,
                    "rows": rows[config.name, split.name],
                    "stage": split.table.made_by + (f"@{split.model}" if split.model else ""),
                    "meaning": Markup(split.table.meaning),
                }
                for split in config.splits
            ],
            "columns": [
                {"name": c.name, "type": str(c.dtype), "nullable": c.nullable, "meaning": Markup(c.meaning)}
                for c in config.table.columns
            ],
        }
        for config in configs
    ]


def _trains(config: Config, params: Params) -> str:
    """Also what is trained without rejected answers, which the paper's main runs do not do."""
    if config.table.name in (IFT_TRAIN.name, EFT.name):
        return ", and ".join([config.trains, *params.positive_only])
    perfect = config.table.name in (PROMPTS.name, CANDIDATES.name, SCORES.name)
    heirs = [
        name for name, variant in params.positive_only.items() if perfect and variant.aift == config.splits[0].model
    ]
    return (
        config.trains.replace("nothing", f"{join_words(heirs)}, by the perfect answers", 1) if heirs else config.trains
    )


def of_the_loop(params: Params, metrics: Metrics) -> dict[str, Any]:
    """Counts, fates, scores and warnings by AIFT, counts of EFT, and how the models judge and write. Raises HubError
    where counts do not add up."""
    aift = [
        {"model": model, "metrics": metrics[f"AIFT-{model}"]} for model in params.aift if f"AIFT-{model}" in metrics
    ]
    for made in aift:
        if (fates := sum(made["metrics"]["fates"].values())) != made["metrics"]["candidates"]:
            raise HubError(
                f"data/metrics/AIFT-{made['model']}.json: {made['metrics']['candidates']} candidates have {fates} "
                f"fates. Run: srlm repro"
            )
        made["unreadable"] = made["metrics"]["judgements"] - sum(made["metrics"]["score_histogram"].values())
        made["unreadable_share"] = (
            made["unreadable"] / made["metrics"]["judgements"] if made["metrics"]["judgements"] else None
        )
        prompts, pairs, ties = (made["metrics"][key] for key in ("prompts", "pairs", "ties"))
        made["tie_share"] = ties / prompts if prompts else None
        made["unusable_share"] = (prompts - pairs - ties) / prompts if prompts else None
    judges = [{"model": model, **metrics[model]} for model in params.evaluated if model in metrics]
    reported: list[dict[str, Any]] = [made["metrics"] for made in aift]
    return {
        "aift": aift,
        "reasons": _all(found["dropped"] for found in reported),
        "fates": _all(found["fates"] for found in reported),
        "scores": [
            score
            for score in _all(found["score_histogram"] for found in reported)
            if any(found["score_histogram"][score] for found in reported)
        ],
        "fate_meaning": Markup(next(column.meaning for column in SCORES.columns if column.name == "fate")),
        "eft": _eft(metrics["EFT"]) if "EFT" in metrics else None,
        "warnings": _warned(params, params.aift, metrics),
        "judges": judges,
        "oracle": any(judge["writer"]["greedy"]["oracle_score"]["value"] is not None for judge in judges),
    }


def _eft(found: Mapping[str, Any]) -> dict[str, Any]:
    """Its counts, and how many judgements could be read and were `passed_over`. Raises HubError where the bins do not
    add up."""
    passed_over = found["judgements"] - found["unparsed"] - found["agreeing"]
    if passed_over < 0 or not found["agreeing"] - found["thinned"] == found["eft"] == sum(
        found["score_histogram"].values()
    ):
        raise HubError(
            f"data/metrics/EFT.json: its counts do not add up to {found['judgements']} judgements and {found['eft']} "
            f"rows. Run: srlm repro"
        )
    return {**found, "passed_over": passed_over}


def _warned(params: Params, aift: Container[str], metrics: Metrics) -> list[dict[str, str]]:
    """What was warned of these, and of their drift. Other files are of models that are no longer made."""
    files = {
        f"{kind}-{model}"
        for kind, of in (("AIFT", params.aift), ("drift", params.drift))
        for model in of
        if model in aift
    }
    return [
        {"dataset": name, "text": text}
        for name, found in metrics.items()
        if name in files
        for text in found.get("warned", ())
    ]


def of_the_model(
    name: str, params: Params, metrics: Metrics, lineages: Mapping[str, Mapping[str, Any]], files: Mapping[str, Any]
) -> dict[str, Any]:
    """What `name` learnt from, and what was warned of each AIFT that it or a model it comes from was trained on.
    `files`: of the datasets' repository."""
    read: dict[str, list[str]] = {}
    above: Any = name
    while above in lineages and above not in read:
        read[above] = [
            model
            for model in params.aift
            if {table.path.format(model=model) for table in (PAIRS, SCORES)} & {*lineages[above]["data"]}
        ]
        above = lineages[above].get("parent")
    known, aift = lineages[name], next(iter(read[name]), None)
    learnt = (
        {"dpo": "pairs", "sft": "perfect"}
        if aift
        else {"sft": "EFT" if EFT.path in known["data"] else "IFT", "tinyworld": "corpus"}
    )
    all_read = [
        model
        for model in params.aift
        if any(model in models for models in read.values()) and f"AIFT-{model}" in metrics
    ]
    tables = [IFT_TRAIN.path, EFT.path, *(PAIRS.path.format(model=model) for model in read[name])]
    learnt_as = learnt.get(known["method"])
    of_engines, rehearsed = LEARNT.get(str(learnt_as), ()), making.scripted(params)
    rows = {path: sum(about["rows"] for about in files.values() if about["table"] == path) for path in tables}
    return {
        "learnt": learnt_as,
        "aift": aift and {"model": aift, "judge": params.aift[aift].judge},
        "all_read": all_read,
        "warnings": _warned(params, all_read, metrics),
        "rows": {
            about["config"]: rows[about["table"]]
            for about in files.values()
            if about["table"] in {*tables} & {*known["data"]}
        },
        "seed_rows": {"IFT": rows[IFT_TRAIN.path], "EFT": rows[EFT.path]},
        "self_rewarding": generation_summary(params)["self_rewarding"],
        "scripted": join_words(making.DATA[what] for what in of_engines if what in rehearsed),
        "scripted_figures": "evaluation" in rehearsed,
        "scripted_verdicts": "verdicts" in rehearsed,
        "compared_by": "" if params.evaluate.compare_with == CHECKER else params.evaluate.compare_with.split("/")[-1],
    }


def matches(params: Params, metrics: Metrics, model: str) -> list[dict[str, Any]]:
    """Head to head, greedy, of `model` against each `other`: the figures `win`, `tie` and `lose`, of `n` prompts,
    beside those `unreadable`."""
    return [
        {"other": m.other, **metrics[name]["greedy"]}
        for name, m in params.head_to_head.items()
        if m.model == model and name in metrics
    ]


def family(lineages: Mapping[str, Mapping[str, Any]], hashes: Mapping[str, str]) -> list[dict[str, Any]]:
    """Models for the template, with the tables that they were trained on."""
    return [
        {
            "name": name,
            "parent": known.get("parent"),
            "method": known["method"],
            "reference": known.get("reference"),
            "md5": hashes[name],
            "tables": {path: md5 for path, md5 in known["data"].items() if path.endswith(".parquet")},
        }
        for name, known in lineages.items()
    ]


def base_in_words(params: Params, models: Iterable[str]) -> str:
    """What those of `models` are that were not trained here from others."""
    told = []
    for name in models:
        if other := params.external.get(name):
            told.append(
                f"{name} is {other.repo} "
                + (f"of the Hub at revision {other.revision}" if other.source == "hub" else "on a server")
            )
        elif base := params.base.get(name):
            made = {
                "tinyworld": "was pretrained here, from scratch",
                "random": "is a small Llama with random weights",
                "local": f"is the folder {base.path}",
            }
            told.append(f"{name} {made[base.source]}")
    return "; ".join(told)


def line_of(model: str, lineages: Mapping[str, Mapping[str, Any]], params: Params) -> list[str]:
    """The model, its parent, and so on to the first."""
    line = [model]
    while line[-1] in lineages and (parent := lineages[line[-1]].get("parent")) in {*lineages, *params.input_models} - {
        *line
    }:
        line.append(parent)
    return line


def seed_in_words(params: Params) -> str:
    """Where the seed rows come from."""
    seed = params.split_seed
    if seed.source == "hub":
        return f"{seed.repo} of the Hub at revision {seed.revision}"
    return "made by the embedded tiny world" if seed.source == "tinyworld" else f"{seed.path} ({seed.source})"


def versions(lineages: Iterable[Mapping[str, Any]], generated: Iterable[Mapping[str, str]]) -> str:
    """Of the packages that made the models, and of those that wrote texts; two where they differ."""
    found: dict[str, list[str]] = {}
    for known in [*(told.get("versions", {}) for told in lineages), *generated]:
        for package, version in known.items():
            found[package] = list(dict.fromkeys([*found.get(package, ()), version]))
    return ", ".join(f"{package} {' and '.join(numbers)}" for package, numbers in sorted(found.items()))


def example(pairs: Sequence[tuple[str, pl.DataFrame]]) -> dict[str, Any] | None:
    """The pair of the last AIFT with the widest margin among short ones."""
    for model, frame in reversed(pairs):
        margin = pl.col("chosen_score") - pl.col("rejected_score")
        if (
            short := frame.filter(pl.sum_horizontal(pl.col("prompt", "chosen", "rejected").str.len_chars()) < 4000)
        ).height:
            return {"model": model, **short.sort(margin, "prompt_id", descending=[True, False]).row(0, named=True)}
    return None


def _all(counts: Iterable[Mapping[str, int]]) -> list[str]:
    """Every key, in the order in which they first come."""
    return list(dict.fromkeys(key for found in counts for key in found))
