"""Golden renders: a change of a template's wording must be made in `golden/` too, on purpose."""

from __future__ import annotations

from pathlib import Path

import pytest
from jinja2 import Environment, meta

from stages.method.template import render

TEMPLATES = Path(__file__).parents[2] / "stages" / "templates"
GOLDEN = Path(__file__).parent / "golden"
FIELDS: dict[str, dict[str, object]] = {
    "judge": {"prompt": "Name three fruits.", "response": "Sure! Fig, plum\nand {{ pear }}."},
    "write_prompt": {"shots": ["Name three fruits.", "Say {{ hi }}\nto me."]},
    "meta_judge": {"task": "Judge {{ it }}.", "judgement_a": "Names three.", "judgement_b": "Names a plum."},
    "compare": {"prompt": "Name three fruits.", "answer_a": "Fig.", "answer_b": "Fig, plum and pear."},
}


def template(name: str) -> str:
    return (TEMPLATES / f"{name}.jinja").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", FIELDS)
def test_a_template_renders_as_its_golden_copy(name: str) -> None:
    golden = (GOLDEN / f"{name}.txt").read_text(encoding="utf-8")
    assert render(template(name), **FIELDS[name]) == (golden.rstrip("\n") if name == "write_prompt" else golden)


@pytest.mark.parametrize("name", FIELDS)
def test_a_template_uses_exactly_its_documented_fields(name: str) -> None:
    assert meta.find_undeclared_variables(Environment(autoescape=True).parse(template(name))) == set(FIELDS[name])
    row = next(
        line
        for line in (TEMPLATES / "README.md").read_text(encoding="utf-8").splitlines()
        if line.startswith(f"| `{name}.jinja`")
    )
    assert row.split("|")[2].strip() == ", ".join(f"`{field}`" for field in FIELDS[name])


def test_text_to_be_continued_ends_on_the_number() -> None:
    assert render(template("write_prompt"), shots=["a"] * 8).endswith("8. a\n9.")


def test_the_judge_prompt_asks_for_what_is_read() -> None:
    text = template("judge")
    assert text.count("- Add 1 point if") == 5
    assert "at most 100 words" in text
    assert "Score: <n>" in text.splitlines()[-1]


def test_every_template_has_its_origin_in_the_readme() -> None:
    readme = (TEMPLATES / "README.md").read_text(encoding="utf-8")
    missing = [path.name for path in TEMPLATES.glob("*.jinja") if f"`{path.name}`" not in readme]
    assert missing == []
