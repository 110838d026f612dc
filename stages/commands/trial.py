"""try: a change of params.yaml, beside the run here.

    srlm try sample_candidates.n=4 judge_candidates.k=1        run it in a copy, and show both results side by side
    srlm try seed=1,2,3 sample_candidates.n=4,8                every combination, in one table
    srlm try                                                   the tries that there are
    srlm try sample_candidates.n=4 --keep                      take it into params.yaml and the workspace; or --forget

A try is a folder in runs/try, named after its change: the same command goes on where it was stopped, and shows a
finished one again. It begins with what the run here made, by links into DVC's cache, and finds the texts that are
cached: only what depends on the change runs.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from stages.commands import trial_results
from stages.commands.check import findings
from stages.commands.figures import aside
from stages.commands.trial_runner import run_all
from stages.commands.tries import RECORD, Try, asked, base_of, every, forget, ran
from stages.config import change as changes
from stages.config.finding import listing
from stages.config.load import PARAMS, load_params, read_yaml
from stages.console.errors import ParamsError, SrlmError
from stages.console.sheets import Sheet, to_terminal
from stages.store.copies import LOCK, begin_with, prepare, share_completions
from stages.store.dvc_status import State, state
from stages.store.files import read_json, write_json
from stages.store.recovery import recover

LOG = "repro.log"


def run(words: Sequence[str], root: Path = Path(), *, jobs: int | None = None, as_json: bool = False) -> None:
    """Run what is not finished of each combination, then show it beside the run here. Raises SrlmError before anything
    runs where a change or the run here is not sound, and at the end where a try failed."""
    root = root.resolve()
    load_params(root)
    tries, here = asked(root, words), changes.applied(read_yaml(root), {})
    for each in tries:
        check(root, each)
    tries = [each._replace(folder=root) if changes.applied(here, each.change) == here else each for each in tries]
    if all(each.folder == root for each in tries):
        raise ParamsError(f"{PARAMS} has {', '.join(each.name for each in tries)} already: there is nothing to try")
    now = finished(root)
    copies = [each for each in tries if each.folder != root]
    started = time.monotonic()
    base = base_of(root)
    left = [each for each in copies if not (each.record.get("finished") and each.record.get("base") == base)]
    # seeds have nothing in common, other changes much: those come later, and find it in the cache
    left.sort(key=lambda each: [other.rest for other in tries].index(each.rest))
    with aside() if as_json else nullcontext():
        for each in left:
            begin(root, each, base, now)
        if left:
            run_all([(each.name, each.folder) for each in left], LOG, jobs or at_once(root), len(now.stages), end)
    show(root, tries, round(time.monotonic() - started, 1) if left else None, as_json=as_json)


def check(root: Path, tried: Try) -> None:
    """Raises ParamsError with all that is wrong with params.yaml as it would be."""
    with TemporaryDirectory(prefix="srlm-") as folder:
        file = Path(folder).resolve() / PARAMS
        changes.write(root / PARAMS, file, tried.change)
        _, found = findings(root, str(file), on_disk=False)
    if found:
        raise ParamsError(f"{listing(found, tried.command)}\nNothing was run")


def finished(root: Path) -> State:
    """The run here, which tries are compared with. Raises SrlmError where it is not finished."""
    now = state(root)
    stale = {name: why for name, why in now.stale.items() if not name.endswith(".dvc")}  # a command's, not a stage's
    if stale or not (root / LOCK).is_file():
        first, why = next(iter(stale.items()), ("the first", "nothing has run here"))
        raise SrlmError(
            f"the run here, which a try is compared with, is not finished: {len(stale)} stage(s) are not up to date "
            f"(first {first}: {why}). Run: srlm repro"
        )
    return now


def begin(root: Path, tried: Try, base: str, now: State) -> None:
    """Make the copy, or bring its code up to date; one of another run here is made anew."""
    folder, log = tried.folder, tried.folder / LOG
    if folder.is_dir():
        recover(folder)
        if tried.record.get("base") != base:
            forget([tried])
    prepare(root, folder, tried.change)
    share_completions(root, folder)
    if not tried.record:
        begin_with(root, folder, now.uncached, log)
        write_json(folder / RECORD, {"change": [*tried.change.items()], "base": base, "finished": False})


def end(folder: Path) -> None:
    write_json(folder / RECORD, {**read_json(folder / RECORD), "finished": True})


def at_once(root: Path) -> int:
    """So many tries at a time that each core has a thread. Threads stay as they are in params.yaml: other threads are
    other last digits, and then other texts. On a GPU one."""
    hardware = load_params(root).hardware
    cores = len(os.sched_getaffinity(0))
    on_gpu = hardware.device == "cuda" or (hardware.device == "auto" and Path("/dev/nvidia0").exists())
    return 1 if on_gpu else max(1, cores // (hardware.threads or cores))


def show(root: Path, tries: Sequence[Try], seconds: float | None, *, as_json: bool) -> None:
    """One try beside the run here; several in a table. `seconds`: of this command, null where all was there before."""
    here = trial_results.Run.read(root)
    runs = [trial_results.Run.read(each.folder) for each in tries]
    told = [{"try": each.name, "change": each.change, **ran(root, each)} for each in tries]
    if len(tries) == 1:
        compared = trial_results.compare(here, runs[0])
        figures = [{**c._asdict(), "difference": c.difference._asdict()} for c in compared]
        result: dict[str, Any] = {**told[0], "seconds": seconds, "figures": figures}
        sheets = [trial_results.sheet(compared, tries[0].name)]
    else:
        rows = trial_results.table({"here": [here], **grouped(tries, runs)})
        result = {"runs": told, "seconds": seconds, "table": rows}
        sheets = [trial_results.table_sheet(rows)]
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
        return
    for sheet in sheets:
        to_terminal(sheet, sys.stdout, longest=200)
    if len(tries) == 1 and (same := sum(c.here == c.tried for c in compared)):
        print(f"{same} of {len(compared)} figures are the same in both (--json has all)")
    for each, of_try in zip(tries, told, strict=True):
        names = f": {', '.join(of_try['ran'])}" if len(tries) == 1 and of_try["ran"] else ""
        print(f"{each.name}: {spent(of_try) if each.folder != root else 'the run here'}{names}")
    print("all of it was there before" if seconds is None else f"{seconds:.0f} s in all")
    if len(tries) == 1:
        print(
            f"Take it into {PARAMS} and the workspace, or delete it:\n  {tries[0].command} --keep\n  "
            f"{tries[0].command} --forget"
        )


def spent(told: Mapping[str, Any]) -> str:
    if not told["ran"]:
        return "no stage ran, all come from DVC's cache"
    return f"{len(told['ran'])} stage(s) ran in {told['stages_s']:.0f} s, the others come from DVC's cache"


def grouped(tries: Sequence[Try], runs: Sequence[trial_results.Run]) -> Mapping[str, list[trial_results.Run]]:
    """The runs by what is changed beside the seed."""
    groups: dict[str, list[trial_results.Run]] = {}
    for tried, run in zip(tries, runs, strict=True):
        seeds = len({changes.written(each.change.get("seed")) for each in tries}) > 1
        name = " ".join(changes.words_of(tried.rest if seeds else tried.change)) or "other seeds"
        groups.setdefault(name, []).append(run)
    return groups


def show_list(root: Path = Path(), *, as_json: bool = False) -> None:
    """The tries that there are."""
    tries = every(root)
    base = base_of(root) if tries and (root / LOCK).is_file() else None
    told = [
        {
            "try": t.name,
            "change": t.change,
            "finished": t.record["finished"],
            "of_the_run_here": t.record["base"] == base,
        }
        | ran(root, t)
        for t in tries
    ]
    if as_json:
        print(json.dumps(told, ensure_ascii=False))
    elif told:
        words = {(True, True): "finished", (False, True): "not finished", (True, False): "of another run than is here"}
        rows = [
            [t["try"], words.get((t["finished"], t["of_the_run_here"]), "of another run"), len(t["ran"]), t["stages_s"]]
            for t in told
        ]
        to_terminal(Sheet(["change", "", "stages ran", "seconds"], rows), sys.stdout, longest=200)
    else:
        print("no try yet: srlm try sample_candidates.n=4 makes one")
