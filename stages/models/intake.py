"""What a model must bring, looked at before it costs anything, and put right where that can be done.

After it a folder has one form: a tokenizer with a chat template and a pad token; a template whose generation prompt is
followed by the answer itself, no thought before it, and the same on every day; an end token that ends a turn; a
generation config that can be saved again. What cannot be put right is refused, in a sentence.
"""

from __future__ import annotations

import json
import re
import shutil
import string
from collections.abc import Callable
from contextlib import suppress
from datetime import date
from pathlib import Path
from typing import Any, NamedTuple

from stages.console.bounded import BoundedError, bounded
from stages.console.errors import ModelError
from stages.models.endings import (
    check_ids,
    end_answers,
    ends_of,
    generation_config,
    match_as_written,
    mend_config_ids,
)
from stages.models.model_files import change_config, json_object, read, settle
from stages.text.chat import ANSWER, QUESTION, Chat, ChatError, Turn, read_turn, texts
from stages.text.thoughts import THOUGHTS

CHAT_TEMPLATE = Path(__file__).parents[1] / "templates" / "chat.jinja"
THINKING = {"enable_thinking": "false", "thinking": "false", "reasoning": "false", "thinking_budget": "0"}
"""What templates of models that can reason first ask whether they are to, and how they are told that they are not."""
ALONE = "Fix it, or delete it to get a plain one"
BEHIND = "{# Answers are trained behind the generation prompt #}\n"
PARTS = (
    "{% set given = namespace(messages=[]) %}{% for m in messages %}{% set given.messages = given.messages + [dict(m, "
    "content=[{'type': 'text', 'text': m.content}] if m.content is string and ROLES else m.content)] %}{% endfor %}"
    "{% set messages = given.messages %}\n"
)
"""Gives a template that was written for images the texts as it wants them. A line end behind a block is not written,
and white space before the next block neither."""


class Intake(NamedTuple):
    """What was found in a model folder that can be used."""

    architecture: str
    context: int | None
    template: str
    """Whose chat template it is."""
    turn: Turn
    stops: dict[str, int]
    """Tokens that end a text, with their ids."""
    control: tuple[str, ...]
    """What is broken up in texts."""
    mended: list[str]
    """What was put right, a sentence each."""


def complete(folder: Path, day: date, *, trained: bool = False) -> Intake:
    """Bring a model folder into the form; `day` is what a template with a clock reads, `trained` whether the method is
    to train it. Raises ModelError naming the folder and the file that cannot be used."""
    from transformers import AutoConfig, AutoTokenizer

    name = folder.name.removesuffix(".partial")
    settle(folder, name)
    config = read(AutoConfig, folder, f"{name}: config.json")
    tokenizer = read(AutoTokenizer, folder, f"{name}: the tokenizer")
    text_config, mended = config.get_text_config(), list[str]()
    if trained and (quantized := getattr(config, "quantization_config", None)):
        how = quantized.get("quant_method") if isinstance(quantized, dict) else type(quantized).__name__
        raise ModelError(
            f"{name}: its weights are quantized ({how}), and every weight is trained. Use the checkpoint that it was "
            f"made from; a quantized model can write or judge"
        )
    if tokenizer.eos_token is None:
        raise ModelError(f"{name}: the tokenizer has no end-of-text token; set eos_token in tokenizer_config.json")
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token  # safe: labels and attention are masked by position
        mended.append(f"it has no pad token: {tokenizer.pad_token} pads")
    whose = _find_template(folder, tokenizer, name)
    turn = _mend_template(tokenizer, name, day, mended)
    match_as_written(tokenizer, mended)
    check_ids(tokenizer, turn, text_config.vocab_size, name)
    generation = generation_config(folder, text_config, name, mended)
    end_answers(tokenizer, turn, generation, mended)
    mend_config_ids(folder, text_config, tokenizer, mended)
    if getattr(text_config, "output_router_logits", False):
        change_config(folder, {"output_router_logits": False})
        mended.append("config.json asks for output_router_logits, which fails where texts are padded: switched off")
    generation.save_pretrained(folder)
    (folder / "chat_template.jinja").unlink(missing_ok=True)
    shutil.rmtree(folder / "additional_chat_templates", ignore_errors=True)
    tokenizer.save_pretrained(folder)
    ids = {tokenizer.eos_token_id, *ends_of(generation)}
    names = config.architectures if isinstance(config.architectures, list) else []
    return Intake(
        architecture=(names or [type(config).__name__])[0],
        context=getattr(text_config, "max_position_embeddings", None),
        template=whose,
        turn=turn,
        stops={tokenizer.convert_ids_to_tokens(i): i for i in sorted(ids)},
        control=Chat(tokenizer).control,
        mended=mended,
    )


