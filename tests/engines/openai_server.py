"""A server in a process of its own that speaks OpenAI's API with the tiny Llama behind it, and misbehaves when it is
told to.

    python openai_server.py MODEL_FOLDER    # prints its port

Each model's name is a world of its own: PUT /models/NAME says how to answer those who ask for it (`Fault`), GET
/models/NAME what they asked.
"""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, NamedTuple


class Fault(NamedTuple):
    """How `times` requests are answered, after `skip` that are answered well."""

    status: int = 0
    """Instead of the model's answer: this status, with `headers` and `text`, in which {authorization} and {path} become
    what the client sent."""
    headers: tuple[tuple[str, str], ...] = ()
    text: str = ""
    half: bool = False
    """The connection drops in the middle of the text."""
    drop: bool = False
    """The connection drops without an answer."""
    delay: float = 0.0
    """Seconds before the answer."""
    drip: float = 0.0
    """Seconds between one byte of the text and the next."""
    refuses: tuple[str, ...] = ()
    """Fields of the body that get 400, or `status` and `text`, in which {field} and {value} become the first of them."""
    most: int = 10**9
    """Requests there at the same time; one more gets `status`, `headers` and `text` at once."""
    mixes: bool = False
    """Requests there at the same time get one another's seeds."""
    strict: bool = False
    """Instead of a shorter text: 400."""
    skip: int = 0
    times: int = 10**9


class Server(NamedTuple):
    """The process, seen by a test."""

    port: int

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/v1"

    def behave(self, model: str, fault: Fault) -> None:
        self._call("PUT", model, json.dumps(fault._asdict()).encode())

    def asked(self, model: str) -> list[dict[str, Any]]:
        """Bodies of the requests, in the order they came, each with its `path`, its `authorization` and the time it
        came, `at`."""
        return self._call("GET", model)["asked"]

    def here(self, model: str) -> int:
        """Requests that are there now."""
        return self._call("GET", model)["here"]

    def peak(self, model: str) -> int:
        """Requests that were there at the same time."""
        return self._call("GET", model)["peak"]

    def _call(self, method: str, model: str, data: bytes | None = None) -> Any:
        with urllib.request.urlopen(
            urllib.request.Request(f"http://127.0.0.1:{self.port}/models/{model}", data, method=method)
        ) as answer:
            return json.load(answer)


