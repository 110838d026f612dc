"""What this machine can run: cores, memory, GPUs, disk, extras that are installed, whether the Hub answers; and which
profiles fit that. `srlm check` shows it. No large library is imported: it is to take a moment."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from http.client import HTTPException
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.error import HTTPError
from urllib.request import Request, urlopen

import psutil
from rich.filesize import decimal

from stages.store.files import md5

PACKAGE = "self-rewarding-lm"
NOT_FOR_RUNS = {"dev"}
HUB = "https://huggingface.co"
HUB_S = 2.0
"""How long the Hub is waited for."""
GB = 1e9
EXTRA = re.compile(r'extra == "([^"]+)"')
CODE = Path(__file__).parents[1]
NVIDIA = ("nvidia-smi", "--query-gpu=name,memory.total", "--format=csv,noheader,nounits")


def machine(root: Path) -> dict[str, Any]:
    """`cores`, `memory_bytes`, `gpus` (name, memory_bytes), `disk_free_bytes` of the project's disk, `extras` of
    pyproject.toml that are installed, `hub` (its `address`; `reachable`, null where HF_HUB_OFFLINE forbids asking), and
    `profiles`: name -> null where it fits, else why not."""
    facts: dict[str, Any] = {
        "cores": psutil.cpu_count(logical=False) or psutil.cpu_count() or 1,
        "memory_bytes": psutil.virtual_memory().total,
        "gpus": gpus(),
        "disk_free_bytes": shutil.disk_usage(root).free,
        "extras": extras(),
        "hub": hub(),
    }
    return facts | {"profiles": profiles(facts)}


def gpus() -> list[dict[str, Any]]:
    """NVIDIA's, as its driver tells; none without one."""
    try:
        done = subprocess.run(NVIDIA, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return []
    found = []
    for line in done.stdout.splitlines():
        name, _, mib = line.rpartition(",")
        if mib.strip().isdigit():
            found.append({"name": name.strip(), "memory_bytes": int(mib) * 2**20})
    return found


def extras(package: str = PACKAGE) -> list[str]:
    """Extras of which every package is installed."""
    from packaging.requirements import Requirement

    wanted: dict[str, list[str]] = {}
    try:
        lines = [Requirement(line) for line in requires(package) or ()]
    except PackageNotFoundError:
        return []
    for each in lines:
        for extra in _extras_of(each.marker):
            wanted.setdefault(extra, []).append(each.name)
    return sorted(extra for extra, names in wanted.items() if extra not in NOT_FOR_RUNS and all(map(_installed, names)))


def _extras_of(marker: Any) -> list[str]:
    """The extras by which a requirement applies, as `extra == "vllm"`."""
    return EXTRA.findall(str(marker or ""))


def _installed(name: str) -> bool:
    try:
        return bool(version(name))
    except PackageNotFoundError:
        return False


def hub() -> dict[str, Any]:
    """Whether the Hugging Face Hub answers at all, whatever it says."""
    address = os.environ.get("HF_ENDPOINT") or HUB
    if os.environ.get("HF_HUB_OFFLINE", "").upper() in ("1", "ON", "YES", "TRUE"):
        return {"address": address, "reachable": None}
    answered: list[bool] = []
    asking = Thread(target=lambda: answered.append(answers(address)), daemon=True)
    asking.start()
    asking.join(HUB_S)  # resolving a name has no time limit of its own
    return {"address": address, "reachable": any(answered)}


def answers(address: str) -> bool:
    try:
        urlopen(Request(address, method="HEAD"), timeout=HUB_S).close()
    except HTTPError as e:
        return e.code < 500
    except (OSError, ValueError, HTTPException):
        return False
    return True


def profiles(facts: dict[str, Any]) -> dict[str, str | None]:
    """Of each profile why it would not run here; null: it fits."""
    memory = max((gpu["memory_bytes"] for gpu in facts["gpus"]), default=0)
    room, have = sum(gpu["memory_bytes"] for gpu in facts["gpus"]), facts["extras"]
    hub_line = "the Hub does not answer" if facts["hub"]["reachable"] is False else None

    def lacks(*names: str) -> str | None:
        missing = [name for name in names if name not in have]
        return f"install the extra {' and '.join(missing)}" if missing else None

    def little(wanted: float, seen: float, what: str) -> str | None:
        return (
            f"{what} of {wanted / GB:.0f} GB, here {decimal(round(seen)) if seen else 'none'}"
            if seen < wanted
            else None
        )

    return {
        "tiny": little(2 * GB, facts["memory_bytes"], "memory"),
        "smol": little(8 * GB, facts["memory_bytes"], "memory") or lacks("eval") or hub_line,
        "gpu": little(79 * GB, memory, "a GPU") or lacks("vllm") or hub_line,
        "paper": little(1200 * GB, room, "GPUs") or lacks("ray", "vllm") or hub_line,
        "scripted": None,
    }


def lines(facts: dict[str, Any]) -> list[str]:
    """The same for people."""
    gpus_line = ", ".join(f"{gpu['name']} ({decimal(gpu['memory_bytes'])})" for gpu in facts["gpus"])
    state = {True: "answers", False: "does not answer", None: "is not asked (HF_HUB_OFFLINE)"}[
        facts["hub"]["reachable"]
    ]
    fit = [name for name, why in facts["profiles"].items() if why is None]
    others = "; ".join(f"{name} wants {why}" for name, why in facts["profiles"].items() if why)
    others = others.replace("wants install", "wants you to install").replace(
        "wants the Hub does", "is not: the Hub does"
    )
    return [
        f"machine: {facts['cores']} cores, {decimal(facts['memory_bytes'])} of memory, {gpus_line or 'no GPU'}, "
        f"{decimal(facts['disk_free_bytes'])} free on the disk; {facts['hub']['address']} {state}",
        f"extras: {', '.join(facts['extras']) or 'none'}",
        f"profiles that fit: {', '.join(fit)}" + (f" ({others})" if others else ""),
    ]


def other_code(root: Path) -> str | None:
    """A sentence where the stages of a project (`srlm init`) are of another version than this package."""
    here = root / "stages"
    if not here.is_dir() or here.samefile(CODE) or md5(here) == md5(CODE):
        return None
    return (
        f"code: stages/ here is another version than the srlm that is installed ({CODE}): what runs is what lies here "
        f"(docs/first_hour.md)"
    )
