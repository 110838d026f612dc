"""Texts from a server that speaks OpenAI's API: `vllm serve`, llama.cpp, a hosted one. Messages go to
/chat/completions, strings to /completions.

Its address is in the environment, in OPENAI_BASE_URL, its key, if it wants one, in OPENAI_API_KEY (`engine.env_prefix`
in place of OPENAI, so that roles may have servers of their own). Neither a key nor a password or a query in the address
is ever shown or stored: not in messages, not in records of the HTTP client, not in a text that repeats it. A key is
sent instead of a password, since both have the same header. A busy, broken or silent server is asked again
(`Server.attempts`; `Server.timeout_s` is for a whole try, however slowly the answer drips); a refusal is final, but for
a field that the server does not take, which is left out from then on.

Each completion is a call of its own, with the seed of `(seed, request id)` plus n, as vLLM numbers the seeds of one
call: every server can do that, and each tells how many tokens it wrote; a server with a cache of prefixes reads the
prompt once. What a seed is worth is up to the server: vLLM draws the same random numbers for it, while floating-point
sums depend on what else it is asked; others promise less, or nothing. Dtype and context are the server's own, too: a
prompt that leaves less room than `max_tokens` gets what room there is, and one that does not fit, or that a hosted
filter refuses, no text.
"""

from __future__ import annotations

import logging
import os
import re
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl

from anyio import fail_after
from anyio.from_thread import start_blocking_portal
from openai import APIConnectionError, APIError, APIStatusError, APITimeoutError, AsyncOpenAI
from tenacity import (
    AsyncRetrying,
    RetryCallState,
    retry_if_exception,
    stop_after_attempt,
    wait_combine,
    wait_exponential_jitter,
)

from stages.config.engines import EngineParams
from stages.config.machine import Hardware
from stages.console.errors import EngineError
from stages.console.terminal import stderr
from stages.engines.backends.server import (
    LOGGERS,
    BadAnswer,
    Secrets,
    public_url,
    read_answer,
    served_model,
    server_address,
    special_tokens,
)
from stages.engines.base import BaseEngine
from stages.engines.request import Completion, Request, Sampling, request_seed
from stages.text.escape import for_terminal
from stages.text.special_tokens import break_chat_markers, break_special_tokens

FIRST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_RETRY_AFTER_S = 1.0, 30.0, 60.0
"""Pauses between tries double from the first to the longest, and are longer where the server says so."""
LIKELY = 20
"""Tokens in one place whose probabilities a server tells, at most."""
OPTIONAL = ("seed", "top_p", "stop", "top_logprobs", "logprobs", "max_tokens")
"""Fields that a server may refuse, each once. Instead of max_tokens, messages get max_completion_tokens; what
is written behind a stop string is cut here; probabilities that are not told are an error."""
NO_TEXT = re.compile(r"context|too long|longer than|too many tokens|content.?(?:filter|policy)", re.IGNORECASE)
"""A refusal that is the prompt's fate and would come again: it does not fit, or a hosted filter will not have it."""
READ, SHOWN = 100_000, 300
"""Letters of a server's words that are looked through for secrets, and that are shown."""


