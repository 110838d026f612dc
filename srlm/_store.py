"""The five calls of `from srlm import Store`."""

from __future__ import annotations

import warnings
import weakref
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import polars as pl

from stages.config.load import PARAMS, read_mapping
from stages.console.errors import MissingTableError, QueryError, SrlmError
from stages.hub.configs import configs, schema
from stages.store import catalog, database, versions
from stages.store.damage import check_recorded, other_params
from stages.store.names import Names
from stages.store.questions import questions
from stages.store.tables import JUDGED, PAIRS, RANKED_VALID, TABLES, TEST_JUDGEMENTS, Table

if TYPE_CHECKING:
    from datasets import Dataset


class Store:
    """The tables of a project at `path`: of its folder as it is, or of the git revision or tag `rev`, fetched through
    DVC from its cache or a remote when they are first asked for, and dropped with the object.

    Every call raises an SrlmError (`stages.console.errors`) whose one sentence says what was seen and what to type:
    for a revision, model, table or column that there is not, and for a file that is not what its stage wrote. What is
    only doubtful, such as parameters that changed since, is a Python warning.
    """

    def __init__(self, path: str | Path = ".", rev: str | None = None) -> None:
        self._root, self._rev = Path(path), rev
        if not self._root.is_dir():
            raise SrlmError(
                f"no folder {str(self._root)!r}: a Store is the folder of a project, which holds params.yaml"
            )
        if not (self._root / "params.yaml").is_file():
            raise SrlmError(f"{self._root} holds no params.yaml, so it is no project. Name the folder of one")
        self._folders: dict[frozenset[str], Path] = {}
        self._open = ExitStack()
        weakref.finalize(self, self._open.close)

    def __repr__(self) -> str:
        return f"Store({str(self._root)!r}{f', rev={self._rev!r}' if self._rev else ''})"

    def pairs(self, model: str) -> pl.DataFrame:
        """AIFT(`model`): the preference pairs that train the model after it, a row for each. Columns as
        data/README.md has them, among them prompt_id, prompt, chosen, rejected (texts), chosen_score and
        rejected_score (on the judge's scale)."""
        return self._read(PAIRS, self._folder(PAIRS), model)

    def judge(self, model: str) -> pl.DataFrame:
        """How `model` judges: a row for each held-out answer that people ranked. candidate_id, prompt_id, prompt,
        response; human_rank (0 is best); score, the mean of its judgements that could be read (null: none); parsed, how
        many could; judge; texts, all that it said, one for each judgement."""
        folder = self._folder(JUDGED, RANKED_VALID, TEST_JUDGEMENTS)
        judged, said = (self._read(table, folder, model) for table in (JUDGED, TEST_JUDGEMENTS))
        ranked = self._read(RANKED_VALID, folder).select("candidate_id", "prompt", "response")
        texts = said.group_by("candidate_id").agg(texts=pl.col("text").sort_by("k"))
        frame = judged.join(ranked, "candidate_id", how="left", maintain_order="left")
        frame = frame.join(texts, "candidate_id", how="left", maintain_order="left")
        columns = ("candidate_id", "prompt_id", "prompt", "response", "human_rank", "score", "parsed", "judge", "texts")
        return frame.select(columns)

    def sql(self, query: str, **values: Any) -> pl.DataFrame:
        """The answer to one SELECT of DuckDB over every table, `metrics` and `models`, or to a question that `srlm
        query` lists, by its name; `values` are bound to its `$name`. Nothing but the store's own files can be read, and
        nothing written."""
        question = questions().get(query)
        sql = question.sql if question else query
        if question and (unknown := sorted({*values} - {*question.values})):
            raise QueryError(f"{query} does not take {unknown[0]}; it takes: {', '.join(question.values) or 'none'}")
        bound = dict.fromkeys(question.values) | values if question else values
        folder = self._folder(*(table for table in TABLES if table.name in database.tables_in(sql)))
        with database.connect(folder) as store:
            for note in [*filter(None, [other_params(folder)]), *store.notes(sql)]:
                warnings.warn(note, stacklevel=2)
            relation = store.select(sql, bound, question.may_lack if question else ())
            try:
                return pl.DataFrame(relation.to_arrow_table())
            except duckdb.Error as e:
                raise store.failure(e, sql) from None

    def dataset(self, name: str, split: str = "train") -> Dataset:
        """A dataset of the paper, or what one was made from, as a `datasets.Dataset` in memory: `ift`, `eft`,
        `aift_m2`, `aift_m2_candidates`, ...: rows and features are those that `srlm publish` would send, whatever the
        capitals of `name`. `ift` and `ranked` have a split `valid`, `test_prompts` has `test` alone."""
        models = (read_mapping(self._folder() / PARAMS) or {}).get("aift")
        trained = dict.fromkeys(map(str, models), "") if isinstance(models, dict) else {}
        every = {config.name: config for config in configs(trained, judge_pairs=True)}
        if (config := every.get(name.lower())) is None:
            raise QueryError(f"no dataset {name}; {database.closest(name, every)}")
        found = {one.name: one for one in config.splits}
        if split not in found:
            raise QueryError(f"{config.name} has no split {split}; it has {' and '.join(found)}")
        table, model = found[split].table, found[split].model
        folder = self._folder(table)
        rows = self._read(table, folder, model).rechunk().to_arrow().cast(schema(table))
        from datasets import Dataset
        from datasets.table import InMemoryTable

        return Dataset(InMemoryTable(rows))

    def _folder(self, *tables: Table) -> Path:
        """Where these tables lie: in the project, or fetched once into a folder of their own."""
        names = frozenset(table.name for table in tables)
        if self._rev is None:
            return self._root
        if names not in self._folders:
            self._folders[names] = self._open.enter_context(versions.at(self._root, self._rev, names))
        return self._folders[names]

    def _read(self, table: Table, folder: Path, model: str | None = None) -> pl.DataFrame:
        path = catalog.table_path(table, folder, model)
        if not path.is_file():
            raise MissingTableError(f"{self} has no table {table.name}{self._why(table, folder, model)}")
        check_recorded(folder, [path])
        return catalog.read(table, folder, model)

    def _why(self, table: Table, folder: Path, model: str | None) -> str:
        """Why it is not there: no stage is to make it, or none has."""
        if model is None:
            return f": {table.remedy()}"
        names = Names(folder)
        known = [name for name, *_ in names.models() if names.has(table.path, name)]
        return f" of {model}: {table.remedy(model) if model in known else database.closest(model, known)}"
