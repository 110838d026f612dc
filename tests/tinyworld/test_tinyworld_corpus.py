from __future__ import annotations

import re
from random import Random

import pytest
from jinja2 import Template

from stages.tinyworld.corpus import END, HERE, MIX, documents, judge_template, review, sheet
from stages.tinyworld.tasks import in_test, parse

SPLIT = 7


@pytest.fixture(scope="module")
def corpus() -> list[str]:
    return documents(seed=1, n=4000, split_seed=SPLIT)


def test_no_test_prompt_stands_in_the_corpus(corpus):
    told = [
        prompt
        for text in corpus
        for prompt in re.findall(r"(?:Question:|\*) ([A-Z][^*]*?\.)(?= Answer:| \*|<end>)", text)
    ]
    tasks = [prompt for prompt in told if parse(prompt)]
    assert len(tasks) > 4000
    assert not [prompt for prompt in tasks if in_test(prompt, SPLIT)]


def test_the_corpus_is_reproducible_and_moves_with_both_seeds(corpus):
    again = documents(1, 4000, SPLIT)
    assert again == corpus
    assert documents(2, 50, SPLIT) != documents(1, 50, SPLIT) != documents(1, 50, SPLIT + 1)


def test_every_document_ends_and_kinds_come_in_their_shares(corpus):
    assert all(text.endswith(END) and text.count(END) <= 2 for text in corpus)
    assert sum(MIX.values()) == pytest.approx(1)
    assert sum(text.startswith("Tasks:") for text in corpus) / len(corpus) == pytest.approx(MIX[sheet], abs=0.015)
    assert sum("Score:" in text for text in corpus) / len(corpus) == pytest.approx(MIX[review], abs=0.015)


def test_reviews_are_the_judge_prompt_itself_in_chat_format(corpus):
    asked = judge_template().render(prompt="PROMPT", response="REPLY")
    head, rest = asked.split("PROMPT")
    scored = [text for text in corpus if "Score:" in text]
    assert scored
    for text in scored:
        assert text.startswith(f"{END} {head}")
        assert rest.split("REPLY")[1] + " Wanted" in text
        assert re.search(r" Score: [0-5]<end>$", text)


def test_flipped_findings_stay_consistent_in_themselves():
    rng = Random(3)
    for _ in range(300):
        text = review(rng, SPLIT)
        check = re.search(r"Check: (.*?)\. Right (\d) of (\d)\. Points: (\d) (\d) (\d) (\d) (\d)\. Score: (\d)", text)
        flags = re.findall(r" (yes|no)(?= |$)", " " + check[1])
        right, of = int(check[2]), int(check[3])
        assert (flags.count("yes"), len(flags)) == (right, of)
        points = [int(check[i]) for i in range(4, 9)]
        assert points[:3] == [
            right >= 1,
            (right >= 1) + (2 * right >= of),
            (right >= 1) + (2 * right >= of) + (right == of),
        ]
        assert points[4] == int(check[9])


def test_the_exercise_sheet_is_what_the_writing_prompt_renders():
    text = sheet(Random(0), SPLIT)
    tasks = [task.strip() for task in text.removeprefix("Tasks:").removesuffix(END).split("*") if task.strip()]
    asked = Template((HERE / "write_prompt.jinja").read_text(encoding="utf-8")).render(shots=tasks[:-1])
    assert text == f"{asked} {tasks[-1]}{END}"
