"""A repository as it shall be: its files, its card and its lineage, on top of what is there. Nothing is sent here."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import polars as pl

from stages.config.params import Params
from stages.console.errors import HubError, ModelError
from stages.hub import card, facts, lineage
from stages.hub.configs import Config, Split, configs, features, write_shards
from stages.hub.remote import Change, Found, Local, Remote, changes

WRITTEN = (card.NAME, lineage.NAME)
"""Files that are put beside those of the store; people write in the first."""
OUTDATED = "lineage.prov.json"
"""Earlier versions put it beside them, too."""


def trained(params: Params) -> dict[str, str]:
    """Mt -> the models that its AIFT trains."""
    return {m: facts.join_words(name for name, step in params.models.items() if step.prev == m) for m in params.aift}


class Source(NamedTuple):
    """What is published, and what is known of it."""

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
    """Versions of the packages that made the texts of a table, by its path."""

    def graph(
        self, made_by: Mapping[str, lineage.Stage], files: Mapping[str, Mapping[str, Any]], models: facts.Lineages
    ) -> dict[str, Any]:
        """The lineage of what is published."""
        outs = {path for stage in made_by.values() for path in stage["outs"]}
        return {
            **{"format": lineage.FORMAT, "paper": "arXiv:2401.10020", "code": dict(self.code)},
            **{"stages": dict(made_by), "files": dict(files), "models": dict(models)},
            "packages": {path: dict(versions) for path, versions in self.packages.items() if path in outs},
        }

    def md5(self, path: str) -> str:
        """As dvc.lock has it. Raises HubError when no stage makes it."""
        (stage,) = lineage.ancestors({n: s | {"deps": {}} for n, s in self.stages.items()}, [path]).values()
        return str(stage["outs"][path])

    def model(self, name: str) -> Path:
        return self.root / "data/models" / name


class Before(NamedTuple):
    """What is in the repository now."""

    found: Found | None
    """None: nobody could look."""
    card: str | None = None
    lineage: Mapping[str, Any] | None = None
    """None: nothing of ours."""

    @property
    def head(self) -> str | None:
        return self.found and self.found.head

    @property
    def ours(self) -> Mapping[str, Mapping[str, Any]]:
        """Our files, those of earlier configs too."""
        return {**(self.lineage or {}).get("kept", {}), **(self.lineage or {}).get("files", {})}


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
        """What somebody put, changed or deleted on the Hub, and this would overwrite."""
        ours, there = self.before.ours, self.before.found.files if self.before.found else {}
        last = {path: (about["sha256"], about.get("blob")) for path, about in ours.items()}
        return [
            change.path
            for change in self.changed
            if change.path not in (*WRITTEN, OUTDATED) and there.get(change.path) not in last.get(change.path, (None,))
        ]


def look(remote: Remote) -> Before:
    """Raises HubError for a repository that holds what is not ours, so that nothing of it is lost or taken for ours."""
    found = remote.look()
    text, old = remote.text(card.NAME, found), lineage.parse(remote.text(lineage.NAME, found))
    foreign = sorted(set(found.files) - {card.NAME, ".gitattributes", "LICENSE", "LICENSE.md"})
    if old is None and foreign:
        raise HubError(
            f"{remote.name} holds what srlm did not publish, {len(foreign)} file(s), first {foreign[0]!r}. Choose "
            f"another repository, or delete them there"
        )
    return Before(found, text, old)


def named(config: Config, before: Before, suffix: str | None, taken: Iterable[str]) -> Config:
    """The config under its name; where that is published with another schema, or by somebody else, under the one with
    `suffix`. Raises HubError where there is none, or that is in use too."""
    infos = card.as_list(card.metadata_of(before.card).get("dataset_info"))
    infos += (before.lineage or {}).get("card", {}).get("dataset_info", ())  # ours count before what the card says
    schemas = {str(info.get("config_name")): info.get("features") for info in infos if isinstance(info, dict)}
    tables_of: dict[str, set[Any]] = {}
    for about in before.ours.values():
        tables_of.setdefault(str(about.get("config")), set()).add(about.get("table"))
    wanted, paths = features(config.table), {split.path for split in config.splits}

    def free(name: str) -> bool:
        return name not in schemas or (schemas[name] == wanted and bool(tables_of.get(name, set()) & paths))

    other = f"{config.name}_{suffix}"
    if free(config.name):
        return config
    if suffix and free(other) and other not in taken:
        return config._replace(name=other)
    why = "with other columns" if tables_of.get(config.name, set()) & paths else "by somebody else"
    lists = [
        {f"{f.get('name')} {f.get('dtype') or 'list'}" for f in card.as_list(some) if isinstance(f, dict)}
        for some in (schemas[config.name], wanted)
    ]
    differs = f" ({', '.join(sorted(lists[0] ^ lists[1]))})" if lists[0] != lists[1] else ""
    raise HubError(
        f"config {config.name} is published {why}{differs}, and those who read it would break. Publish it under a new "
        f"name beside the old one: --new-config {'a name that is not there yet' if suffix else 'v2'}"
    )


def datasets(
    source: Source,
    read: Callable[[Split], pl.DataFrame],
    remote: Remote,
    before: Before,
    folder: Path,
    *,
    raw: bool,
    new_config: str | None,
) -> Publication:
    """The repository of the datasets. With `raw`, or where they were published before, also what they were made from.
    `read` gives the checked table of a split."""
    params, trains = source.params, trained(source.params)
    every = configs(trains)
    raw = raw or any(file.get("raw") for file in before.ours.values())
    names = [config.name for config in every]
    wanted = [named(config, before, new_config, names) for config in every if raw or not config.raw]
    files: dict[str, dict[str, Any]] = {}
    local: list[Local] = []
    pairs, listed, infos = [], [], []
    described: list[dict[str, Any]] = []
    for config in wanted:
        splits: list[dict[str, Any]] = []
        paths, stored = [], 0
        for split in config.splits:
            frame = read(split)
            if split.table.name == "pairs" and split.model:
                pairs.append((split.model, frame))
            shards = write_shards(frame, config, split, folder)
            about = {"config": config.name, "split": split.name, "raw": config.raw}
            about |= {"table": split.path, "md5": source.md5(split.path)}
            files |= {shard.local.path: about | {"rows": shard.rows} | shard.local.about() for shard in shards}
            local += [shard.local for shard in shards]
            paths.append({"split": split.name, "path": [shard.local.path for shard in shards]})
            stored += sum(shard.local.size for shard in shards)
            in_memory = sum(shard.in_memory for shard in shards)
            splits.append({"name": split.name, "num_bytes": in_memory, "num_examples": len(frame)})
            use = config.trains or "nothing yet" if split.name == "train" else "nothing: held out"
            what = facts.meaning(split.table, split.model, trains)
            described.append({"config": config.name, "raw": config.raw, "split": split.name, "rows": len(frame)})
            described[-1] |= {"meaning": what, "trains": use}
        listed.append({"config_name": config.name, "data_files": paths})
        sizes = {"download_size": stored, "dataset_size": sum(split["num_bytes"] for split in splits)}
        infos.append({"config_name": config.name, "features": features(config.table), "splits": splits, **sizes})
    beside = [Local.of(path, file) for path, file in source.beside.items()]
    local += beside
    files |= {file.path: file.about() for file in beside}
    run = facts.of_the_run(params)
    metadata = facts.dataset_metadata(remote.name, params, sum(split["rows"] for split in described), run)
    metadata |= {"configs": listed, "dataset_info": infos}
    made_by = lineage.ancestors(source.stages, (split.path for config in wanted for split in config.splits))
    graph = source.graph(made_by, files, source.lineages)
    trained_here = [
        model for model in source.lineages if model not in params.external
    ]  # a server's has no weights here
    known = [facts.shape(source.model(model))["parameters"] for model in trained_here]
    section = {
        "splits": described,
        "columns": facts.columns({config.name: config.table for config in wanted}),
        "models": facts.family(source.lineages, {m: source.md5(f"data/models/{m}") for m in source.lineages}),
        "parameters": facts.join_words(map(card.size, known)),
        "base": facts.base_models(params, params.input_models),
        "versions": facts.versions(source.lineages.values(), graph["packages"].values()),
        "example": facts.example(pairs),
        **facts.outcomes(params, source.metrics),
    }
    configs_now = {config.name for config in wanted}
    return _finished(source, remote, before, local, graph, metadata, run | section, folder, configs_now)


def model(
    source: Source,
    name: str,
    remote: Remote,
    before: Before,
    folder: Path,
    data: Publication,
    others: dict[str, str],
) -> Publication:
    """The repository of a model: its folder as it is, but for its lineage, which goes back to the seed rows. `data`:
    the publication of the datasets; `others`: model -> repository of those that are published with it.

    Raises ModelError when the folder lacks what is needed to load it.
    """
    path, params = source.model(name), source.params
    names = sorted(
        str(file.relative_to(path)) for file in path.rglob("*") if file.is_file() and not source.ignored(file)
    )
    for needed in ("config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", lineage.NAME):
        if needed not in names:
            raise ModelError(f"{path} holds no {needed}, so it cannot be published. Run: srlm repro")
    if not any(file.endswith(".safetensors") for file in names):
        raise ModelError(f"{path} holds no *.safetensors; pickled weights are not published. Run: srlm repro")
    local = [Local.of(file, path / file) for file in names if file not in WRITTEN]
    made_by = lineage.ancestors(source.stages, [f"data/models/{name}"])
    outs = {out for stage in made_by.values() for out in stage["outs"]}
    models = {other: known for other, known in source.lineages.items() if f"data/models/{other}" in outs}
    graph = source.graph(made_by, {file.path: file.about() for file in local}, models) | {"model": name}
    line = facts.line_of(name, source.lineages, params)
    first = params.external.get(line[-1])
    on_hub = {line[-1]: first.repo} if first and first.source == "hub" and first.repo else {}
    base = next((repo for above in line[1:] if (repo := {**on_hub, **others}.get(above))), None)
    about, run = facts.of_the_model(name, params, source.metrics, source.lineages), facts.of_the_run(params)
    rows: dict[str, int] = {}
    for file in data.lineage["files"].values():
        if file.get("table") in source.lineages[name]["data"]:
            rows[file["config"]] = rows.get(file["config"], 0) + file["rows"]
    section = {
        "model": source.lineages[name],
        "shape": facts.shape(path),
        "md5": source.md5(f"data/models/{name}"),
        "dataset_url": data.remote.url,
        "rows": rows,
        "base": facts.base_models(params, line[-1:]),
        "versions": facts.versions(
            [source.lineages[above] for above in reversed(line) if above in source.lineages], graph["packages"].values()
        ),
        **about,
    }
    metadata = facts.model_metadata(remote.name, params, data.remote.name, base, about, run)
    return _finished(source, remote, before, local, graph, metadata, run | section, folder, {None})


def _finished(
    source: Source,
    remote: Remote,
    before: Before,
    local: list[Local],
    graph: dict[str, Any],
    metadata: dict[str, Any],
    section: Mapping[str, Any],
    folder: Path,
    configs: set[Any],
) -> Publication:
    """With card and lineage. Where nothing but our code's revision would differ from what is published, the old
    revision stays: it made the same. Files of ours in `configs` that are no longer written go; those of earlier configs
    stay, as long as nobody deletes them."""
    there, now = before.found.files if before.found else {}, {file.path for file in local}
    left = {path: about for path, about in before.ours.items() if path not in now and path in there}
    gone = [path for path, about in left.items() if about.get("config") in configs | {None}]
    gone += [OUTDATED] if before.lineage and OUTDATED in there else []
    graph["card"] = metadata
    # `commit`: where the graph that leads to it stands
    graph["kept"] = {path: {"commit": before.head, **about} for path, about in left.items() if path not in gone}

    def merged(code: Mapping[str, str]) -> str:
        text = card.render(remote.kind, repo=remote.name, url=remote.url, code_of=code, **section)
        return card.merge(before.card, text, metadata, (before.lineage or {}).get("card", {}))

    text, old = merged(graph["code"]), before.lineage
    if old and lineage.same_but_for_code(old, graph) and merged(old["code"]) == before.card:
        graph["code"], text = old["code"], before.card or ""
    for name, content in ((card.NAME, text), (lineage.NAME, lineage.dump(graph))):
        (folder / name).write_bytes(content.encode())
        local.append(Local.of(name, folder / name))
    return Publication(remote, before, local, gone, text, graph)
