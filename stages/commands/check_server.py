"""check --server: what a seed is worth at the server that params.yaml asks.

    srlm check --server NAME

Each text of a run has a seed of its own and is asked for once, so that a run cannot see whether the server heeds it.
Here a few short texts are asked for one at a time, again one at a time, and all at once.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from stages.config.engines import EngineParams
from stages.config.load import load_params
from stages.config.params import ROLE_ENGINES, Params
from stages.console.errors import EngineError, ParamsError
from stages.console.terminal import stderr
from stages.engines.open import open_engine
from stages.engines.request import Request, Sampling
from stages.text.escape import for_terminal

TEXTS = 8
SAMPLING = Sampling(n=TEXTS, temperature=1.0, top_p=1.0, max_tokens=16)
PROMPT = "Tell me a story of a journey, with names and places that nobody has heard of."


def show(name: str, root: Path, *, as_json: bool = False) -> None:
    """Print what was seen. Exits with 1 where the server does not sample."""
    facts = look(name, root)
    print(json.dumps(facts, ensure_ascii=False) if as_json else for_terminal(f"{facts['asked']}: {facts['seen']}"))
    if not facts["ok"]:
        raise SystemExit(EngineError.exit_code)


def look(name: str, root: Path) -> dict[str, Any]:
    """What the server gives the model `name` of params.yaml, or NAME@PREFIX where several servers are asked. Raises
    ParamsError where none is, and EngineError as the engine does."""
    params = load_params(root)
    model, _, prefix = name.partition("@")
    engine = _engine(params, model, prefix)
    section, server = params.hardware.server_of(engine)
    served = getattr(params.external.get(model), "repo", None) or model
    asked = f"{served} at {engine.env_prefix}_BASE_URL"
    stderr.print(f"{asked} is asked for {3 * TEXTS} texts of up to {SAMPLING.max_tokens} tokens")
    texts = []
    for at_once in (1, 1, max(TEXTS, server.at_once)):
        how = server.model_copy(update={"at_once": at_once})
        hardware = params.hardware.model_copy(update={"server": how, "servers": {}})
        with open_engine(engine, hardware, root / "data/models" / model, model=served, seed=params.seed) as opened:
            written = opened.generate([Request("check", [{"role": "user", "content": PROMPT}])], SAMPLING)
        texts.append([c.text for c in written])
    first, again, together = texts
    alone, at_a_time = (sum(map(str.__eq__, first, other)) for other in (again, together))
    different = len({*first})
    facts = {"ok": different > 1, "asked": asked, "texts": TEXTS, "different": different}
    return facts | {"same_alone": alone, "same_at_once": at_a_time, "seen": _seen(different, alone, at_a_time, section)}


def _seen(different: int, alone: int, at_once: int, section: str) -> str:
    if different == 1:
        return (
            f"{TEXTS} seeds give one text: it does not sample (transformers serve does so only where the model's "
            f"generation_config.json says do_sample: true)"
        )
    if alone < TEXTS:
        return f"a seed is not heeded: of {TEXTS} texts {alone} came again. A run keeps its texts in its cache alone"
    if at_once == TEXTS:
        return f"a seed is a seed: {TEXTS} of {TEXTS} texts came again, one at a time and {TEXTS} at once"
    why = (
        f"it mixes up the seeds of requests at a time. Set {section}.at_once: 1, or texts cannot be had again"
        if at_once <= TEXTS // 2
        else "sums of floating-point numbers depend on what else is asked"
    )
    return f"{TEXTS} of {TEXTS} texts came again one at a time, {at_once} of {TEXTS} at once: {why}"


def _engine(params: Params, model: str, prefix: str) -> EngineParams:
    if model not in {*params.input_models, *params.trained_models}:
        raise ParamsError(f"params.yaml names no model {model!r}. Type one of external, or that a server of yours has")
    engines = [engine for _, engine in map(params.engine_of, ("", *ROLE_ENGINES)) if engine.name == "openai"]
    by_prefix = {engine.env_prefix: engine for engine in engines}
    if prefix in by_prefix:
        return by_prefix[prefix]
    if not prefix and len(by_prefix) == 1:
        return engines[0]
    if not by_prefix:
        raise ParamsError("params.yaml asks no server: no engine in it is named openai (docs/engines.md)")
    names = " or ".join(f"{model}@{one}" for one in by_prefix)
    raise ParamsError(f"params.yaml asks the servers of {', '.join(by_prefix)}. Type: srlm check --server {names}")
