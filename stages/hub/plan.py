"""A repository as it shall be: its files, its card and its lineage, on top of what is there. Nothing is sent here."""

from __future__ import annotations

import fnmatch
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from stages.config.params import Params
from stages.console.errors import HubError, ModelError
from stages.hub import card, facts, lineage
from stages.hub.configs import Split, configs, features, write_shards
from stages.hub.remote import Change, Found, Local, Remote, changes

WRITTEN = (card.NAME, lineage.NAME)
"""Files that are put beside those of the store."""


def trained(params: Params) -> dict[str, str]:
    """Mt -> the models that its AIFT trains."""
    return {m: facts.join_words(name for name, step in params.models.items() if step.prev == m) for m in params.aift}


class Source(NamedTuple):
    """The store that is published."""

    root: Path
    params: Params
    stages: Mapping[str, lineage.Stage]
    beside: Mapping[str, Path]
    """params.yaml and the files of metrics, by their paths in the repository."""
    metrics: facts.Metrics
    lineages: facts.Lineages
    code: Mapping[str, str]
    """`git`, the commit; `dvc_lock`, the md5; `url` of the repository, where it has one."""
    ignored: Callable[[Path], bool]
    """Whether DVC leaves a file out of what it hashes."""
    packages: Mapping[str, Mapping[str, str]]
    """Versions of the packages that wrote the texts of a table, by its path."""
    left_out: Mapping[str, Sequence[str]]
    """Fields that the server that wrote them would not take, likewise."""

    def graph(self, wanted: list[str], files: Mapping[str, Any]) -> dict[str, Any]:
        """The lineage of what is published: the paths `wanted` of the store, as `files`."""
        stages = lineage.ancestors(self.stages, wanted)
        outs = {path for stage in stages.values() for path in stage["outs"]}
        left_out = {path: list(fields) for path, fields in self.left_out.items() if path in outs}
        return {
            **{"format": lineage.FORMAT, "paper": "arXiv:2401.10020", "code": dict(self.code)},
            **{"stages": stages, "files": dict(files)},
            "models": {name: model for name, model in self.lineages.items() if f"data/models/{name}" in outs},
            "packages": {path: dict(versions) for path, versions in self.packages.items() if path in outs},
            **({"left_out": left_out} if left_out else {}),
        }

    def md5(self, path: str) -> str:
        """As dvc.lock has it. Raises HubError when no stage makes it."""
        md5s = {path: md5 for stage in self.stages.values() for path, md5 in stage["outs"].items()}
        if path not in md5s:
            raise HubError(f"dvc.lock has no stage that makes {path}. Run: srlm repro")
        return md5s[path]

    def model(self, name: str) -> Path:
        return self.root / "data/models" / name


class Content(NamedTuple):
    """What a repository shall hold, before it is put on top of what is there."""

    files: list[Local]
    graph: dict[str, Any]
    metadata: dict[str, Any]
    section: dict[str, Any]
    """Facts for the template of the card."""


def datasets(
    source: Source, read: Callable[[Split], pl.DataFrame], folder: Path, *, raw: bool, published: Path | None = None
) -> Content:
    """The datasets, written to `folder`; with `raw`, also what they were made from. `read` gives the checked table of a
    split, `published` is a snapshot as in `write_shards`."""
    params, trains = source.params, trained(source.params)
    wanted = [
        config for config in configs(trains, judge_pairs=bool(params.judge_pairs.source)) if raw or not config.raw
    ]
    files: dict[str, dict[str, Any]] = {}
    local: list[Local] = []
    pairs: list[tuple[str, pl.DataFrame]] = []
    listed: list[dict[str, Any]] = []
    infos: list[dict[str, Any]] = []
    described: list[dict[str, Any]] = []
    for config in wanted:
        paths: list[dict[str, Any]] = []
        splits: list[dict[str, Any]] = []
        stored = 0
        for split in config.splits:
            frame = read(split)
            if split.table.name == "pairs" and split.model:
                pairs.append((split.model, frame))
            shards, in_memory = write_shards(frame, config, split, folder, published)
            about = {"config": config.name, "split": split.name, "raw": config.raw, "table": split.path}
            files |= {shard.path: about | shard.about() for shard in shards}
            local += shards
            paths.append({"split": split.name, "path": [shard.path for shard in shards]})
            splits.append({"name": split.name, "num_bytes": in_memory, "num_examples": len(frame)})
            stored += sum(shard.size for shard in shards)
            use = config.trains or "nothing yet" if split.name == "train" else "nothing: held out"
            row = {"config": config.name, "raw": config.raw, "split": split.name, "rows": len(frame), "trains": use}
            described.append(row | {"meaning": facts.meaning(split.table, split.model, trains)})
        listed.append({"config_name": config.name, "data_files": paths})
        sizes = {"download_size": stored, "dataset_size": sum(split["num_bytes"] for split in splits)}
        infos.append({"config_name": config.name, "features": features(config.table), "splits": splits, **sizes})
    beside = [Local.of(path, file) for path, file in source.beside.items()]
    files |= {file.path: file.about() for file in beside}
    graph = source.graph([split.path for config in wanted for split in config.splits], files)
    run = facts.of_the_run(params)
    metadata = facts.dataset_metadata(params, run)
    here = [name for name in graph["models"] if name not in params.external]  # a server's has no weights here
    section = {
        "splits": described,
        "columns": facts.columns({config.name: config.table for config in wanted}),
        "models": {m: {**about, "md5": source.md5(f"data/models/{m}")} for m, about in graph["models"].items()},
        "parameters": facts.join_words(card.size(facts.shape(source.model(name))["parameters"]) for name in here),
        **facts.origin(params.input_models, source.lineages, graph),
        "example": facts.example(pairs),
        **facts.outcomes(params, source.metrics),
    }
    return Content([*local, *beside], graph, metadata | {"configs": listed, "dataset_info": infos}, run | section)


