"""How a table lies on the disk: as the store writes it, in other row groups, sorted, with Bloom filters, other
compression, and as Lance. Size, seconds to write, and seconds of what DuckDB is asked.

    python -m benchmarks.layout DIR [--rows 2000000]

Judgements are the largest table; a made one, in DIR, which keeps nothing of it. Lance where it is installed (`pip
install pylance`). Each time is the best of nine rounds over all layouts, in one process; ratios are to the first row.
The last line is JSON.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated, Any

import duckdb
import numpy as np
import polars as pl
import pyarrow.parquet as pq
import typer
from rich.table import Table as Shown

from stages.console.terminal import Console
from stages.store import catalog
from stages.store.tables import JUDGEMENTS

K, N = 3, 4
ROUNDS = 9
QUESTIONS = {
    "one prompt": "SELECT * FROM read_parquet($file) WHERE prompt_id = $id",
    "scores": "SELECT score, count(*) FROM read_parquet($file) GROUP BY score",
    "texts": "SELECT avg(length(text)) FROM read_parquet($file)",
}


def judgements(rows: int) -> pl.DataFrame:
    """Of `rows` in the order in which a stage writes them: K of each of N answers to a prompt, whose id is a hash."""
    rng = np.random.default_rng(1)
    prompts = pl.select(prompt_id=pl.int_range(-(-rows // (K * N))).hash(1).cast(pl.String)).lazy()
    score = pl.Series(rng.choice([1.0, 2.0, 3.0, 4.0, 5.0], rows, p=[0.05, 0.08, 0.15, 0.42, 0.3]))
    word = pl.Series(rng.integers(0, 10**9, rows))
    said = "The answer is relevant and covers {} in a useful way, but is not clearly organised. Score: {}"
    return (
        prompts.join(pl.LazyFrame({"n": range(N)}), how="cross")
        .join(pl.LazyFrame({"k": range(K)}, schema={"k": pl.Int32}), how="cross")
        .with_columns(
            candidate_id=pl.format("{}-{}", "prompt_id", "n"), judge=pl.lit("M1"), finish_reason=pl.lit("stop")
        )
        .head(rows)
        .with_columns(score=score, expected=pl.lit(None, pl.Float64), word=word)
        .with_columns(text=pl.format(said, "word", "score"))
        .select(*JUDGEMENTS.schema)
        .collect()
    )


def main(folder: Path, rows: Annotated[int, typer.Option(min=1000)] = 2_000_000) -> None:
    """Write every layout, ask each in turn, delete them."""
    frame = judgements(rows)
    by_prompt = frame.sort("prompt_id", maintain_order=True)
    plain, filters = frame.to_arrow(), {"compression": "zstd", "bloom_filter_options": {"prompt_id": True}}
    how: dict[str, Callable[[Path], Any]] = {
        "as the store writes it": lambda file: as_stored(frame, file),
        "no compression": lambda file: frame.write_parquet(file, compression="uncompressed"),
        "Zstandard level 9": lambda file: frame.write_parquet(file, compression_level=9),
        "groups of 20,000 rows": lambda file: frame.write_parquet(file, row_group_size=20_000),
        "sorted by prompt_id": lambda file: by_prompt.write_parquet(file),
        "sorted, groups of 20,000": lambda file: by_prompt.write_parquet(file, row_group_size=20_000),
        "Bloom filter, groups of 262,144": lambda file: pq.write_table(plain, file, 2**18, **filters),
        "Bloom filter, groups of 20,000": lambda file: pq.write_table(plain, file, 20_000, **filters),
    }
    asked = str(frame["prompt_id"][rows // 2])
    results: dict[str, dict[str, float]] = {}
    with duckdb.connect() as connection, TemporaryDirectory(dir=folder) as place:
        work: dict[tuple[str, str], Callable[[], Any]] = {}
        for name, write in how.items():
            file = Path(place) / f"{len(results)}.parquet"
            results[name] = {"write": seconds(partial(write, file))}
            results[name] |= {"MB": file.stat().st_size / 1e6, "groups": pq.ParquetFile(file).num_row_groups}
            for question, sql in QUESTIONS.items():
                values = {"file": str(file)} | ({"id": asked} if "$id" in sql else {})
                work[name, question] = partial(answer, connection, sql, values)
        if (lance := in_lance(plain, Path(place) / "lance", connection, asked)) is not None:
            results["Lance"], asking = lance
            work |= {("Lance", question): each for question, each in asking.items()}
        for _ in range(ROUNDS):
            for (name, question), each in work.items():
                results[name][question] = min(results[name].get(question, math.inf), seconds(each))
    show(results)


def as_stored(frame: pl.DataFrame, file: Path) -> None:
    catalog.write(JUDGEMENTS, frame, file.parent, "M1")
    catalog.table_path(JUDGEMENTS, file.parent, "M1").rename(file)


def answer(connection: duckdb.DuckDBPyConnection, sql: str, values: dict[str, str]) -> None:
    connection.execute(sql, values).fetchall()


def in_lance(
    rows: Any, folder: Path, connection: duckdb.DuckDBPyConnection, asked: str
) -> tuple[dict[str, float], dict[str, Callable[[], Any]]] | None:
    """The same in Lance's own format: its scanner finds the prompt, DuckDB adds up the columns that it reads. None
    where it is not installed."""
    try:
        import lance
    except ImportError:
        return None
    written = seconds(lambda: lance.write_dataset(rows, folder))
    data = lance.dataset(folder)
    size = sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())

    def ask(column: str, sql: str) -> None:
        connection.register("held", data.to_table(columns=[column]))
        connection.execute(sql).fetchall()

    return {"MB": size / 1e6, "groups": 0, "write": written}, {
        "one prompt": lambda: data.to_table(filter=f"prompt_id = '{asked}'"),
        "scores": partial(ask, "score", "SELECT score, count(*) FROM held GROUP BY score"),
        "texts": partial(ask, "text", "SELECT avg(length(text)) FROM held"),
    }


def seconds(work: Callable[[], Any]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def show(results: dict[str, dict[str, float]]) -> None:
    first = next(iter(results.values()))
    shown = Shown("layout", "MB", "row groups", "written in s", *(f"{name}, ms" for name in QUESTIONS), box=None)
    for name, one in results.items():
        cells = [f"{one[q] * 1000:.1f} ({one[q] / first[q]:.2f})" for q in QUESTIONS]
        shown.add_row(
            name,
            f"{one['MB']:.1f} ({one['MB'] / first['MB']:.2f})",
            f"{one['groups']:.0f}",
            f"{one['write']:.2f}",
            *cells,
        )
    Console(width=150).print(shown)
    print(json.dumps(results))


if __name__ == "__main__":
    typer.run(main)
