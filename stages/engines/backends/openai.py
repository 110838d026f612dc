"""Texts from a server that speaks OpenAI's API: `vllm serve`, llama.cpp, a hosted one. Messages go to
/chat/completions, strings to /completions.

Its address is in the environment, in OPENAI_BASE_URL, its key, if it wants one, in OPENAI_API_KEY (`engine.env_prefix`
in place of OPENAI, so that roles may have servers of their own). Neither a key nor a password or a query in the address
is ever shown or stored, not even where an answer repeats it. A busy, broken or silent server is asked again
(`Server.attempts`; `Server.timeout_s` is for a whole try, however slowly the answer drips), by fewer at a time
(`concurrency.py`). Fields that it refuses are left out (`refusal.py`).

Each completion is a call of its own, with the seed of `(seed, request id)` plus n, as vLLM numbers the seeds of one
call: every server can do that, and each tells how many tokens it wrote; a server with a cache of prefixes reads the
prompt once. What a seed is worth is up to the server: vLLM draws the same random numbers for it, while floating-point
sums depend on what else it is asked; others promise less, or nothing. Dtype and context are the server's own, too.
"""

from __future__ import annotations

import logging
import os
import re
import time
from collections import defaultdict, deque
from collections.abc import Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl

from anyio import CapacityLimiter, fail_after, sleep
from anyio.from_thread import start_blocking_portal
from openai import APIConnectionError, APIError, APIStatusError, APITimeoutError, AsyncOpenAI
from tenacity import AsyncRetrying, RetryCallState, retry_if_exception, stop_after_attempt, wait_exponential_jitter

from stages.config.engines import EngineParams
from stages.config.machine import Hardware
from stages.console.errors import EngineError
from stages.console.terminal import stderr
from stages.engines.backends.concurrency import Concurrency
from stages.engines.backends.refusal import MEANS, READ, changed, refused_fields, told, words
from stages.engines.backends.server import (
    BadAnswer,
    Secrets,
    markup,
    public_url,
    read_answer,
    served_model,
    server_address,
)
from stages.engines.base import BaseEngine, Batches
from stages.engines.request import Completion, Request, Sampling, request_seed
from stages.text.escape import for_terminal
from stages.text.special_tokens import break_chat_markers, break_special_tokens
from stages.text.thoughts import without_end

FIRST_PAUSE_S, LONGEST_PAUSE_S, LONGEST_RETRY_AFTER_S = 1.0, 30.0, 60.0
"""Pauses between tries double from the first to the longest, and are longer where the server says so."""
LIKELY = 20
"""Tokens in one place whose probabilities a server tells, at most."""
REFUSALS = (400, 413, 422)
LIMITS = ("max_tokens", "max_completion_tokens")
MANY_PROMPTS = 8
"""If each of so many prompts gets equal texts, the server is not sampling."""
SHOWN = 300
"""Letters of a server's words that are shown."""