def model(source: Source, name: str, data: Remote, others: Mapping[str, str]) -> Content:
    """A model: its folder as it is, but for its lineage. `data`: where its datasets are; `others`: model -> repository
    of those that are published with it. Raises ModelError when the folder lacks what is needed to load it."""
    path, params = source.model(name), source.params
    names = sorted(
        str(file.relative_to(path)) for file in path.rglob("*") if file.is_file() and not source.ignored(file)
    )
    for needed in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", "*.safetensors"):
        if not fnmatch.filter(names, needed):
            raise ModelError(f"{path} holds no {needed}, so it cannot be published. Run: srlm repro")
    local = [Local.of(file, path / file) for file in names if file not in WRITTEN]
    graph = source.graph([f"data/models/{name}"], {file.path: file.about() for file in local}) | {"model": name}
    line = facts.line_of(name, source.lineages, params)
    first = params.external.get(line[-1])
    on_hub = {line[-1]: first.repo} if first and first.source == "hub" and first.repo else {}
    base = next((repo for above in line[1:] if (repo := {**on_hub, **others}.get(above))), None)
    about, run = facts.of_the_model(name, params, source.metrics, source.lineages), facts.of_the_run(params)
    known, every = source.lineages[name], configs(trained(params), judge_pairs=bool(params.judge_pairs.source))
    adapter = "adapter/adapter_config.json" in names
    section = {
        "model": known,
        "adapter": adapter,
        "shape": facts.shape(path),
        "md5": source.md5(f"data/models/{name}"),
        "dataset_url": data.url,
        "configs": [c.name for c in every if not c.raw and any(split.path in known["data"] for split in c.splits)],
        **facts.origin(line[-1:], source.lineages, graph),
        **about,
    }
    metadata = facts.model_metadata(params, data.name, base, about, run, adapter=adapter)
    return Content(local, graph, metadata, run | section)


class Before(NamedTuple):
    """What is in the repository now."""

    found: Found | None
    """None: nobody could look."""
    card: str | None = None
    lineage: Mapping[str, Any] | None = None
    """None: nothing of ours."""

    @property
    def ours(self) -> Mapping[str, Mapping[str, Any]]:
        """Our files."""
        return self.lineage["files"] if self.lineage else {}


def look(remote: Remote) -> Before:
    """Raises HubError for a repository that holds what is not ours."""
    found = remote.look()
    text, old = remote.text(card.NAME, found), lineage.parse(remote.text(lineage.NAME, found))
    foreign = sorted(set(found.files) - {card.NAME, ".gitattributes", "LICENSE", "LICENSE.md"})
    if old is None and foreign:
        raise HubError(
            f"{remote.name} holds what this version of srlm did not publish, {len(foreign)} file(s), first "
            f"{foreign[0]!r}. Choose another repository, or delete them there"
        )
    return Before(found, text, old)


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
        return changes(self.files, self.gone, self.before.found.files if self.before.found else {})

    @property
    def changed(self) -> list[Change]:
        return [change for change in self.changes() if change.what != "unchanged"]

    def overwritten(self) -> list[str]:
        """The files that somebody put, changed or deleted on the Hub, and this would overwrite."""
        ours, there = self.before.ours, self.before.found.files if self.before.found else {}
        last = {path: (about["sha256"], about.get("blob")) for path, about in ours.items()}
        paths = [change.path for change in self.changed if change.path not in WRITTEN]
        return [path for path in paths if there.get(path) not in last.get(path, (None,))]

    def taken(self) -> list[str]:
        """The configs that are there under a name of ours, by somebody else or with other columns."""
        there = card.metadata_of(self.before.card)
        infos, last, now = (
            card.by_config(metadata.get("dataset_info"))
            for metadata in (there, self.before.lineage["card"] if self.before.lineage else {}, self.lineage["card"])
        )
        theirs = (card.by_config(there.get("configs")) | infos).keys() - last.keys()
        other = {name for name in last if name in now and last[name].get("features") != now[name]["features"]}
        return [name for name in now if name in theirs | other]


def put(content: Content, remote: Remote, before: Before, folder: Path) -> Publication:
    """The content on top of what is there, with card and lineage. Files of ours that are no longer written go.

    Where nothing but our code's revision would differ from what is published, the old revision stays: it made the same.
    """
    metadata = {"pretty_name": remote.name.split("/")[1], **content.metadata}
    graph, old, there = {**content.graph, "card": metadata}, before.lineage, before.found.files if before.found else {}

    section = {"repo": remote.name, "url": remote.url, "versions": facts.versions(graph), **content.section}

    def merged(code: Mapping[str, str]) -> str:
        text = card.render(remote.kind, code_of=code, **section)
        return card.merge(before.card, text, metadata, old["card"] if old else {})

    text = merged(graph["code"])
    if old and {**old, "code": graph["code"]} == graph and merged(old["code"]) == before.card:
        graph["code"], text = old["code"], before.card or ""
    written = []
    for name, words in ((card.NAME, text), (lineage.NAME, lineage.dump(graph))):
        (folder / name).write_bytes(words.encode())
        written.append(Local.of(name, folder / name))
    files = [*content.files, *written]
    gone = [path for path in before.ours if path in there and path not in {file.path for file in files}]
    return Publication(remote, before, files, gone, text, graph)
