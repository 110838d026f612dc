"""What `srlm watch` shows: the page of one version or two, drawn anew when the store has changed; and what runs."""

from __future__ import annotations

import getpass
import hashlib
import secrets
import subprocess
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import duckdb

from stages.commands import report, watch_texts
from stages.commands.watch_pairs import Pairs
from stages.config.load import PARAMS
from stages.console.errors import SrlmError
from stages.method.reviewing import DECISIONS, PAIR
from stages.page.answer import Answer
from stages.page.render import Page, Served, render
from stages.store import database, reviews, versions
from stages.store.damage import OTHER_PARAMS
from stages.store.files import signature
from stages.store.states import States

SHOWN = ("dvc.lock", PARAMS, "dvc.yaml", "data/metrics", "data/plots", "data/AIFT", "data/EVAL", "data/EFT")
"""What a page is made of: where any of it is another, the page is."""
LINEAGES = "data/models/*/lineage.json"
DRAWING = "The figures are being drawn: a few seconds."
NOT_YET = "Nothing is measured yet: the run has not come to an evaluation."
AT_WORK = "A run is at work, with other parameters: what no stage has made anew yet is of the run before."
MOMENTARY = (SrlmError, OSError, duckdb.IOException)
"""While a stage is writing: a file is gone between being named and being read."""
TITLE = "Self-rewarding run"


@dataclass
class Side:
    """One of the versions that are shown: the folder of its store, and its git revision; none is the workspace."""

    folder: Path
    revision: str | None


class View:
    """A context: leaving it lets go of the stores. Its methods may be called by several threads."""

    def __init__(self, root: Path, sides: list[Side]) -> None:
        self.root, self.sides = root, sides
        self.live = any(side.revision is None for side in sides)
        self._states = States(root)
        self._names: tuple[Any, dict[str, str]] = (None, {})
        self._browsed = [Pairs(side.folder) for side in sides]
        self.token = secrets.token_urlsafe(32) if len(sides) == 1 and self.live else ""
        self._who = person(root)
        self._pages: list[Page] | None = None
        self._html = self._version = self._failed = ""
        self._lock, self._drawing = threading.Lock(), threading.Lock()
        self._over = threading.Event()
        self._warned: tuple[str, list[str]] = ("", [])

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self._keep_drawn, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._over.set()
        self._thread.join(30)
        for pairs in self._browsed:
            pairs.close()

    def wait(self) -> None:
        """Until a signal ends it."""
        while not self._over.wait(3600):
            pass

    def html(self) -> str:
        """The page as it was last drawn; before that one that says so."""
        with self._lock:
            if self._pages is None:
                return self._rendered([_nothing(side, self._failed or DRAWING) for side in self.sides], "")
            return self._html

    def state(self) -> dict[str, Any]:
        """What runs, as `States.all` has it, texts with their scores; warnings; the version of the page."""
        told: dict[str, Any] = {"repro": None, "stages": [], "left_s": None, "unknown": 0}
        if self.live:
            told = self._states.all(self._stages())
            for stage in told["stages"]:
                stage["texts"] = watch_texts.shown(self.root, stage["logs_as"], stage["texts"])
        return told | {"version": self._version, "warnings": self._warnings()}

    def pairs(self, query: dict[str, str]) -> dict[str, Any]:
        """A page of the pairs that fit a query of the page's own form. Raises ValueError, SrlmError."""
        side = int(query.get("side", "0"))
        if not 0 <= side < len(self._browsed):
            raise ValueError(f"there is no version {side}")
        return self._browsed[side].page(query)

    def review(self, said: Any) -> dict[str, str]:
        """Write a person's word on a pair to data/REVIEW; returns decision, who and at. Raises ValueError for what is
        no decision or of no pair here, TableError."""
        if not isinstance(said, dict) or not all(
            isinstance(said.get(name), str) for name in ("model", *PAIR, "decision")
        ):
            raise ValueError(f"expected model, {', '.join(PAIR)} and decision, all texts")
        pair, model, decision = {name: said[name] for name in PAIR}, said["model"], said["decision"]
        if decision not in DECISIONS:
            raise ValueError(f"expected {', '.join(DECISIONS)} as the decision")
        if not self._browsed[0].has(model, pair):
            raise ValueError("there is no such pair here: it was made anew. Load the page again")
        at = reviews.append(self.root, model, decision=decision, who=self._who, **pair)
        return {"decision": decision, "who": self._who, "at": at}

    def _stages(self) -> dict[str, str]:
        """Names of the stages, read again where dvc.yaml or params.yaml is another."""
        now = [signature(self.root / name) for name in ("dvc.yaml", PARAMS)]
        if self._names[0] != now:
            with self._drawing:  # DVC is not made for two threads
                self._names = now, versions.stages_in_order(self.root)
        return self._names[1]

    def _warnings(self) -> list[str]:
        if not self.live:
            return []
        running = self._states.running()
        now = str((signature(self.root / "data/metrics"), running))
        if self._warned[0] != now:
            try:
                warned = report.warnings(self.root)
                self._warned = now, while_running(warned) if running else warned
            except SrlmError:  # a file that is being written
                return self._warned[1]
        return self._warned[1]

    def _keep_drawn(self) -> None:
        while not self._over.is_set():
            now = self._now()
            if now != self._version:
                self._draw(now)
            self._over.wait(1 if self.live else 3600)

    def _now(self) -> str:
        digest = hashlib.sha256(str(self.live and self._states.running()).encode())
        for side in self.sides:
            files = [side.folder / name for name in SHOWN] + sorted(side.folder.glob(LINEAGES))
            digest.update(repr([(str(file), signature(file)) for file in files]).encode())
        return digest.hexdigest()[:16]

    def _draw(self, now: str) -> None:
        try:
            with self._drawing:
                pages = [self._page(side) for side in self.sides]
        except MOMENTARY as e:  # the last page stays
            self._failed = str(e)
            return
        with self._lock:
            self._pages, self._html, self._version = pages, self._rendered(pages, now), now

    def _page(self, side: Side) -> Page:
        with database.connect(side.folder) as store:
            page = report.gather(store, side.folder, report.identity(self.root, side.folder, side.revision), pairs=0)
        if side.revision is None and self._states.running():
            doubts = tuple(while_running(page.answer.doubts))
            sentence = page.answer.sentence if page.answer.rows else NOT_YET
            page = replace(page, answer=page.answer._replace(sentence=sentence, doubts=doubts))
        return page

    def _rendered(self, pages: list[Page], version: str) -> str:
        return render(pages[0], next(iter(pages[1:]), None), Served(version, self.live, self.token))


def while_running(doubts: Sequence[str]) -> list[str]:
    """Of a run that is at work, which does away with some of them: AT_WORK of older figures, no "Run: srlm repro"."""
    older = any(OTHER_PARAMS in doubt for doubt in doubts)
    kept = [doubt for doubt in doubts if OTHER_PARAMS not in doubt and not doubt.startswith(report.LATER)]
    return [AT_WORK, *kept] if older else kept


def person(root: Path) -> str:
    """Who reviews: git's user.name, else the name on this machine."""
    git = subprocess.run(["git", "config", "user.name"], cwd=root, capture_output=True, text=True, check=False)
    if name := git.stdout.strip():
        return name
    try:
        return getpass.getuser()
    except (KeyError, OSError):
        return "unknown"


def _nothing(side: Side, why: str) -> Page:
    """Before anything is drawn."""
    names = {"revision": side.revision} if side.revision else {}
    return Page(TITLE, Answer(why, ()), (), (), (), names, "")