class OpenAIEngine(BaseEngine):
    """A client of one server. `prompt_tokens` and `generated_tokens` are what the server counted."""

    def __init__(self, engine: EngineParams, hardware: Hardware, model_dir: Path, *, model: str, seed: int) -> None:
        self.name, self.seed = model, seed
        self.section, self.server = hardware.server_of(engine)
        self.url_variable, self.key_variable = f"{engine.env_prefix}_BASE_URL", f"{engine.env_prefix}_API_KEY"
        self.address = server_address(self.url_variable)
        self.url = public_url(self.address)
        self.special, self.words = markup(model_dir)
        self.served = served_model(model_dir, model)["model"]
        self.key = os.environ.get(self.key_variable, "").strip()
        if not (self.key.isascii() and self.key.isprintable()):
            raise EngineError(
                f"{self.key_variable} holds a letter that is not ASCII, or a line break: no server can be sent it. "
                f"Copy it again and export it"
            )
        self.secrets = Secrets(self.key, self.address)
        self.concurrency = Concurrency(self.server.at_once)
        self.refused: list[str] = []  # fields that the server does not take; written in the portal's thread
        self.refusal = ""
        self.not_before = 0.0  # the server said when to come again
        self.failed = False

    def __enter__(self) -> Self:
        for name in ("openai", "httpx", "httpx2", "httpcore", "httpcore2"):  # their records hold addresses and headers
            logging.getLogger(name).setLevel(logging.WARNING)
        by_password = self.secrets.login and not self.key  # one header is for both
        with ExitStack() as stack:
            # in a thread of its own: what Ctrl-C raises inside a callback of an event loop would be lost
            self.portal = stack.enter_context(start_blocking_portal())
            stack.callback(self.portal.call, self.portal.stop, True)
            self.slots = self.portal.call(CapacityLimiter, self.concurrency.limit)
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

    def close(self) -> None:
        self.stack.close()

    def batches(self, requests: Sequence[Request], sampling: Sampling) -> Batches:
        """What has finished since the last time. Raises EngineError when the server refuses or stays away: then no more
        are sent, and those on their way, which are paid for, come first."""
        if sampling.score_logprobs and any(isinstance(r.prompt, str) for r in requests):
            raise EngineError("a server's probabilities are read of messages alone. Set the stage's `chat` to true")
        left = deque((request, n) for request in requests for n in sampling.numbers)
        under_way: set[Future[Completion | None]] = set()
        texts: defaultdict[str, set[str]] = defaultdict(set)
        failed: BaseException | None = None
        self.failed = False
        try:
            while under_way or (left and not failed):
                while left and not failed and len(under_way) < self.server.at_once:
                    under_way.add(self.portal.start_task_soon(self._ask, *left.popleft(), sampling))
                done, under_way = wait(under_way, return_when=FIRST_COMPLETED)
                failed = failed or next((error for future in done if (error := future.exception())), None)
                self.failed = bool(failed)
                if finished := [c for future in done if not future.exception() and (c := future.result())]:
                    for completion in finished:
                        texts[completion.id].add(completion.text)
                    yield finished
        finally:
            for future in under_way:
                future.cancel()
        if failed:
            raise failed
        sampled = sampling.n > 1 and sampling.temperature > 0
        if sampled and len(texts) >= MANY_PROMPTS and all(len(t) == 1 for t in texts.values()):
            stderr.print(
                f"{self.url} gave each of {len(texts)} prompts the same text {sampling.n} times, whatever the seed: "
                f"does it sample? (transformers serve does so only where the model's generation_config.json says "
                f"do_sample: true)"
            )

    def why_no_text(self) -> str:
        return (
            f"{self.url} refuses with {self.refusal}. If they are too long, start the server with a greater context "
            f"(vLLM: --max-model-len, llama.cpp: --ctx-size), or shorten the prompts"
        )

    def cost(self) -> str:
        """US dollars; nothing where a price is not known, and unknown where the server does not count tokens."""
        of_prompts, of_texts = self.server.usd_per_million_prompt_tokens, self.server.usd_per_million_completion_tokens
        if of_prompts is None or of_texts is None:
            return ""
        if self.uncounted:
            return f"cost unknown: {self.url} did not count the tokens of {self.uncounted:,} answers"
        return f"${(self.prompt_tokens * of_prompts + self.generated_tokens * of_texts) / 1e6:,.2f}"

    def details(self) -> str:
        at_once = self.concurrency
        refusals = f", {at_once.refusals:,} times busy or silent" if at_once.refusals else ""
        left_out = f"; left out, as the server refuses it: {', '.join(self.left_out)}" if self.left_out else ""
        return f"up to {at_once.peak} requests at a time, {at_once.limit} at the end{refusals}{left_out}"

    async def _ask(self, request: Request, n: int, sampling: Sampling) -> Completion | None:
        """One completion; None where another request failed for good before this one was sent.

        A field that a refusal names is left out, here, and of all requests once it is seen that this helps; else the
        request is asked again without its limit of tokens, for what room there is; a prompt that is refused then, too,
        as when it does not fit or a filter will not have it, gets no text."""
        body, limited, mine = self._body(request, n, sampling), True, list(self.refused)
        helped = len(mine)  # so many of them are known to be refused
        refusal: APIStatusError | None = None
        tried: set[tuple[str, str]] = set()
        reasons: dict[str, str] = {}
        while True:
            sent = changed(body, mine)
            if not limited:
                sent = {name: value for name, value in sent.items() if name not in LIMITS}
            try:
                completion = await self._tried(sent, request.id, n, sampling)
            except (APIError, BadAnswer, TimeoutError) as e:
                if not (isinstance(e, APIStatusError) and e.status_code in REFUSALS):
                    raise self._explained(e, request.id) from None
                helped = len(mine) if refusal and e.body != refusal.body else helped
                refusal, reason = e, self._readable(words(e))
            else:
                if completion:
                    self._leave_out(mine, reasons)
                return completion
            named = [field for field in refused_fields(refusal, sent) if (field, str(sent[field])) not in tried]
            if named:
                self._check_refusal(named[0], sent, reason)
                tried.add((named[0], str(sent[named[0]])))
                mine.append(named[0])
                reasons[named[0]] = reason
            elif limited:
                limited, mine = False, mine[:helped]
            else:
                self.refusal = reason
                return Completion(request.id, n, "", "length", 0)

    def _check_refusal(self, field: str, sent: Mapping[str, Any], reason: str) -> None:
        """Raises EngineError for a field without which the texts would be those of another experiment."""
        if field == "temperature" and sent[field] != 1:
            raise EngineError(
                f"{self.url} refuses temperature {sent[field]:g}: {reason}. Texts at another temperature are another "
                f"experiment. Set the stage's temperature to what the server takes, or ask another model"
            )
        if field.endswith("logprobs") and field not in changed(sent, [field]):
            raise EngineError(
                f"{self.url} refuses {field}: {reason}. Without them there is no expected score. Use "
                f"judge_candidates.score: sampled, or another server"
            )

    def _leave_out(self, fields: Sequence[str], reasons: Mapping[str, str]) -> None:
        """From now on, as a request without them was answered."""
        for field in fields:
            if fields.count(field) > self.refused.count(field):
                self.refused.append(field)
                what = f"refuses {field}, which is left out from now on"
                stderr.print(f"{self.url} {what} ({MEANS[field]}): {reasons[field]}")
        self.left_out = told(self.refused)

    def _body(self, request: Request, n: int, sampling: Sampling) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.served,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": request_seed(self.seed, request.id) + n,
        }
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if isinstance(request.prompt, str):
            return body | {"prompt": break_special_tokens(request.prompt, self.special or ())}
        if sampling.score_logprobs:
            body |= {"logprobs": True, "top_logprobs": LIKELY}
        contents = [break_chat_markers(message["content"], self.special) for message in request.prompt]
        return body | {"messages": [{**m, "content": c} for m, c in zip(request.prompt, contents, strict=True)]}

    async def _tried(self, body: dict[str, Any], request_id: str, n: int, sampling: Sampling) -> Completion | None:
        attempts = stop_after_attempt(self.server.attempts)
        return await AsyncRetrying(stop=attempts, wait=_pause, retry=retry_if_exception(_is_retryable), reraise=True)(
            self._try, body, request_id, n, sampling
        )

    async def _try(self, body: dict[str, Any], request_id: str, n: int, sampling: Sampling) -> Completion | None:
        endpoint: Any = self.client.chat.completions if "messages" in body else self.client.completions
        async with self.slots:
            while (pause := self.not_before - time.monotonic()) > 0:
                await sleep(pause)
            if self.failed:
                return None
            self.concurrency.sent(time.monotonic())
            try:
                with fail_after(self.server.timeout_s):  # the client's own limit is for each read
                    raw = await endpoint.with_raw_response.create(**body)
                prompt_tokens, completion = read_answer(raw.content, request_id, n, sampling, self.secrets)
            except BaseException as e:
                if _is_retryable(e):
                    self.concurrency.refused(time.monotonic())
                    self.not_before = max(self.not_before, time.monotonic() + _asked_pause(e))
                else:
                    self.concurrency.left()
                raise
            else:
                self.concurrency.answered(time.monotonic(), completion.tokens or len(completion.text))
            finally:
                self.slots.total_tokens = self.concurrency.limit
        self.prompt_tokens += prompt_tokens or 0
        self.generated_tokens += completion.tokens or 0
        self.uncounted += prompt_tokens is None or completion.tokens is None
        return completion._replace(text=without_end(completion.text, self.words))

    def _explained(self, e: Exception, request_id: str) -> EngineError:
        where, seen = f"{self.url}, asked for {request_id!r},", self._readable(words(e))
        status = getattr(e, "status_code", 0)
        if status and not _is_retryable(e):
            key = f". Type: export {self.key_variable}=, with a key that may ask for this model"
            model = f". Does it serve a model {self.served!r}? Does {self.url_variable} end in /v1?"
            return EngineError(f"{where} refuses with {seen}{ {401: key, 403: key, 404: model}.get(status, '') }")
        hint = f"Else raise {self.section}.attempts, or lower at_once there"
        if status:
            what = f"answered {seen}"
        elif isinstance(e, (APITimeoutError, TimeoutError)):
            what = f"gave no whole answer in {self.server.timeout_s:g} s"
            hint = f"Else raise {self.section}.timeout_s, or lower at_once there"
        elif isinstance(e, BadAnswer):
            what, hint = f"gave an answer that cannot be read ({seen})", "Does it speak OpenAI's API?"
        else:
            what, hint = f"cannot be reached ({seen})", f"Does it run? Is {self.url_variable} its address?"
        return EngineError(
            f"{where} {what}, {self.server.attempts} times. What came before is cached: when the server is well, the "
            f"same command goes on. {hint}"
        )

    def _readable(self, text: str) -> str:
        """A server's words, without the secrets that it may repeat."""
        return for_terminal(self.secrets.hide(text[:READ])[:SHOWN]).rstrip(".")


def _is_retryable(e: BaseException) -> bool:
    """Whether another try may go better. 409: something else was at work on it."""
    if isinstance(e, APIStatusError):
        return e.status_code in (408, 409, 429) or e.status_code >= 500
    return isinstance(e, (APIConnectionError, BadAnswer, TimeoutError))


def _asked_pause(e: BaseException) -> float:
    """Seconds until the server wants to be asked again."""
    asked = e.response.headers.get("retry-after", "") if isinstance(e, APIStatusError) else ""
    seconds = float(asked) if re.fullmatch(r"\d{1,9}(\.\d{1,9})?", asked, re.ASCII) else 0.0
    return min(seconds, LONGEST_RETRY_AFTER_S)


def _pause(state: RetryCallState) -> float:
    """Seconds before the next try of a request."""
    return wait_exponential_jitter(initial=FIRST_PAUSE_S, max=LONGEST_PAUSE_S, jitter=FIRST_PAUSE_S)(state)
