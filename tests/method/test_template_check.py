"""A template that does not ask for what the method reads is told before anything runs."""

from pathlib import Path

import pytest

from stages.config.load import load_params
from stages.method import template_check

ROOT = Path(__file__).parents[2]
BOTH = "Judge {{ prompt }} and {{ response }}.\n"


@pytest.mark.parametrize("profile", ["tiny", "gpu", "paper", "scripted"])
def test_the_projects_templates_pass(profile):
    params = load_params(ROOT / "stages/config/profiles", f"{profile}.yaml")
    assert template_check.faults(params, ROOT) == []


def test_the_line_that_is_read_is_shown():
    line, _ = template_check.score_line((ROOT / "stages/templates/judge.jinja").read_text())
    assert line == "Score: <4>`"


@pytest.mark.parametrize(
    "ending",
    [
        "Score: <n>", "**Score:** 4", "Score: [[n]]", "`Score: X`", "Score: <0-5>", "Score: 3.5/5", '{"score": <score>}',
        "Score: <total points>", "Score: ...", "Score = \\boxed{n}", "Score:\n<n>", "Score: <number from 0 to 5>",
        "Score: 5 is the best.\nEnd with Score: <n>", "Rating: how good it is. Conclude with\nScore: <n>",
    ],
)  # fmt: skip
def test_score_lines_that_are_read(ending):
    assert template_check.judge_faults("my.jinja", BOTH + ending) == []


@pytest.mark.parametrize(
    ("ending", "told"),
    [
        ("End with Rating: [[n]]", "'End with Rating: [[n]]', which is not read"),
        ("Rating: <n>", "which is not read"),
        ("[[5]]", "which is not read"),
        ("Score: 5 is the best. End with\nRating: [[n]]", "'Rating: [[n]]', which is not read"),
        ("Score: <n>/10", "asks for no score"),
        ("Score: <1-10>", "asks for no score"),
        ("Score: 8/10", "asks for no score"),
        ("Say what you think.", "asks for no score"),
        ("", "asks for no score"),
    ],
)
def test_score_lines_that_are_not_read(ending, told):
    (finding,) = template_check.judge_faults("my.jinja", BOTH + ending)
    assert told in finding.seen
    assert "Score: <n>" in finding.fix


@pytest.mark.parametrize(
    ("template", "told"),
    [
        ("", ["my.jinja does not show prompt whole", "my.jinja does not show response whole"]),
        ("{{ prompt }} Score: <n>", ["does not show response whole"]),
        ("{{ prompt }} {# {{ response }} #} Score: <n>", ["does not show response whole"]),
        ("{{ prompt }} {% if false %}{{ response }}{% endif %} Score: <n>", ["does not show response whole"]),
        ("{{ prompt }} {{ response | truncate(99) }} Score: <n>", ["does not show response whole"]),
        ("{{ prompt | upper }} {{ response | e }} Score: <n>", ["show prompt whole", "show response whole"]),
        ("{{ prompt }} {{ answer }} Score: <n>", ["cannot be filled"]),
        ("{{ prompt }} {{ response Score: <n>", ["cannot be filled"]),
        ("{{ prompt }} {response} Score: <n>", ["does not show response whole"]),
    ],
)
def test_a_judges_template_shows_both_texts(template, told):
    found = template_check.judge_faults("my.jinja", template)
    assert len(found) == len(told)
    assert all(words in str(finding) for finding, words in zip(found, told, strict=True))


@pytest.mark.parametrize(
    ("template", "sound"),
    [
        ("{% for shot in shots %}{{ shot }}\n{% endfor %}", True),
        ("{{ shots[0] }} {{ shots[1] }}", False),
        ("{{ shots[0] }}", False),
        ("Tasks:", False),
        ("{# {{ shots }} #}", False),
        ("{% for s in examples %}{{ s }}{% endfor %}", False),
    ],
)
def test_a_writers_template_shows_every_demonstration(template, sound):
    assert (template_check.writer_faults("my.jinja", template) == []) == sound


def test_a_comparison_asks_for_three_verdicts():
    fields = "{{ prompt }} {{ answer_a }} {{ answer_b }} "
    assert template_check.compare_faults("my.jinja", fields + "[[A]] [[B]] [[C]]") == []
    assert template_check.compare_faults("my.jinja", fields + "[[A]] [[B]]")
    assert template_check.compare_faults("my.jinja", "{{ prompt }} {{ answer_a }} [[A]] [[B]] [[C]]")
