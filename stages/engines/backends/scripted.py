"""Texts from a hash, without a model: the whole pipeline runs in seconds, and meets everything that it must cope with.

It knows no stage. A plain string is continued with a question; messages are answered with a few sentences, and when the
prompt speaks of a score or shows the mark [[A]], with a judgement: now and then without a score, with an impossible
one, or cut off. Some answers come twice; some prompts get dull answers, which every judge scores alike, so that ties
arise.

Guarantee: a text depends on the model's name, the prompt's text and `(seed, request id, n)` alone. A token is a word.
"""

from __future__ import annotations

import random
import re
from collections.abc import Sequence
from pathlib import Path

from stages.config.engines import EngineParams
from stages.config.machine import Hardware
from stages.console.errors import EngineError
from stages.engines.base import BaseEngine, Batches
from stages.engines.request import Completion, Request, Sampling, before_stop, completion_seed

DULL = "It depends, and"  # an answer that opens so gets the same score from every judge
LEVELS = (3, 3, 3, 3, 3, 3, 3, 3, 1, 2, 4, 5)  # as with people, one score is the commonest
ASKS_FOR_SCORE = re.compile(r"\b(?:score|rubric)", re.IGNORECASE)
NO_SCORE, CUT_OFF, IMPOSSIBLE = 0.08, 0.06, 0.06  # shares of the judgements; the rest end in a score from 0 to 5
ANSWERS_CUT_OFF, QUESTIONS_CUT_OFF, TWICE, DULL_PROMPTS, STEADY = 0.05, 0.03, 0.10, 0.15, 0.60

OPENINGS = ["How does", "Why might", "When should", "Which", "Where would"]
OPENINGS += ["Could", "What makes", "Explain whether", "Describe how", "Compare"]
WORDS = """
able acorn adapt amber anchor ancient apple arrow attic autumn badger bake balance bamboo barley basket beacon bicycle
birch blanket blossom borrow brave bridge bright bronze brook bucket button cabin calm camel candle canyon carpet
castle cedar cello cherry chimney cinnamon circle clever cliff clock clover cobalt comet compass copper coral cotton
cradle crane cricket crystal curious dairy dance dawn deer delta desert diamond distant dolphin donkey dragon drift
drum eagle early echo ember empty engine evening fabric falcon family farmer feather fennel ferry fiddle finch flavour
flint flute forest fossil fountain fragile frost garden garlic gather gentle ginger glacier glass golden granite
gravel guitar hammer harbour harvest hazel hidden hollow honey humble island ivory jasmine jacket jigsaw journey
juniper kettle kitchen ladder lagoon lantern lavender lemon letter lively lizard lunar magnet mango maple marble
market meadow mellow melody mirror modest monsoon mountain museum narrow needle nimble nutmeg oasis ocean olive orbit
orchard orchid otter oyster paddle palace parrot patient pebble pepper piano pigeon pillow planet pocket pollen pond
poppy potato pottery prairie pumpkin puzzle quartz quiet rabbit rapid raven recipe reef ribbon river robin rocket
rooftop rosemary rugged saddle saffron sailor salmon sandal scarlet season shadow shallow silent silver simple slender
smooth spider spiral spring squirrel stable steady stone storm stream sudden summer sunrise swallow tailor teapot
temple tender thimble thunder timber tomato torch travel tulip tunnel turtle twilight umbrella useful valley vanilla
velvet village violet walnut wander warm weaver whale whisper willow window winter wisdom woollen yellow zebra façade
naïve
""".split()  # noqa: SIM905 - reads better than 190 quoted words
PLAIN_WORDS = [w for w in WORDS if w.isascii()]


class ScriptedEngine(BaseEngine):
    """`model_dir` is not read."""

    def __init__(self, engine: EngineParams, hardware: Hardware, model_dir: Path, *, model: str, seed: int) -> None:
        self.name, self.seed, self.max_context, self.chunk = model, seed, engine.max_context, engine.max_batch_tokens

    def batches(self, requests: Sequence[Request], sampling: Sampling) -> Batches:
        if sampling.score_logprobs:
            raise EngineError(
                "the engine scripted has no probabilities. Use judge_candidates.score: sampled, or another engine"
            )
        at_once = max(1, self.chunk // (sampling.n * sampling.max_tokens))
        for start in range(0, len(requests), at_once):
            written = [
                self._complete(request, n, sampling)
                for request in requests[start : start + at_once]
                for n in sampling.numbers
            ]
            self.generated_tokens += sum(c.tokens or 0 for c in written)
            yield written

    def _complete(self, request: Request, n: int, sampling: Sampling) -> Completion:
        prompt = (
            request.prompt
            if isinstance(request.prompt, str)
            else "\n".join(f"{m['role']}: {m['content']}" for m in request.prompt)
        )
        room = min(sampling.max_tokens, self.max_context - len(prompt.split()))
        if room <= 0:
            return Completion(request.id, n, "", "length", 0)
        text, whole = self._write(request, prompt, n, sampling.temperature)
        if (cut := before_stop(text, sampling.stop)) is not None:
            text, whole = cut, True
        words = list(re.finditer(r"\S+", text))
        if len(words) > room:
            text, whole = text[: words[room - 1].end()], False
        return Completion(request.id, n, text, "stop" if whole else "length", min(len(words), room))

    def _write(self, request: Request, prompt: str, n: int, temperature: float) -> tuple[str, bool]:
        """The text before any limit, and whether it is whole."""
        of_prompt = self._random(prompt)
        if temperature == 0:
            rng = self._random(prompt, "greedy")
        else:
            while n > 0 and self._random(prompt, request.id, n, "twice").random() < TWICE:
                n -= 1  # says again what it said before
            rng = self._random(prompt, completion_seed(self.seed, request.id, n))
        if isinstance(request.prompt, str):
            return _question(rng), rng.random() >= QUESTIONS_CUT_OFF
        dull = of_prompt.random() < DULL_PROMPTS
        paragraph = _sentences(rng)
        scored, compared = ASKS_FOR_SCORE.search(prompt), "[[A]]" in prompt
        if not scored and not compared:
            return (
                f"{DULL} {paragraph[0].lower()}{paragraph[1:]}" if dull else paragraph
            ), rng.random() >= ANSWERS_CUT_OFF
        mark = f"\n[[{rng.choice('ABC')}]]" if compared else ""
        fate = rng.random()
        if fate < CUT_OFF:
            return paragraph, False
        if fate < CUT_OFF + NO_SCORE or not scored:
            return paragraph + mark, True
        if fate < CUT_OFF + NO_SCORE + IMPOSSIBLE:
            return f"{paragraph}{mark}\nScore: 9", True
        level = LEVELS[0] if DULL in prompt else of_prompt.choice(LEVELS)
        steady = DULL in prompt or of_prompt.random() < STEADY
        return (
            f"{paragraph}{mark}\nScore: {level if steady else min(5, max(0, level + rng.choice((-1, 0, 0, 1))))}",
            True,
        )

    def _random(self, *what: object) -> random.Random:
        return random.Random("\x1f".join(map(str, (self.seed, self.name, *what))))


def _question(rng: random.Random) -> str:
    opening = rng.choice(OPENINGS)
    return f"{opening} {' '.join(rng.sample(PLAIN_WORDS, rng.randint(4, 14) - len(opening.split())))}?"


def _sentences(rng: random.Random) -> str:
    return " ".join(" ".join(rng.sample(WORDS, rng.randint(4, 9))).capitalize() + "." for _ in range(rng.randint(1, 4)))