class OpenAIEngine(BaseEngine):
    """A client of one server. `prompt_tokens` and `generated_tokens` are what the server counted."""

    def __init__(self, engine: EngineParams, hardware: Hardware, model_dir: Path, *, model: str, seed: int) -> None:
        self.name, self.seed = model, seed
        self.section, self.server = hardware.server_of(engine)
        self.url_variable, self.key_variable = f"{engine.env_prefix}_BASE_URL", f"{engine.env_prefix}_API_KEY"
        self.address = server_address(self.url_variable)
        self.url, self.special = public_url(self.address), special_tokens(model_dir)
        self.served = served_model(model_dir, model)["model"]
        self.key = os.environ.get(self.key_variable, "").strip()
        if not (self.key.isascii() and self.key.isprintable()):
            raise EngineError(
                f"{self.key_variable} holds a letter that is not ASCII, or a line break: no server can be sent it. "
                f"Copy it again and export it"
            )
        self.secrets = Secrets(self.key, self.address)
        self.refused: set[str] = set()  # fields that the server does not take; written in the portal's thread
        self.refusal = ""

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for name in LOGGERS:
                logging.getLogger(name).addFilter(self.secrets)
                stack.callback(logging.getLogger(name).removeFilter, self.secrets)
            # in a thread of its own: what Ctrl-C raises inside a callback of an event loop would be lost
            self.portal = stack.enter_context(start_blocking_portal())
            stack.callback(self.portal.call, self.portal.stop, True)
            by_password = self.secrets.login and not self.key
            self.client = AsyncOpenAI(
                base_url=self.url,
                default_query=dict(parse_qsl(self.address.query)),
                api_key=self.key or "none",
                default_headers={"Authorization": f"Basic {self.secrets.login}"} if by_password else None,
                timeout=self.server.timeout_s,
                max_retries=0,
            )
            stack.callback(self.portal.call, self.client.close)
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self.stack.close()

    def batches(self, requests: Sequence[Request], sampling: Sampling) -> Iterator[list[Completion]]:
        """What has finished since the last time, with `Server.at_once` calls on their way. Raises EngineError when the
        server refuses a request or stays away: then no more are sent, and those on their way, which are paid for, are
        waited for, and the requests that they complete are given first."""
        if sampling.score_logprobs and any(isinstance(r.prompt, str) for r in requests):
            raise EngineError("a server's probabilities are read of messages alone. Set the stage's `chat` to true")
        # greedy completions are one text, which is paid for once
        numbers = sampling.numbers if sampling.temperature else sampling.numbers[:1]
        left = deque((request, n) for request in requests for n in numbers)
        under_way, partly = dict[Future[Completion], str](), defaultdict[str, list[Completion]](list)
        failed: BaseException | None = None
        try:
            while True:
                while left and not failed and len(under_way) < self.server.at_once:
                    request, n = left.popleft()
                    under_way[self.portal.start_task_soon(self._ask, request, n, sampling)] = request.id
                if not under_way:
                    break
                finished: list[Completion] = []
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    i = under_way.pop(future)
                    if error := future.exception():
                        failed = failed or error
                        continue
                    partly[i].append(future.result())
                    if len(partly[i]) == len(numbers):
                        whole = sorted(partly.pop(i), key=lambda c: c.n)
                        finished += (
                            whole if sampling.temperature else [whole[0]._replace(n=n) for n in sampling.numbers]
                        )
                if finished:
                    yield finished
        finally:
            for future in under_way:
                future.cancel()
        if failed:
            raise failed

    def why_no_text(self) -> str:
        return (
            f"{self.url} refuses with {self.refusal}. If they are too long, start the server with a greater context "
            f"(vLLM: --max-model-len, llama.cpp: --ctx-size), or shorten the prompts"
        )

    def cost(self) -> str:
        """US dollars for what the server counted; nothing where a price is not known."""
        of_prompts, of_texts = self.server.usd_per_million_prompt_tokens, self.server.usd_per_million_completion_tokens
        if of_prompts is None or of_texts is None:
            return ""
        return f"${(self.prompt_tokens * of_prompts + self.generated_tokens * of_texts) / 1e6:,.2f}"

    async def _ask(self, request: Request, n: int, sampling: Sampling) -> Completion:
        """One completion; no text for a prompt that is refused for what it is."""
        room_left = False
        while True:
            body = self._body(request, n, sampling, room_left)
            try:
                return await self._tried(body, request, n, sampling)
            except (APIError, BadAnswer, TimeoutError) as e:
                error = e
            final = isinstance(error, APIStatusError) and error.status_code in (400, 413, 422)
            no_text = final and bool(NO_TEXT.search(_reason(error)))
            if final and not no_text and self._leaves_out(error, body):
                continue
            if no_text and not room_left:  # without max_tokens a server gives what room there is
                room_left = True
            elif final and (no_text or room_left):
                self.refusal = self._readable(f"{getattr(error, 'status_code', '')}: {_words(error)}")
                return Completion(request.id, n, "", "length", 0)
            else:
                raise self._explained(error, request)

    def _body(self, request: Request, n: int, sampling: Sampling, room_left: bool) -> dict[str, Any]:
        body: dict[str, Any] = {
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": None if room_left else sampling.max_tokens,
            "seed": request_seed(self.seed, request.id) + n,
        }
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if isinstance(request.prompt, str):
            body["prompt"] = break_special_tokens(request.prompt, self.special or ())
        else:
            contents = [break_chat_markers(message["content"], self.special) for message in request.prompt]
            body["messages"] = [{**m, "content": c} for m, c in zip(request.prompt, contents, strict=True)]
            body |= {"logprobs": True, "top_logprobs": LIKELY} if sampling.score_logprobs else {}
            if "max_tokens" in self.refused:
                body["max_completion_tokens"] = body["max_tokens"]
        return {"model": self.served, **{k: v for k, v in body.items() if k not in self.refused}}

    def _leaves_out(self, error: Exception, body: dict[str, Any]) -> bool:
        """Whether a refusal names a field that was sent and can be left out: then it is, from now on."""
        reason = _reason(error)
        field = next((f for f in OPTIONAL if body.get(f) is not None and re.search(rf"\b{f}\b", reason)), None)
        if field and field not in self.refused:
            self.refused.add(field)
            stderr.print(f"{self.url} refuses {field}, which is left out from now on: {self._readable(reason)}")
        return bool(field)

    async def _tried(self, body: dict[str, Any], request: Request, n: int, sampling: Sampling) -> Completion:
        """One call, tried as often as it may be."""
        pauses = wait_exponential_jitter(initial=FIRST_PAUSE_S, max=LONGEST_PAUSE_S, jitter=FIRST_PAUSE_S)
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self.server.attempts),
            wait=wait_combine(pauses, _retry_after),
            retry=retry_if_exception(_is_retryable),
            reraise=True,
        )
        return await retrying(self._try, body, request, n, sampling)

    async def _try(self, body: dict[str, Any], request: Request, n: int, sampling: Sampling) -> Completion:
        endpoint: Any = self.client.chat.completions if "messages" in body else self.client.completions
        with fail_after(self.server.timeout_s):  # the client's own limit is for each read
            raw = await endpoint.with_raw_response.create(**body)
        prompt_tokens, completion = read_answer(raw.content, request.id, n, sampling)
        self.prompt_tokens += prompt_tokens or 0
        self.generated_tokens += completion.tokens or 0
        return completion._replace(text=self.secrets.hide_in_text(completion.text))

    def _explained(self, e: Exception, request: Request) -> EngineError:
        """In words for a person: what was seen, where, what to do."""
        status = e.status_code if isinstance(e, APIStatusError) else 0
        said = f"{status}: {self._readable(_words(e))}" if status else self._readable(str(e.__cause__ or e))
        if isinstance(e, BadAnswer):
            what, hint = f"gave an answer that cannot be read ({said})", "Does it speak OpenAI's API?"
        elif isinstance(e, (APITimeoutError, TimeoutError)):
            what = f"gave no whole answer in {self.server.timeout_s:g} s"
            hint = f"Else raise {self.section}.timeout_s, or lower at_once there"
        elif not status:
            what, hint = f"cannot be reached ({said})", f"Does it run? Is {self.url_variable} its address?"
        elif _is_retryable(e):
            what, hint = f"answered {said}", f"Else raise {self.section}.attempts, or lower at_once there"
        else:
            key = f". Type: export {self.key_variable}=, with a key that may ask for this model"
            if self.key and self.secrets.login:
                key = f". It was sent {self.key_variable}, not the password. Type: unset {self.key_variable}"
            model = f". Does it serve a model {self.served!r}? Does {self.url_variable} end in /v1?"
            hints = {401: key, 403: key, 404: model}
            return EngineError(f"{self.url}, asked for {request.id!r}, refuses with {said}{hints.get(status, '')}")
        return EngineError(
            f"{self.url}, asked for {request.id!r}, {what}, {self.server.attempts} times. What came before is cached: "
            f"when the server is well, the same command goes on. {hint}"
        )

    def _readable(self, text: str) -> str:
        """A server's words, without the secrets that it may repeat."""
        return for_terminal(self.secrets.hide(text[:READ])[:SHOWN]).rstrip(".")


