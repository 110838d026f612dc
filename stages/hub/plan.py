"""A repository as it shall be: its files, its card and its lineage, on top of what is there. Nothing is sent here."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from stages.config.params import Params
from stages.console.errors import HubError, ModelError
from stages.hub import card, facts, lineage, prov
from stages.hub.configs import Config, Split, configs, write_shards
from stages.hub.local import Change, Local, changes
from stages.hub.remote import Found, Remote

Read = Callable[[Split], pl.DataFrame]
"""The checked table of a split."""
WRITTEN = (card.NAME, lineage.NAME, prov.NAME)
"""Files that are put beside those of the store; people write in the first."""


class Source(NamedTuple):
    """What is published, and what is known of it."""

    params: Params
    params_text: str
    stages: Mapping[str, lineage.Stage]
    metrics: facts.Metrics
    lineages: Mapping[str, Mapping[str, Any]]
    """Model -> its lineage.json."""
    code: Mapping[str, str]
    """`git`, the commit, and `dvc_lock`, the md5."""
    ignored: Callable[[Path], bool]
    """Whether DVC leaves a file out of what it hashes."""
    packages: Callable[[str], Mapping[str, str]]
    """Versions of the packages that made the texts of a table, by its path; none of other files."""

    def graph(
        self, made_by: Mapping[str, lineage.Stage], files: Mapping[str, Mapping[str, Any]], models: Mapping[str, Any]
    ) -> dict[str, Any]:
        """The lineage of what is published."""
        known = {path: dict(self.packages(path)) for stage in made_by.values() for path in stage["outs"]}
        return lineage.document(
            made_by, files, models, {path: versions for path, versions in known.items() if versions}, self.code
        )

    def md5(self, path: str) -> str:
        """As dvc.lock has it. Raises HubError when no stage makes it."""
        found = next((stage["outs"][path] for stage in self.stages.values() if path in stage["outs"]), None)
        if found is None:
            raise HubError(f"dvc.lock knows no stage that makes {path}. Run: srlm repro")
        return str(found)

    def told(self) -> dict[str, Any]:
        """What both cards tell."""
        licences = {"data": self.params.publish.data_license, "model": self.params.publish.model_license}
        return {"params": self.params, "seed_data": facts.seed_in_words(self.params), "licences": licences}


class Before(NamedTuple):
    """What is in the repository now."""

    found: Found
    card: str | None
    lineage: Mapping[str, Any] | None
    """None: nothing of ours."""

    @property
    def files(self) -> Mapping[str, Mapping[str, Any]]:
        """Ours, those of earlier publications too that the card still names."""
        return {**(self.lineage or {}).get("kept", {}), **(self.lineage or {}).get("files", {})}

    def names_of(self, config: Config) -> set[str]:
        """Under which this config was published."""
        tables = {split.path for split in config.splits}
        return {
            str(file["config"])
            for file in self.files.values()
            if file.get("table") in tables or file.get("config") == config.name
        }


class Publication(NamedTuple):
    """`files` to be there, and `gone`, those of ours that shall not be there any more."""

    remote: Remote
    before: Before
    files: list[Local]
    gone: list[str]
    card: str
    lineage: Mapping[str, Any]

    def changes(self) -> list[Change]:
        """What the commit would change; what it leaves as it is stands there too."""
        return changes(self.files, self.gone, self.before.found.files)

    def overwritten(self) -> list[str]:
        """What somebody put, changed or deleted on the Hub, and this would write over."""
        ours, there = self.before.files, self.before.found.files
        lost = []
        for path in (change.path for change in self.changes() if change.what != "unchanged"):
            known = [ours[path]["sha256"], ours[path].get("blob")] if path in ours else [None]
            if path not in WRITTEN and there.get(path) not in known:
                lost.append(path)
        return lost


def look(remote: Remote, folder: Path) -> Before:
    """Raises HubError for a repository that holds what is not ours, so that nothing of it is lost or taken for ours."""
    found = remote.look()
    text, old = remote.text(card.NAME, found, folder), lineage.parse(remote.text(lineage.NAME, found, folder))
    strange = sorted(set(found.files) - {card.NAME, ".gitattributes", "LICENSE", "LICENSE.md"})
    if old is None and strange:
        raise HubError(
            f"{remote.name} holds what srlm did not publish, {len(strange)} file(s), first {strange[0]!r}. Name "
            f"another repository, or delete them there"
        )
    return Before(found, text, old)


def datasets(
    source: Source, read: Read, remote: Remote, folder: Path, *, raw: bool, new_config: str | None
) -> Publication:
    """The repository of the datasets. With `raw`, or where they were published before, also what they were made from.

    Raises HubError where a config that is published would get another schema, unless `new_config` is a suffix for its
    new name.
    """
    before = look(remote, folder / "before")
    # what we wrote last counts before what the card says, which anyone may edit; the card still has configs that are no
    # longer written
    told = ((before.lineage or {}).get("card", {}), card.metadata_of(before.card))
    published = [
        info for metadata in told for info in card.as_list(metadata.get("dataset_info")) if isinstance(info, dict)
    ]
    raw = raw or any(file.get("raw") for file in before.files.values())
    steps = source.params.models
    trained = {
        made: " and ".join(model for model, step in steps.items() if step.prev == made) or "nothing yet"
        for made in source.params.aift
    }
    every = configs(trained)
    names = {config.name for config in every}
    files: dict[str, dict[str, Any]] = {}
    splits: dict[tuple[str, str], dict[str, Any]] = {}
    wanted, pairs, local = [], [], []
    for config in every:
        if config.raw and not raw:
            continue
        config = card.renamed(config, published, before.names_of(config), new_config, names)
        wanted.append(config)
        for split in config.splits:
            frame = read(split)
            if split.table.name == "pairs" and split.model:
                pairs.append((split.model, frame))
            shards = write_shards(frame, config, split, folder)
            for shard in shards:
                local.append(Local.of(shard.path, shard.file))
                about = {
                    "config": config.name,
                    "split": split.name,
                    "raw": config.raw,
                    "rows": shard.rows,
                    "table": split.path,
                    "md5": source.md5(split.path),
                }
                files[shard.path] = about | _content(local[-1])
            stored = sum(shard.file.stat().st_size for shard in shards)
            in_memory = sum(shard.in_memory for shard in shards)
            splits[config.name, split.name] = {
                "rows": len(frame),
                "bytes": in_memory,
                "stored": stored,
                "paths": [shard.path for shard in shards],
            }
    rows = {key: split["rows"] for key, split in splits.items()}
    metadata = facts.dataset_metadata(remote.name, source.params, sum(rows.values()))
    metadata |= card.metadata_of_configs(
        (config, {split.name: splits[config.name, split.name] for split in config.splits}) for config in wanted
    )
    made_by = lineage.ancestors(source.stages, (split.path for config in wanted for split in config.splits))
    graph = source.graph(made_by, files, source.lineages)

    def section(code: Mapping[str, str]) -> str:
        return card.render(
            "dataset",
            repo=remote.name,
            url=remote.url,
            configs=facts.described(wanted, rows, source.params),
            models=facts.family(
                source.lineages, {model: source.md5(f"data/models/{model}") for model in source.lineages}
            ),
            base=facts.base_in_words(source.params, source.params.input_models),
            versions=facts.versions(source.lineages.values(), graph["packages"].values()),
            example=facts.example(pairs),
            params_text=source.params_text,
            code_of=code,
            **source.told(),
            **facts.generation_summary(source.params),
            **facts.of_the_loop(source.params, source.metrics),
        )

    return _finished(remote, before, local, graph, metadata, section, folder)


def model(source: Source, name: str, path: Path, remote: Remote, folder: Path, *, data: Publication) -> Publication:
    """The repository of the model in `path`: its folder as it is, but for its lineage, which goes back to the seed
    rows. `data`: that of the datasets.

    Raises ModelError when the folder lacks what is needed to load it.
    """
    names = sorted(
        str(file.relative_to(path)) for file in path.rglob("*") if file.is_file() and not source.ignored(file)
    )
    for needed in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", lineage.NAME):
        if needed not in names:
            raise ModelError(f"{path} holds no {needed}, so it cannot be published. Run: srlm repro")
    if not any(file.endswith(".safetensors") for file in names):
        raise ModelError(f"{path} holds no *.safetensors; pickled weights are not published. Run: srlm repro")
    before = look(remote, folder / "before")
    local = [Local.of(file, path / file) for file in names if file not in (lineage.NAME, card.NAME)]
    made_by = lineage.ancestors(source.stages, [f"data/models/{name}"])
    family = {
        other: known
        for other, known in source.lineages.items()
        if any(f"data/models/{other}" in stage["outs"] for stage in made_by.values())
    }
    graph = source.graph(made_by, {file.path: _content(file) for file in local}, family) | {"model": name}
    known = source.lineages[name]
    config_of = {file["table"]: file["config"] for file in data.lineage["files"].values()}
    about = facts.of_the_model(name, source.params, source.metrics, source.lineages, data.lineage["files"])
    line = facts.line_of(name, source.lineages, source.params)

    def section(code: Mapping[str, str]) -> str:
        return card.render(
            "model",
            repo=remote.name,
            url=remote.url,
            dataset_url=data.remote.url,
            trained_on=list(dict.fromkeys(config_of[table] for table in known["data"] if table in config_of)),
            model=known,
            md5=source.md5(f"data/models/{name}"),
            metrics=source.metrics.get(name),
            matches=facts.matches(source.params, source.metrics, name),
            base=facts.base_in_words(source.params, line[-1:]),
            versions=facts.versions(
                (source.lineages[model] for model in reversed(line) if model in source.lineages),
                graph["packages"].values(),
            ),
            code_of=code,
            **source.told(),
            **about,
        )

    metadata = facts.model_metadata(remote.name, source.params, data.remote.name, line[-1], known["method"], about)
    return _finished(remote, before, local, graph, metadata, section, folder)


def _finished(
    remote: Remote,
    before: Before,
    local: list[Local],
    graph: dict[str, Any],
    metadata: dict[str, Any],
    section: Callable[[Mapping[str, str]], str],
    folder: Path,
) -> Publication:
    """With card and lineage. Where nothing but our code's revision would differ from what is published, the old
    revision stays: it made the same."""
    graph |= {"card": metadata}

    def merged(code: Mapping[str, str]) -> str:
        return card.merge(remote.kind, before.card, section(code), metadata, (before.lineage or {}).get("card", {}))

    text = merged(graph["code"])
    read, ours = card.files_read(text), set(before.files) - {file.path for file in local}
    gone = [path for path in sorted(ours) if not any(fnmatch(path, pattern) for pattern in read)]
    kept = sorted(path for path in ours - set(gone) if path in before.found.files)
    graph["kept"] = {
        path: {"commit": before.found.head, **before.files[path]} for path in kept
    }  # the commit where the graph that leads to it stands
    if (
        before.lineage
        and lineage.same_but_for_code(before.lineage, graph)
        and merged(before.lineage["code"]) == before.card
    ):
        graph["code"], text = before.lineage["code"], before.card or ""
    for name, content in ((card.NAME, text), (lineage.NAME, lineage.dump(graph)), (prov.NAME, prov.document(graph))):
        (folder / name).write_bytes(content.encode())
        local.append(Local.of(name, folder / name))
    return Publication(remote, before, local, gone, text, graph)


def _content(file: Local) -> dict[str, Any]:
    return {**file.hashes(), "bytes": file.file.stat().st_size}
