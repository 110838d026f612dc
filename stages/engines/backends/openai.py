"""Texts from a server that speaks OpenAI's API: `vllm serve`, llama.cpp, a hosted one. Messages go to
/chat/completions, strings to /completions.

Its address is in the environment, in OPENAI_BASE_URL, its key, if it wants one, in OPENAI_API_KEY (`engine.env_prefix`
in place of OPENAI, so that roles may have servers of their own); neither a key nor a password or a query in the address
is ever shown or kept, in messages and in log records of the HTTP client. A key is sent instead of a password, since
both have the same header. A busy, broken or silent server is asked again (`Server.attempts`; `Server.timeout_s` is for
a whole try, however slowly the answer drips), a refusal is final, but for two that say what may be asked instead.

Guarantee: completion n of a request is asked for with the seed of `(seed, request id)` plus n, since vLLM gives number
i of one call its seed plus i. What a seed is worth is up to the server: vLLM draws the same random numbers for it,
while floating-point sums depend on what else it is asked; others promise less, or nothing. Dtype and context are the
server's own, too: a prompt that it has no room for gets no text, nor does one that a hosted filter refuses; one that
leaves less room than `max_tokens` gets what room there is, as from engines here, where the server clamps by itself or
its refusal tells how much. No text is a fate of single prompts: where all that a call has would be no text at all, it
fails. A server that takes no `n`, or does not listen to it, is asked for each completion by itself. What a resumed call
asks for is asked in other company. Models that reason first and take no temperature or `max_tokens` are refused by
their servers, and we say so.
"""

from __future__ import annotations

import logging
import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self
from urllib.parse import parse_qsl

from anyio import fail_after
from anyio.from_thread import start_blocking_portal
from openai import APIError, APIStatusError, APITimeoutError, AsyncOpenAI
from tenacity import AsyncRetrying, retry_if_exception, stop_after_attempt, wait_combine, wait_exponential_jitter

