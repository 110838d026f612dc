"""One exchange as a model's chat template writes it: the same text, token for token, whether the model answers it or is
trained on it.

The prompt is what the template writes with its generation prompt. A training row is that prompt, the answer, and what
ends a turn: the template is not asked again, so it can neither strip a thought from the answer nor begin it otherwise.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any, NamedTuple

from stages.text.special_tokens import break_special_tokens
from stages.text.thoughts import THOUGHTS, between_marks, without_end

QUESTION, ANSWER = "<QUESTION>", "<ANSWER>"
PAD = "\x1f"
"""White space for whoever strips a text, and nothing that a template writes."""
PLACE = re.compile(f"({PAD}?)Text(\\d+)End({PAD}?)")
WORD = re.compile(r"\w*[^\W\dA-Z_]\w*:?")
"""An ordinary word, colon or none: `Answer:` is no marker that a text could not need, `ASSISTANT:` is."""


class ChatError(Exception):
    """A chat template cannot be used; the message says why."""


class Turn(NamedTuple):
    """What a chat template writes around QUESTION and ANSWER."""

    prompt: str
    """With its generation prompt."""
    missing: str
    """What the generation prompt lacks, so that an answer can follow: the beginning that the template writes before an
    answer that is there, an end to the thought that it opens. `''` when it lacks nothing, as after intake."""
    lead: str
    """White space between the prompt and the answer."""
    end: str
    """What ends the answer: white space and words, if any, and the token `stop`."""
    stop: str
    between: str
    """What stands between an answer and the next question."""
    differs: bool
    """Whether the template writes another beginning before an answer that is there. A model is trained on answers
    behind the prompt all the same."""

    @property
    def words(self) -> str:
        """What a model writes behind an answer, before it stops, and is no part of it; `''` for most."""
        return self.end.removesuffix(self.stop).strip()

    @property
    def exchange(self) -> str:
        return f"{self.prompt}{self.missing}{self.lead}{ANSWER}{self.end}"


def texts(tokenizer: Any) -> tuple[str, str, str]:
    """What the template makes of QUESTION alone, of QUESTION and ANSWER, and of these with another question behind. It
    is a program by others, and can raise anything, or never end."""
    asked = [{"role": "user", "content": QUESTION}]
    answered = [*asked, {"role": "assistant", "content": ANSWER}]
    prompt = tokenizer.apply_chat_template(asked, tokenize=False, add_generation_prompt=True)
    answer = tokenizer.apply_chat_template(answered, tokenize=False)
    try:
        followed = tokenizer.apply_chat_template([*answered, *asked], tokenize=False)
    except Exception:  # made for one exchange
        followed = answer
    return prompt, answer, followed


def read_turn(prompt: str, answered: str, followed: str, tokens: Sequence[str]) -> Turn:
    """Of the `texts` of a template; `tokens`: the tokenizer's added tokens. Where nothing ends an answer, what begins
    the next turn does (GLM). Raises ChatError when the question or the answer is left out, or no token ends it."""
    if QUESTION not in prompt or QUESTION not in answered:
        raise ChatError("it leaves out the question (role user)")
    before, answer, after = answered.rpartition(ANSWER)
    if not answer:
        raise ChatError("it leaves out the answer (role assistant)")
    begun = before[len(prompt) :] if before.startswith(prompt) else ""
    lead, missing = (begun, "") if not begun.strip() else ("", begun)
    _, _, beginning = (prompt + missing).rpartition(QUESTION)
    for opens, closes in THOUGHTS:
        if opens in beginning and closes not in beginning.rpartition(opens)[2]:
            head = prompt.rpartition(opens)[0].rstrip()  # history may begin an answer otherwise (Command A Reasoning)
            behind = before.startswith(head) and not before.startswith(prompt)
            missing += f"\n{closes}\n\n" + (before[len(head) :].lstrip() if behind else "")
    if not after.strip():
        after = followed.rpartition(ANSWER)[2]
    tail = after.partition(QUESTION)[0]
    ends = [(tail.find(token), -len(token), token) for token in tokens if token[:1].strip() and token in tail]
    at, _, stop = min(ends, default=(0, 0, ""))
    if not stop:
        raise ChatError(
            f"behind an answer it writes {after[:40]!r}, which holds no token of the tokenizer, so that a model "
            f"trained with it would never stop. Let it write {{{{ eos_token }}}} there"
        )
    same = before.rstrip()  # or a thought stands behind it, which history has not
    goes_on = prompt.startswith(same) and (
        not prompt[len(same) :].strip() or any(opens in beginning for opens, _ in THOUGHTS)
    )
    differs = not before.startswith(prompt) and not goes_on
    between = followed.rpartition(ANSWER)[2].partition(QUESTION)[0]
    return Turn(prompt, missing, lead, after[:at] + stop, stop, between, differs)


def markers(turn: Turn, tokens: Sequence[str]) -> list[str]:
    """What the template writes around a message: its tokens, and what stands between them and is no ordinary word."""
    around = f"{(turn.prompt + turn.missing).rpartition(QUESTION)[2]}\n{turn.between}\n{turn.end}"
    written = sorted({token for token in tokens if token in around}, key=lambda token: (-len(token), token))
    parts = re.split("|".join([*map(re.escape, written), "\n"]), around)
    plain = dict.fromkeys(part.strip() for part in parts)
    return written + [part for part in plain if len(part) > 2 and not WORD.fullmatch(part)]


class Chat:
    """A tokenizer with its chat template. Where it has none, only `control` can be asked."""

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.added = [token.content for token in tokenizer.added_tokens_decoder.values()]
        self._frames: dict[tuple[str, ...], str] = {}

    @cached_property
    def turn(self) -> Turn:
        """Raises ChatError, or what else the template raises."""
        return read_turn(*texts(self.tokenizer), [*self.added, self.tokenizer.eos_token or ""])

    @cached_property
    def words(self) -> str:
        """`Turn.words`; `''` where no template can be asked."""
        try:
            return self.turn.words if self.tokenizer.chat_template else ""
        except Exception:  # as below
            return ""

    @cached_property
    def control(self) -> tuple[str, ...]:
        """What no text may spell: each token that is flagged special, and what the template writes around a message."""
        flagged = [token.content for token in self.tokenizer.added_tokens_decoder.values() if token.special]
        try:
            around = markers(self.turn, self.added) if self.tokenizer.chat_template else []
        except Exception:  # a template is a program; whoever asks it for a prompt hears of it
            around = []
        return tuple(dict.fromkeys([*self.tokenizer.all_special_tokens, *flagged, *around]))

    def unmarked(self, text: str) -> str:
        """`text` in which nothing spells a control token, white space around it or none: a template may write that."""
        return break_special_tokens(text, [token.strip() for token in self.control])

    def prompt(self, messages: Sequence[Mapping[str, Any]]) -> str:
        """The text that a model continues with its answer to `messages` (role, content).

        A template that does not write the texts as they are is asked for the frame alone, once for each sequence of
        roles, and they are filled in: a text that holds `/think` or `</think>` switches nothing, and what is cut out of
        it cannot put together a control token. Where it strips texts, so do we.
        """
        contents = [self.unmarked(m["content"]) for m in messages]
        roles = tuple(m["role"] for m in messages)
        rendered, at = self._rendered(roles, contents), 0
        for content in map(str.strip, contents):
            at = rendered.find(content, at) + len(content) if content in rendered[at:] else -1
            if at < 0:
                break
        if at >= 0:
            return rendered
        if roles not in self._frames:
            self._frames[roles] = self._rendered(roles, [f"{PAD}Text{i}End{PAD}" for i in range(len(roles))])
        frame = self._frames[roles]
        if {int(place[1]) for place in PLACE.findall(frame)} != {*range(len(roles))}:
            return rendered  # it writes texts otherwise (as JSON, in capitals), or not at all

        def fill(place: re.Match[str]) -> str:
            content = contents[int(place[2])]
            content = content if place[1] else content.lstrip()
            return content if place[3] else content.rstrip()

        return PLACE.sub(fill, frame)

    def _rendered(self, roles: Sequence[str], contents: Sequence[str]) -> str:
        messages = [{"role": role, "content": content} for role, content in zip(roles, contents, strict=True)]
        text: str = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return text

    def encode(self, prompts: Sequence[str], answers: Sequence[str]) -> list[tuple[list[int], list[int]]]:
        """Token ids of each prompt (what a user wrote) as it is generated from, and of the answer with its end. An
        answer that begins with a thought has the thought's marks as the model writes them."""
        asked = [self.prompt([{"role": "user", "content": text}]) for text in prompts]
        plain = (without_end(between_marks(text, self.unmarked), self.turn.words) for text in answers)  # it writes them
        ends = [f"{self.turn.lead}{text}{self.turn.end}" for text in plain]
        heads = self._ids(asked)
        wholes = self._ids([head + end for head, end in zip(asked, ends, strict=True)])
        encoded = []
        for head, whole, end in zip(heads, wholes, ends, strict=True):
            fits = whole[: len(head)] == head
            # else a token would reach over the border; what a model continues ends there
            encoded.append((head, whole[len(head) :] if fits else self._ids([end])[0]))
        return encoded

    def _ids(self, batch: list[str]) -> list[list[int]]:
        ids: list[list[int]] = self.tokenizer(batch, add_special_tokens=False).input_ids if batch else []
        return ids
