"""data/README.md, generated from the contracts: python -m stages.store.dictionary > data/README.md"""

from __future__ import annotations

from stages.store.tables import TABLES

HEAD = """# Data dictionary

Generated from `stages/store/tables.py` (`python -m stages.store.dictionary > data/README.md`); a test keeps it fresh.
DVC holds the tables and models; git holds this page, `metrics/`, `plots/` and `summary.json`. `?` after a type: null is allowed and means unknown.
Every model folder in `models/` holds safetensors, tokenizer and `lineage.json`: name, parent, method, md5 of the data it was made from, parameters,
versions, seed and threads.
`logs/runs.jsonl` (neither in git nor in DVC) holds what differs between equal runs: times, memory, git revision, addresses of servers.
"""


def dictionary() -> str:
    """The page as Markdown."""
    parts = [HEAD]
    for table in TABLES:
        path = table.path.removeprefix("data/")
        holds = f" In every row: {'; '.join(rule.meaning for rule in table.rules)}." if table.rules else ""
        about = f"`{path}`, key `{', '.join(table.key)}`, made by `{table.made_by}`. {table.meaning}.{holds}"
        parts.append(f"## {table.name}\n\n{about}\n\n| column | type | meaning |\n| --- | --- | --- |")
        parts[-1] += (
            "".join(f"\n| {c.name} | {c.dtype}{'?' if c.nullable else ''} | {c.meaning} |" for c in table.columns)
            + "\n"
        )
    return "\n".join(parts)


if __name__ == "__main__":
    print(dictionary(), end="")
