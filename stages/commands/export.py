"""export: a dataset of the store as the JSON lines that another tool's own loader takes.

    srlm export aift_m1 --format axolotl --out pairs.jsonl

Preference pairs (`aift_m1`, `aift_m1_judge_pairs`) and instructions with their answers (`ift`, `ift_valid`, `eft`) for
four trainers, in the fields that these read and no others; of an AIFT also every prompt with all its answers, scores
and judgements, as UltraFeedback has them. What is trained elsewhere is what is trained here: answers stand behind their
thoughts, reversed pairs are turned, and nothing in a text spells a control token.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from stages.console.errors import QueryError, SrlmError
from stages.console.terminal import stderr
from stages.store import catalog, versions
from stages.store.damage import check_recorded, other_params
from stages.store.database import closest
from stages.store.files import atomic_write, result_file, write_json
from stages.store.names import Names
from stages.store.tables import (
    CANDIDATES,
    EFT,
    IFT_TRAIN,
    IFT_VALID,
    JUDGE_PAIRS,
    JUDGEMENTS,
    PAIRS,
    PROMPTS,
    SCORES,
    Table,
)
from stages.text.special_tokens import break_chat_markers
from stages.text.thoughts import between_marks, joined

BREAKS = re.compile("[\x7f-\x9f\u2028\u2029]")
"""What JSON leaves as it is, and some readers take for the end of a line."""
INFO = "dataset_info.json"
"""Where LLaMA-Factory looks up the file and the columns of a dataset."""
Row = dict[str, Any]


ULTRAFEEDBACK = "ultrafeedback"


class Dataset(NamedTuple):
    """A table that trains, of `model` where it is an AIFT's."""

    name: str
    table: Table
    model: str | None = None

    @property
    def has_pairs(self) -> bool:
        return self.model is not None


def user(text: str) -> Row:
    return {"role": "user", "content": text}


def assistant(text: str) -> Row:
    return {"role": "assistant", "content": text}


PAIR: dict[str, Callable[[str, str, str], Row]] = {
    "trl": lambda p, c, r: {"prompt": [user(p)], "chosen": [assistant(c)], "rejected": [assistant(r)]},
    "llama-factory": lambda p, c, r: {"instruction": p, "chosen": c, "rejected": r},
    "axolotl": lambda p, c, r: {"messages": [user(p)], "chosen": assistant(c), "rejected": assistant(r)},
    "openrlhf": lambda p, c, r: {"chosen": [user(p), assistant(c)], "rejected": [user(p), assistant(r)]},
}
"""A row of prompt, chosen and rejected."""
ANSWER: dict[str, Callable[[str, str], Row]] = {
    "trl": lambda p, a: {"prompt": [user(p)], "completion": [assistant(a)]},
    "llama-factory": lambda p, a: {"instruction": p, "output": a},
    "axolotl": lambda p, a: {"messages": [user(p), assistant(a)]},
    "openrlhf": lambda p, a: {"input": p, "output": a},
}
"""A row of an instruction and its response."""
COLUMNS: dict[bool, Row] = {
    True: {"ranking": True, "columns": {"prompt": "instruction", "chosen": "chosen", "rejected": "rejected"}},
    False: {"columns": {"prompt": "instruction", "response": "output"}},
}
"""What dataset_info.json says of pairs, or of instructions."""
USE = {
    ("trl", True): "DPOTrainer(train_dataset=load_dataset('json', data_files='{out}', split='train'))",
    ("trl", False): "SFTTrainer(train_dataset=load_dataset('json', data_files='{out}', split='train'))",
    ("llama-factory", True): "stage: dpo, dataset_dir: {folder}, dataset: {name}",
    ("llama-factory", False): "stage: sft, dataset_dir: {folder}, dataset: {name}",
    ("axolotl", True): "rl: dpo, datasets: [{{path: {out}, ds_type: json, split: train, "
    "type: chat_template.default}}]",
    ("axolotl", False): "datasets: [{{path: {out}, ds_type: json, split: train, type: chat_template}}]",
    ("openrlhf", True): "train_dpo --data.dataset {out} --data.apply_chat_template",
    ("openrlhf", False): "train_sft --data.dataset {out} --data.apply_chat_template --data.output_key output",
    (ULTRAFEEDBACK, True): "load_dataset('json', data_files='{out}', split='train')",
}  # fmt: skip
"""What to type there."""


def export(name: str, form: str, out: Path, *, revision: str | None = None, root: Path = Path()) -> None:
    """Write dataset `name` of `revision` (None: what is here) into `out`. Raises QueryError for a name or a format that
    there is not, TableError, RevisionError, SrlmError."""
    info = check_out(out, form, root)
    tables = [table.name for table in (IFT_TRAIN, IFT_VALID, EFT, JUDGE_PAIRS, PAIRS)]
    tables += [table.name for table in (PROMPTS, CANDIDATES, JUDGEMENTS, SCORES)] * (form == ULTRAFEEDBACK)
    with versions.at(root, revision, tables) as folder:
        dataset = named(name, folder)
        if form == ULTRAFEEDBACK and dataset.table is not PAIRS:
            raise QueryError(f"{dataset.name} has no scored answers: {form} is for an AIFT, as aift_m1")
        entry = {dataset.name: {"file_name": out.name, **COLUMNS[dataset.has_pairs]}}
        known = entries(info, entry) if info else {}
        if note := other_params(folder):
            stderr.print(note)
        rows = scored(dataset, folder) if form == ULTRAFEEDBACK else trained(dataset, form, folder)
        if (first := next(rows, None)) is None:
            raise QueryError(f"{dataset.name} has no rows, so {out} was not written")
        n = write(chain([first], rows), out)
    if info:
        write_json(info, known | entry)
    use = USE[form, dataset.has_pairs].format(out=out, folder=out.parent, name=dataset.name)
    stderr.print(f"{dataset.name}: {n} rows in {out}. To load it: {use}")