def _find_template(folder: Path, tokenizer: Any, name: str) -> str:
    """Give the tokenizer its one template; returns whose it is."""
    file = folder / "chat_template.json"  # where processors kept it
    if tokenizer.chat_template is None and file.is_file():
        tokenizer.chat_template = json_object(file).get("chat_template")
        if not tokenizer.chat_template:
            raise ModelError(f"{name}: chat_template.json holds no chat_template. Copy it again, or delete it")
    template = tokenizer.chat_template
    if isinstance(template, list):  # as old tokenizer_config.json and processors spell named ones
        template = {one["name"]: one["template"] for one in template}
    if isinstance(template, dict):
        chosen = next((one for one in ("default", "chat", *template) if one in template), None)
        if chosen is None or (chosen not in ("default", "chat") and len(template) > 1):
            raise ModelError(
                f"{name}: the tokenizer has chat templates named {', '.join(map(repr, template)) or 'nothing'}, and "
                f"none of them 'default'. Save the one that is meant as chat_template.jinja"
            )
        template = tokenizer.chat_template = template[chosen]
        whose = f"the model's, named {chosen!r}"
    else:
        whose = f"the model's, in {file.name}" if file.is_file() else "the model's"
    if template is None:
        tokenizer.chat_template = CHAT_TEMPLATE.read_text(encoding="utf-8")
        return "ours: the model has none"
    if not isinstance(template, str):
        raise ModelError(f"{name}: the chat template is {template!r:.40}, expected a text. {ALONE}")
    return whose


def _mend_template(tokenizer: Any, name: str, day: date, mended: list[str]) -> Turn:
    """Write the tokenizer a template that gives one text on every day, whose generation prompt is where an answer
    begins. Raises ModelError when it cannot be used."""

    def rendered() -> tuple[str, str, str]:
        return bounded(lambda: texts(tokenizer))

    def turn() -> Turn:
        return read_turn(*rendered(), [t.content for t in tokenizer.added_tokens_decoder.values()])

    template: str = tokenizer.chat_template.removesuffix("\n")  # what Jinja leaves out at the end of a template
    head = ""
    try:
        if "strftime_now" in template and "macro strftime_now" not in template:
            head += _clock(day)
            mended.append(f"its chat template reads the clock: every day is {day.isoformat()} (template_date)")
        for token in ("bos_token", "eos_token"):
            nothing = f"{{% set {token} = '' %}}\n"
            if re.search(rf"\b{token}\b", template) and getattr(tokenizer, token) is None and nothing not in template:
                head += nothing
                mended.append(f"its chat template writes {token}, which the tokenizer has not: nothing is written")
        tokenizer.chat_template = head + template if head else tokenizer.chat_template
        head += _in_parts(tokenizer, template, head, turn, mended)
        head += _no_thinking(tokenizer, template, head, rendered, mended)
        found = turn()
        if found.differs and BEHIND not in template:
            head += BEHIND
            tokenizer.chat_template = head + template
            mended.append(
                f"its generation prompt ({found.prompt[-40:]!r}) is another beginning than its template writes before "
                f"an answer that is there: answers are trained behind the generation prompt"
            )
        if found.missing:
            mended.append(
                f"its generation prompt ends before an answer begins; added: {found.missing!r}"
                + (", which closes the thought" if any(closes in found.missing for _, closes in THOUGHTS) else "")
            )
            end = json.dumps(found.missing, ensure_ascii=False)
            tokenizer.chat_template = f'{head}{template}{{{{ {end} if add_generation_prompt else "" }}}}'
            found = turn()._replace(missing="")
    except (BoundedError, ChatError) as e:
        raise ModelError(f"{name}: the chat template cannot be used ({e}). {ALONE}") from None
    return found


def _in_parts(tokenizer: Any, template: str, head: str, turn: Callable[[], Turn], mended: list[str]) -> str:
    """What gives texts as content in parts to a template that knows those alone; `''` where it knows texts."""
    before = tokenizer.chat_template
    if not re.search(r"\btext\b", template):
        return ""
    with suppress(BoundedError, ChatError):
        turn()
        return ""
    for roles in ("true", "m.role != 'assistant'", "m.role == 'assistant'"):
        parts = PARTS.replace("ROLES", roles)
        tokenizer.chat_template = head + parts + template
        with suppress(BoundedError, ChatError):
            if "'type': 'text'" not in turn().exchange:
                mended.append('its chat template wants contents in parts: a text is given as [{"type": "text", ...}]')
                return parts
    tokenizer.chat_template = before
    return ""


def _clock(day: date) -> str:
    """A macro in the place of the function that transformers gives templates."""
    directives = [*(f"%-{letter}" for letter in "dmyjHIMSU"), *(f"%{letter}" for letter in string.ascii_letters)]
    values = {d: day.strftime(d) for d in directives if d != "%s"}  # seconds depend on the machine's zone
    writes = "".join(f" | replace({d!r}, {value!r})" for d, value in values.items() if value != d)
    return f"{{% macro strftime_now(format) %}}{{{{ format{writes} }}}}{{% endmacro %}}\n"


def _no_thinking(
    tokenizer: Any, template: str, head: str, rendered: Callable[[], tuple[str, ...]], mended: list[str]
) -> str:
    """What switches a model's thoughts off, where its template can and would not; `''` where there is nothing to
    switch."""
    before, text = tokenizer.chat_template, rendered()
    for flag, off in THINKING.items():
        if re.search(rf"\b{flag}\b", template):
            switch = f"{{% set {flag} = {off} %}}\n"
            tokenizer.chat_template = head + switch + template
            if rendered() != text:
                mended.append(f"it reasons before it answers: {flag} is off")
                return switch
    tokenizer.chat_template = before
    return ""


def describe(found: Intake) -> str:
    """The exchange of QUESTION and ANSWER with its control tokens marked."""
    tokens = sorted({*found.control, *found.stops}, key=len, reverse=True)
    text = found.turn.exchange
    marked = re.sub("|".join(map(re.escape, tokens)), lambda m: f"⟦{m[0]}⟧", text) if tokens else text
    return marked.replace(QUESTION, "{question}").replace(ANSWER, "{answer}")
