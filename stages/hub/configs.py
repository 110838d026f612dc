"""What a dataset repository holds: a config per dataset of the paper, its splits, and a schema that is frozen by the
table's contract."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import polars as pl
import pyarrow as pa
import pyarrow.parquet as pq

from stages.console.errors import HubError
from stages.hub.remote import Local
from stages.store import tables
from stages.store.tables import Table

SHARD_BYTES = 256 * 2**20
MOST_SHARDS = 1000
"""256 GB of one table; the Hub wants at most 10,000 files in a folder."""
TYPES: dict[pl.DataType, tuple[pa.DataType, dict[str, str]]] = {
    tables.String: (pa.string(), {"dtype": "string"}),
    tables.Int32: (pa.int32(), {"dtype": "int32"}),
    tables.Float64: (pa.float64(), {"dtype": "float64"}),
    tables.Strings: (pa.list_(pa.string()), {"list": "string"}),
}
"""A column's type in Arrow, and as a feature in a card."""


class Split(NamedTuple):
    name: str
    table: Table
    model: str | None = None

    @property
    def path(self) -> str:
        """Where the table lies in the store."""
        return self.table.path.format(model=self.model)


class Config(NamedTuple):
    """One `name` of `load_dataset(repository, name)`. Its splits have one schema."""

    name: str
    splits: tuple[Split, ...]
    trains: str = ""
    raw: bool = False
    """Not a dataset of the paper, but what one was made from."""

    @property
    def table(self) -> Table:
        return self.splits[0].table


def configs(trained: Mapping[str, str], *, judge_pairs: bool = False) -> tuple[Config, ...]:
    """Of a store in which AIFT(Mt) trains Mt+1 for each `Mt: Mt+1` of `trained`, and `judge_pairs` beside it.

    Raises HubError when two would have one name: configs have lower-case names.
    """
    ift = Split("train", tables.IFT_TRAIN), Split("valid", tables.IFT_VALID)
    ranked = Split("train", tables.RANKED), Split("valid", tables.RANKED_VALID)
    every = [
        Config("ift", ift, "SFT and M1"),
        Config("eft", (Split("train", tables.EFT),), "M1"),
        Config("ranked", ranked, raw=True),
        Config("seed_judgements", (Split("train", tables.SEED_JUDGEMENTS),), raw=True),
        Config("test_prompts", (Split("test", tables.TEST_PROMPTS),), raw=True),
    ]
    for model, trains in trained.items():
        name = f"aift_{model.lower()}"
        every.append(Config(name, (Split("train", tables.PAIRS, model),), trains))
        if judge_pairs:
            every.append(Config(f"{name}_judge_pairs", (Split("train", tables.JUDGE_PAIRS, model),), trains))
        for table in (tables.PROMPTS, tables.CANDIDATES, tables.JUDGEMENTS, tables.SCORES):
            every.append(Config(f"{name}_{table.name}", (Split("train", table, model),), raw=True))
    names = [config.name for config in every]
    if twice := next((name for name in names if names.count(name) > 1), None):
        raise HubError(f"two datasets would both be config {twice}, in lower case. Rename one's model in params.yaml")
    return tuple(every)


def schema(table: Table) -> pa.Schema:
    """The contract in Arrow's types, as `datasets` reads them: string, int32, float64, list of string."""
    return pa.schema([pa.field(column.name, TYPES[column.dtype][0]) for column in table.columns])


def features(table: Table) -> list[dict[str, str]]:
    """As a card names them."""
    return [{"name": column.name, **TYPES[column.dtype][1]} for column in table.columns]


def write_shards(
    frame: pl.DataFrame,
    config: Config,
    split: Split,
    folder: Path,
    published: Path | None = None,
    limit: int = SHARD_BYTES,
) -> tuple[list[Local], int]:
    """The rows of a split in their order as parquet files of about `limit` bytes in memory, and these bytes in all.

    Equal rows are equal bytes with one version of pyarrow. A file below `published` that holds the rows of ours, as
    another version wrote it, takes its place. Raises HubError for more than MOST_SHARDS files.
    """
    rows = frame.rechunk().to_arrow().cast(schema(split.table))
    count = max(1, min(-(-rows.nbytes // limit), len(rows)))
    if count > MOST_SHARDS:
        raise HubError(
            f"table {split.table.name} ({split.path}) holds {rows.nbytes / 1e9:,.1f} GB, more than {MOST_SHARDS} files "
            f"of {limit / 1e6:,.0f} MB"
        )
    shards = []
    for number in range(count):
        start, stop = (len(rows) * end // count for end in (number, number + 1))
        path = f"data/{config.name}/{split.name}-{number:05}-of-{count:05}.parquet"
        file = folder / path
        file.parent.mkdir(parents=True, exist_ok=True)
        pq.write_table(rows.slice(start, stop - start), file, compression="zstd")
        same = published is not None and difference(file, published / path) is None
        shards.append(Local.of(path, published / path if published and same else file))
    return shards, rows.nbytes


def difference(ours: Path, theirs: Path) -> str | None:
    """How the rows of one parquet file differ from those of ours; None when they do not."""
    try:
        with pq.ParquetFile(ours) as here, pq.ParquetFile(theirs) as there:
            rows, others = here.read(), there.read()
    except (OSError, ValueError, pa.ArrowException) as e:
        return f"cannot be read: {e}"
    if not others.schema.equals(rows.schema, check_metadata=True):
        return "other columns or types"
    if others.equals(rows):
        return None
    if len(others) != len(rows):
        return f"{len(others):,} rows there, {len(rows):,} here"
    differ = (pl.DataFrame(rows).hash_rows() != pl.DataFrame(others).hash_rows()).arg_true()
    return f"{len(differ):,} other row(s), first row {differ[0] + 1:,}"