def check_out(out: Path, form: str, root: Path) -> Path | None:
    """The dataset_info.json beside `out`, where the tool wants one. Raises SrlmError for a file that cannot be written,
    or that the tool could not read by its name."""
    result_file(out, root)
    if form != ULTRAFEEDBACK and out.suffix != ".jsonl":
        raise SrlmError(f"the tools tell a file's form by its ending: expected {out.stem}.jsonl, seen {out.name}")
    if form == "openrlhf" and set(str(out)) & set(",@"):
        raise SrlmError(f"OpenRLHF takes , and @ in {str(out)!r} for the end of the name: name another file")
    return result_file(out.with_name(INFO), root) if form == "llama-factory" else None


def datasets(root: Path) -> dict[str, Dataset]:
    """Those that lie here, named as `srlm publish` has them, but with the model as it is written."""
    found = {table.name: Dataset(table.name, table) for table in (IFT_TRAIN, IFT_VALID, EFT)}
    for table, end in ((PAIRS, ""), (JUDGE_PAIRS, "_judge_pairs")):
        for model in filter(None, Names(root).files(table.path)):
            found[f"aift_{model}{end}"] = Dataset(f"aift_{model.lower()}{end}", table, model)
    return found


def named(name: str, root: Path) -> Dataset:
    """The dataset of this name, in small letters or as its model is written. Raises QueryError for one that there is
    not."""
    found = datasets(root)
    same = [name] if name in found else [spelt for spelt in found if spelt.lower() == name.lower()]
    if len(same) != 1:
        names = [dataset.name for dataset in found.values()]
        raise QueryError(f"no dataset {name}; {closest(name, names)}" if not same else f"{name} is {' or '.join(same)}")
    return found[same[0]]


def entries(info: Path, entry: Row) -> Row:
    """What dataset_info.json holds already. Raises SrlmError where that is another dataset of this name, or no JSON."""
    try:
        known = json.loads(info.read_text(encoding="utf-8")) if info.exists() else {}
    except (OSError, ValueError, RecursionError) as e:
        raise SrlmError(f"{info} cannot be read as JSON ({e}). Mend it, or export into another folder") from None
    if not isinstance(known, dict):
        raise SrlmError(f"{info} is no object of datasets. Mend it, or export into another folder")
    for name, own in entry.items():
        there = known.get(name, own)
        if not isinstance(there, dict) or there.get("file_name") != own["file_name"]:
            raise SrlmError(f"{info} has another dataset {name}. Delete its entry, or export into another folder")
    return known


def write(rows: Iterable[Row], out: Path) -> int:
    """One line of JSON for each row; how many."""
    n = 0
    with atomic_write(out) as partial, partial.open("w", encoding="utf-8", newline="") as file:
        for row in rows:
            line = json.dumps(row, ensure_ascii=False, allow_nan=False)
            file.write(BREAKS.sub(lambda c: f"\\u{ord(c[0]):04x}", line) + "\n")
            n += 1
    return n


def read(table: Table, root: Path, model: str | None) -> pl.DataFrame:
    """The table, as its stage wrote it and as its contract says. Raises TableError."""
    check_recorded(root, [path for path in [catalog.table_path(table, root, model)] if path.is_file()])
    return catalog.read(table, root, model)


def trained(dataset: Dataset, form: str, root: Path) -> Iterator[Row]:
    """Rows for a trainer."""
    frame = read(dataset.table, root, dataset.model)
    if not dataset.has_pairs:
        for instruction, response in frame.select("instruction", "response").iter_rows():
            yield ANSWER[form](plain(instruction), plain(response))
        return
    columns = ("prompt", "chosen", "rejected", "chosen_thought", "rejected_thought", "reversed")
    absent = {column: pl.lit(None) for column in columns if column not in frame.columns}  # of judgements
    for prompt, *answers, chosen_thought, rejected_thought, turned in (
        frame.with_columns(**absent).select(columns).iter_rows()
    ):
        texts = [plain(joined(*both)) for both in zip((chosen_thought, rejected_thought), answers, strict=True)]
        yield PAIR[form](plain(prompt), *(reversed(texts) if turned else texts))


def plain(text: str) -> str:
    """`text` without what spells a control token of the commonest chat formats: other trainers take it for one."""
    return between_marks(text, lambda part: break_chat_markers(part, None))


def scored(dataset: Dataset, root: Path) -> Iterator[Row]:
    """UltraFeedback's fields for each prompt that was kept, and beside them ids, fates and every judgement."""
    prompts, candidates, judgements, scores = (
        read(table, root, dataset.model) for table in (PROMPTS, CANDIDATES, JUDGEMENTS, SCORES)
    )
    judged = judgements.group_by("candidate_id").agg(
        judgements=pl.struct("judge", "k", "score", "text").sort_by("judge", "k")
    )
    completions = (
        candidates.join(scores.select("candidate_id", "fate", overall_score="score"), "candidate_id", how="left")
        .join(judged, "candidate_id", how="left")
        .sort("n")
        .group_by("prompt_id")
        .agg(
            models="model",
            completions=pl.struct(
                "model", "response", "overall_score", "candidate_id", "thought", "fate", "judgements"
            ),
        )
    )
    kept = prompts.filter(pl.col("dropped").is_null()).select("prompt_id", instruction="prompt")
    for row in kept.join(completions, "prompt_id", maintain_order="left").iter_rows(named=True):
        yield {"source": dataset.name, **row, "correct_answers": ["None"], "incorrect_answers": ["None"]}
