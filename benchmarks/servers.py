"""How fast the engine `openai` gets texts from a server, against fixed numbers of requests at a time.

    python -m benchmarks.servers [KIND ...] [--texts 600] [--at-once 32]

The server is a process of its own, behind a socket; what it writes is noise, and takes its time: 100 tokens a second.

| KIND | beside its SLOTS texts |
|---|---|
| refuses | 429 with Retry-After: 1 |
| waits | others wait |
| shares | it takes any number, and each makes all of them slower |
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer
from rich.table import Table

from stages.config.engines import EngineParams
from stages.config.load import load_params
from stages.console.terminal import Console
from stages.engines.backends import concurrency
from stages.engines.backends.openai import OpenAIEngine
from stages.engines.request import Request, Sampling

ROOT = Path(__file__).parents[1]
KINDS = ("refuses", "waits", "shares")
SLOTS, TOKENS_A_SECOND, SLOWER = 12, 100, 0.02
FIXED = (12, 32)


async def serve(kind: str) -> None:
    """Prints its port; ends with its standard input."""
    here, slots = 0, asyncio.Semaphore(SLOTS)

    async def write(seed: int) -> dict[str, object]:
        tokens = max(10, int(random.Random(seed).lognormvariate(4.5, 0.4)))
        for _ in range(0, tokens, 10):
            await asyncio.sleep(10 / TOKENS_A_SECOND * (1 + SLOWER * here * (kind == "shares")))
        choice = {"index": 0, "message": {"content": f"text {seed}"}, "finish_reason": "stop"}
        return {"choices": [choice], "usage": {"prompt_tokens": 9, "completion_tokens": tokens}}

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal here
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
                size = int(head.split("content-length:")[1].split("\r\n")[0])
                body = json.loads(await reader.readexactly(size))
                status, more, out = "200 OK", "", {}
                if kind == "refuses" and here >= SLOTS:
                    status, more = "429 Too Many Requests", "Retry-After: 1\r\n"
                else:
                    here += 1
                    if kind == "waits":
                        async with slots:
                            out = await write(body["seed"])
                    else:
                        out = await write(body["seed"])
                    here -= 1
                text = json.dumps(out).encode()
                head = (
                    f"HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {len(text)}\r\n{more}\r\n"
                )
                writer.write(head.encode() + text)
                await writer.drain()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, backlog=512)
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    os._exit(0)


@contextmanager
def serving(kind: str) -> Iterator[None]:
    command = [
        sys.executable,
        "-c",
        f"import asyncio; from benchmarks.servers import serve; asyncio.run(serve({kind!r}))",
    ]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout
        os.environ["OPENAI_BASE_URL"] = f"http://127.0.0.1:{int(process.stdout.readline())}/v1"
        yield


class Fixed(concurrency.Concurrency):
    """Whatever happens."""

    def _end_round(self, now: float) -> None:
        self._new_round(now)

    def _below(self, ceiling: int, limit: int, now: float) -> None:
        pass


def seconds(texts: int, at_once: int, fixed: int | None) -> tuple[float, str]:
    params = load_params(ROOT)
    engine = EngineParams.model_validate(params.engine.model_dump() | {"name": "openai"})
    server = params.hardware.server.model_copy(update={"at_once": fixed or at_once, "attempts": 100})
    hardware = params.hardware.model_copy(update={"server": server, "servers": {}})
    asked = [Request(str(i), [{"role": "user", "content": f"Text {i}"}]) for i in range(texts)]
    with TemporaryDirectory() as folder, OpenAIEngine(engine, hardware, Path(folder), model="M", seed=0) as client:
        if fixed:
            client.concurrency = Fixed(fixed)
            client.concurrency.limit = fixed
            client.portal.call(setattr, client.slots, "total_tokens", fixed)
        started = time.monotonic()
        client.generate(asked, Sampling(1, 1.0, 1.0, 512))
        return time.monotonic() - started, client.details()


def main(
    kinds: Annotated[list[str] | None, typer.Argument(help=f"of {', '.join(KINDS)}; all without it")] = None,
    texts: int = 600,
    at_once: Annotated[int, typer.Option(help="the most that may be on their way")] = 32,
) -> None:
    for kind in kinds or KINDS:
        table = Table("server", "requests at a time", "seconds", "texts/s", "of the best fixed")
        with serving(kind):
            took = {
                n: seconds(texts, at_once, n)[0] for n in FIXED if n <= at_once and not (kind != "shares" and n < 8)
            }
            best = min(took.values())
            adaptive, details = seconds(texts, at_once, None)
        for name, spent in [*took.items(), (f"adaptive: {details}", adaptive)]:
            table.add_row(kind, str(name), f"{spent:.1f}", f"{texts / spent:.1f}", f"{best / spent:.0%}")
        Console().print(table)


if __name__ == "__main__":
    typer.run(main)