from stages.config.engines import EngineParams
from stages.config.machine import Hardware
from stages.console.errors import EngineError
from stages.engines.backends.refusals import is_retryable, no_text, refuses_n, retry_after, told_context, words
from stages.engines.backends.server import (
    LOGGERS,
    Answer,
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

FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 30.0
"""Pauses between tries double from the first to the longest, and are longer where the server says so
(`retry_after`)."""
LIKELY = 20
"""Tokens in one place whose probabilities a server tells, at most."""
READ = 100_000
"""Letters of a server's words that are looked through for secrets; far fewer are shown."""

Call = tuple[Request, Sampling]


class Calls:
    """What is `left` to ask a server for, and what came of requests that are not whole yet."""

    def __init__(self, requests: Sequence[Request], sampling: Sampling) -> None:
        self.sampling = sampling
        self.each = (
            sampling if sampling.temperature else sampling._replace(n=1)
        )  # greedy: one text, which some will not write twice, or ask money for
        self.left: deque[Call] = deque((request, self.each) for request in requests)
        self.came: dict[str, list[Completion]] = {}

    def next(self, takes_n: bool) -> Call:
        request, sampling = self.left.popleft()
        if not takes_n:
            self._put_back(request, sampling.numbers[1:])
        return request, sampling if takes_n else sampling._replace(n=1)

    def answered(self, call: Call, said: list[Completion]) -> list[Completion]:
        """All completions of the request, ordered by n, when it is whole. What a server left out, since it does not
        listen to n, is asked for next."""
        request, sampling = call
        self._put_back(request, sampling.numbers[len(said) :])
        came = sorted(self.came.pop(request.id, []) + said, key=lambda c: c.n)
        if len(came) < self.each.n:
            self.came[request.id] = came
            return []
        return came if self.sampling.temperature else [came[0]._replace(n=n) for n in self.sampling.numbers]

    def _put_back(self, request: Request, numbers: range) -> None:
        self.left.extendleft((request, self.each._replace(first=n, n=1)) for n in reversed(numbers))


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
        self.refusal, self.takes_n = (
            "",
            True,
        )  # n: until the server refuses it; set in the portal's thread, and only ever to false

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            for name in LOGGERS:
                logging.getLogger(name).addFilter(self.secrets)
                stack.callback(logging.getLogger(name).removeFilter, self.secrets)
            # in a thread of its own: what Ctrl-C raises inside a callback of an event loop would be lost
            self.portal = stack.enter_context(start_blocking_portal())
            stack.callback(self.portal.call, self.portal.stop, True)
            self.client = AsyncOpenAI(
                base_url=self.address._replace(
                    netloc=self.address.netloc.rpartition("@")[2], query="", fragment=""
                ).geturl(),
                default_query=dict(parse_qsl(self.address.query)),
                api_key=self.key or "none",
                default_headers={"Authorization": f"Basic {self.secrets.login}"}
                if self.secrets.login and not self.key
                else None,
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
        calls, under_way = Calls(requests, sampling), dict[Future[Answer], Call]()
        failed: BaseException | None = None
        try:
            while True:
                while calls.left and not failed and len(under_way) < self.server.at_once:
                    call = calls.next(self.takes_n)
                    under_way[self.portal.start_task_soon(self._ask, *call)] = call
                if not under_way:
                    break
                finished: list[Completion] = []
                for future in wait(under_way, return_when=FIRST_COMPLETED).done:
                    call = under_way.pop(future)
                    if error := future.exception():
                        failed = failed or error
                    else:
                        finished += calls.answered(call, future.result().completions)
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
        return (
            ""
            if of_prompts is None or of_texts is None
            else f"${(self.prompt_tokens * of_prompts + self.generated_tokens * of_texts) / 1e6:,.2f}"
        )

    async def _ask(self, request: Request, sampling: Sampling, fitted: bool = False) -> Answer:
        """One call; it may bring fewer completions than it should. A prompt that is refused for what it is gets no
        text. `fitted`: `max_tokens` is what room there is, so that no more can be done for a prompt that is too
        long."""
        try:
            return await self._tried(request, sampling)
        except (APIError, BadAnswer, TimeoutError) as e:
            error = e
        if sampling.n > 1 and refuses_n(error):
            answer = await self._ask(request, sampling._replace(n=1), fitted)
            self.takes_n = False
            return answer
        if not (isinstance(error, APIStatusError) and no_text(error)):
            raise self._explained(error, request, sampling)
        if not fitted and (room := await self._room(error, request, sampling)):
            return await self._ask(request, sampling._replace(max_tokens=room), fitted=True)
        self.refusal = f"{error.status_code}: {self._readable(words(error))}"
        return Answer(0, 0, [Completion(request.id, n, "", "length", 0) for n in sampling.numbers])

    async def _room(self, refusal: APIStatusError, request: Request, sampling: Sampling) -> int:
        """How many of `max_tokens` a prompt leaves room for, where its refusal tells; 0: none, or it does not tell."""
        limit, prompt = told_context(refusal)
        if (
            limit - prompt == sampling.max_tokens - 1 > 0
        ):  # versions of vLLM count only until it is one too many: a text of one token tells the whole
            prompt = (
                await self._ask(request, sampling._replace(n=1, max_tokens=1, score_logprobs=None), fitted=True)
            ).prompt_tokens
        return limit - prompt if 0 < limit - prompt < sampling.max_tokens else 0

    async def _tried(self, request: Request, sampling: Sampling) -> Answer:
        """One call, tried as often as it may be."""
        retrying = AsyncRetrying(
            stop=stop_after_attempt(self.server.attempts),
            wait=wait_combine(
                wait_exponential_jitter(initial=FIRST_PAUSE_S, max=LONGEST_PAUSE_S, jitter=FIRST_PAUSE_S), retry_after
            ),
            retry=retry_if_exception(lambda e: is_retryable(e) and not (sampling.n > 1 and refuses_n(e))),
            reraise=True,
        )
        return await retrying(self._try, request, sampling)

    async def _try(self, request: Request, sampling: Sampling) -> Answer:
        create: Any = self.client.completions.with_raw_response.create
        body: dict[str, Any] = {
            "model": self.served,
            "temperature": sampling.temperature,
            "top_p": sampling.top_p,
            "max_tokens": sampling.max_tokens,
            "seed": request_seed(self.seed, request.id) + sampling.first,
        }
        if sampling.n > 1:  # some servers do not want to hear of it
            body["n"] = sampling.n
        if sampling.stop:
            body["stop"] = list(sampling.stop)
        if isinstance(request.prompt, str):
            body |= {"prompt": break_special_tokens(request.prompt, self.special or ())} | (
                {"logprobs": LIKELY} if sampling.score_logprobs else {}
            )
        else:
            body["messages"] = [
                {**message, "content": break_chat_markers(message["content"], self.special)}
                for message in request.prompt
            ]
            body |= {"logprobs": True, "top_logprobs": LIKELY} if sampling.score_logprobs else {}
            create = self.client.chat.completions.with_raw_response.create
        with fail_after(self.server.timeout_s):  # the client's own limit is for each read
            raw = await create(**body)
        answer = read_answer(raw.content, request.id, sampling)
        self.prompt_tokens += answer.prompt_tokens
        self.generated_tokens += answer.generated_tokens
        return answer

    def _explained(self, e: APIError | BadAnswer | TimeoutError, request: Request, sampling: Sampling) -> EngineError:
        """In words for a person: what was seen, where, what to do."""
        where = f"{self.url}, asked for {request.id!r},"
        tries = (
            f"{self.server.attempts} times. What came before is kept: when the server is well, the same command goes on"
        )
        if isinstance(e, BadAnswer):
            return EngineError(f"{where} gave an answer that cannot be read, {tries}. {self._readable(str(e))}")
        if isinstance(e, (APITimeoutError, TimeoutError)):
            return EngineError(
                f"{where} gave no whole answer in {self.server.timeout_s:g} s, {tries}. Else raise "
                f"{self.section}.timeout_s, or lower at_once there"
            )
        if not isinstance(e, APIStatusError):
            why = self._readable(str(e.__cause__ or e))
            return EngineError(
                f"{where} cannot be reached ({why}), {tries}. Does it run? Is {self.url_variable} its address?"
            )
        said = f"{e.status_code}: {self._readable(words(e))}"
        if is_retryable(e):
            return EngineError(
                f"{where} answered {said}, {tries}. Else raise {self.section}.attempts, or lower at_once there"
            )
        if sampling.score_logprobs and "logprob" in said:
            hint = (
                ". judge_candidates.score: expected needs a server that tells logprobs: ask another, or set it to "
                "sampled"
            )
        elif e.status_code in (401, 403) and self.key and self.secrets.login:
            hint = (
                f". It was sent {self.key_variable}, not the password in {self.url_variable}. If that is what it "
                f"wants, type: unset {self.key_variable}"
            )
        elif e.status_code in (401, 403):
            hint = f". Type: export {self.key_variable}=, with a key that may ask for this model"
        elif e.status_code == 404:
            hint = f". Does it serve a model {self.served!r}? Does {self.url_variable} end as it should, mostly in /v1?"
        else:
            hint = ""
        return EngineError(f"{where} refuses with {said}{hint}")

    def _readable(self, text: str) -> str:
        """A server's words, without the secrets that it may repeat."""
        return for_terminal(self.secrets.hide(text[:READ])[:300]).rstrip(".")