def _words(e: Exception) -> str:
    """What the server says, wherever it says it."""
    body: Any = getattr(e, "body", None)
    return str(body.get("message") or body.get("detail") or body) if isinstance(body, dict) else str(body or "nothing")


def _reason(e: Exception) -> str:
    """The names that the API has for a refusal, and its first words, which may quote the prompt further on."""
    names = [str(name) for name in (getattr(e, field, None) for field in ("code", "type", "param")) if name]
    return " ".join([*names, _words(e)[:SHOWN]])


def _is_retryable(e: BaseException) -> bool:
    """Whether another try may go better. 409: something else was at work on it."""
    if isinstance(e, APIStatusError):
        no_money = "insufficient_quota" in (e.code, e.type)
        return (e.status_code in (408, 409, 429) or e.status_code >= 500) and not no_money
    return isinstance(e, (APIConnectionError, BadAnswer, TimeoutError))


def _retry_after(state: RetryCallState) -> float:
    """Seconds that the server asks to wait, within bounds; 0 when it asks nothing."""
    error = state.outcome.exception() if state.outcome else None
    asked = error.response.headers.get("retry-after", "") if isinstance(error, APIStatusError) else ""
    return min(float(asked), LONGEST_RETRY_AFTER_S) if re.fullmatch(r"[0-9]{1,9}(\.[0-9]{1,9})?", asked) else 0.0