@contextmanager
def serving(model_dir: Path) -> Iterator[Server]:
    command = [sys.executable, __file__, str(model_dir)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield Server(int(process.stdout.readline()))


class Model:
    """The tiny Llama behind our own engine, one request at a time."""

    def __init__(self, folder: Path) -> None:
        from tiny_llama import HARDWARE, engine_params
        from transformers.convert_slow_tokenizer import bytes_to_unicode

        from stages.engines.backends.transformers import TransformersEngine

        self.engine = TransformersEngine(engine_params("transformers"), HARDWARE, folder, model="served", seed=0)
        self.byte_of = {letter: byte for byte, letter in bytes_to_unicode().items()}
        self.lock = threading.Lock()
        generate = self.engine.model.generate

        def remembered(**how: Any) -> Any:
            out = generate(**how)
            self.ids = out[:, how["input_ids"].shape[1] :].tolist()
            return out

        self.engine.model.generate = remembered

    def answer(self, body: dict[str, Any], strict: bool) -> tuple[int, dict[str, Any]]:
        from stages.engines.request import Request, Sampling

        chat = "messages" in body
        prompt = body["messages"] if chat else body["prompt"]
        limit = self.engine.max_context
        most = body.get("max_tokens", body.get("max_completion_tokens", limit))
        sampling = Sampling(1, body.get("temperature", 1.0), body.get("top_p", 1.0), most, tuple(body.get("stop", ())))
        with self.lock:
            ids = self.engine.prompts.encode([Request("", prompt)])[0]
            if len(ids) >= limit or (strict and most != limit and len(ids) + most > limit):
                return 400, {"error": {"message": f"This model's maximum context length is {limit} tokens"}}
            (said,) = self.engine.generate([Request(str(body.get("seed", 0)), prompt)], sampling)
            text = {"message": {"role": "assistant", "content": said.text}} if chat else {"text": said.text}
            logprobs = self.logprobs(ids, self.ids[0][: said.tokens]) if body.get("logprobs") else None
            choice = {"index": 0, "finish_reason": said.finish_reason, "logprobs": logprobs, **text}
        return 200, {"choices": [choice], "usage": {"prompt_tokens": len(ids), "completion_tokens": said.tokens}}

    def logprobs(self, prompt: list[int], ids: list[int]) -> dict[str, Any]:
        import torch

        with torch.inference_mode():
            steps = (
                self.engine.model(torch.tensor([prompt + ids])).logits[0, len(prompt) - 1 : -1].double().log_softmax(-1)
            )
        tops = [list(zip(*(t.tolist() for t in step.topk(20)), strict=True)) for step in steps]
        entry = lambda i, p: {
            "token": self.bytes(i).decode(errors="replace"),
            "bytes": list(self.bytes(i)),
            "logprob": p,
        }
        return {
            "content": [
                {**entry(i, step[i].item()), "top_logprobs": [entry(other, p) for p, other in top]}
                for i, step, top in zip(ids, steps, tops, strict=True)
            ]
        }

    def bytes(self, token: int) -> bytes:
        """None of a special token: it is no part of the text."""
        tokenizer = self.engine.prompts.tokenizer
        return (
            b""
            if token in tokenizer.all_special_ids
            else bytes(self.byte_of[letter] for letter in tokenizer.convert_ids_to_tokens(token))
        )


class World:
    """What is known of one model's name."""

    def __init__(self) -> None:
        self.fault, self.asked, self.here, self.peak = Fault(times=0), list[dict[str, Any]](), 0, 0


WORLDS: defaultdict[str, World] = defaultdict(World)
LOCK = threading.Lock()


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    model: Model

    def log_message(self, *args: Any) -> None:
        pass

    def do_PUT(self) -> None:
        with LOCK:
            WORLDS[self.path].fault = Fault(**self.read())
        self.send(200, b"{}")

    def do_GET(self) -> None:
        with LOCK:
            world = WORLDS[self.path]
            known = json.dumps({"asked": world.asked, "here": world.here, "peak": world.peak})
        self.send(200, known.encode())

    def do_POST(self) -> None:
        body = self.read()
        with LOCK:
            world = WORLDS[f"/models/{body['model']}"]
            fault, nth = world.fault, len(world.asked)
            world.asked.append(
                {"path": self.path, "authorization": self.headers["Authorization"], "at": time.monotonic(), **body}
            )
            world.here += 1
            world.peak = max(world.peak, world.here)
            busy = fault.most < world.here
        try:
            if busy:
                self.send(fault.status, fault.text.encode(), dict(fault.headers))
            else:
                self.respond(body, fault if fault.skip <= nth < fault.skip + fault.times else Fault())
        except ConnectionError:  # the client did not wait
            self.close_connection = True
        finally:
            with LOCK:
                world.here -= 1

    def respond(self, body: dict[str, Any], fault: Fault) -> None:
        time.sleep(fault.delay)
        if fault.drop:
            self.close_connection = True
        elif field := next((field for field in fault.refuses if field in body), ""):
            text = fault.text or json.dumps({"error": {"message": "'{field}' is not supported"}})
            text = text.replace("{field}", field).replace("{value}", str(body[field]))
            self.send(fault.status or 400, text.encode(), dict(fault.headers))
        elif fault.status and not fault.refuses and fault.most > 10**8:
            text = fault.text.replace("{authorization}", self.headers["Authorization"]).replace("{path}", self.path)
            self.send(fault.status, text.encode(), dict(fault.headers), half=fault.half, drip=fault.drip)
        else:
            with LOCK:
                others = WORLDS[f"/models/{body['model']}"]
                drawn = others.here > 1 and fault.mixes
            seed = {"seed": len(others.asked)} if drawn else {}
            status, answer = self.model.answer(body | seed, fault.strict)
            self.send(status, json.dumps(answer).encode())

    def read(self) -> dict[str, Any]:
        return json.loads(self.rfile.read(int(self.headers["Content-Length"])))

    def send(
        self, status: int, text: bytes, headers: dict[str, str] | None = None, half: bool = False, drip: float = 0.0
    ) -> None:
        self.send_response(status)
        for name, value in {
            "Content-Type": "application/json",
            "Content-Length": str(len(text)),
            **(headers or {}),
        }.items():
            self.send_header(name, value)
        self.end_headers()
        for piece in (
            (text[i : i + 1] for i in range(len(text))) if drip else [text[: len(text) // 2] if half else text]
        ):
            self.wfile.write(piece)
            time.sleep(drip)
        self.close_connection = self.close_connection or half


class Listening(ThreadingHTTPServer):
    request_queue_size = 64


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parents[2]))
    Handler.model = Model(Path(sys.argv[1]))
    listening = Listening(("127.0.0.1", 0), Handler)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    print(listening.server_port, flush=True)
    sys.stdin.read()  # until the test is gone, however it went
