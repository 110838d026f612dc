"""A template that does not ask for what the method reads is told before anything runs."""

from pathlib import Path

import pytest

from stages.config.load import load_params
from stages.method import template_check
from stages.method.score_line import score_line

ROOT = Path(__file__).parents[2]
BOTH = "Judge {{ prompt }} and {{ response }}.\n"


@pytest.mark.parametrize("profile", ["tiny", "gpu", "paper", "scripted"])
def test_the_projects_templates_pass(profile):
    params = load_params(ROOT / "stages/config/profiles", f"{profile}.yaml")
    assert template_check.faults(params, ROOT) == []


def test_the_line_that_is_read_is_shown():
    line, _ = score_line((ROOT / "stages/templates/judge.jinja").read_text())
    assert line == "Score: <4>"


def test_a_judge_that_answers_first_is_asked_for_a_score_that_is_read():
    name = "stages/templates/judge_own_answer.jinja"
    text = (ROOT / name).read_text()
    assert template_check.judge_faults(name, text) == []
    assert score_line(text) == ("Score: <4>", None)
    assert text.index("{{ response }}") < text.index("your own answer") < text.index("justify")


@pytest.mark.parametrize(
    "ending",
    [
        "Score: <n>", "**Score:** 4", "Score: [[n]]", "`Score: X`", "Score: <0-5>", "Score: 3.5/5", '{"score": <score>}',
        "Score: <total points>", "Score: ...", "Score = \\boxed{n}", "Score:\n<n>", "Score: <number from 0 to 5>",
        "Score: 5 is the best.\nEnd with Score: <n>", "Rating: how good it is. Conclude with\nScore: <n>",
        "Score: <n> from 0 to 5", "Score: n, nothing else", "Write 1 to 3 sentences, then a score of 0 to 5.\nScore: <n>/5",
        "Use a 5-point scale, in at most 100 words.\nScore: <n>", "Score: <0, 1, 2, 3, 4 or 5>", "Score: one of 0/1/2/3/4/5", "Score: X, where X is between 0 and 5",
        "Give 0-2 points for relevance, 0-3 for the rest.\nScore: <total>", "Ten steps: 1 to 3 first.\nScore: <n>",
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
        *((ending, "asks for another range ('") for ending in (
            "Score: <n>/10", "Score: <1-10>", "Score: 8/10", "Score: <0-10>", "Score: <n>/100", "Score: <1-3>",
            "Rate from 1 to 10. Last line: Score: <n>", "Give a score from 0 to 10.\nScore: <n>", "Score: <n> out of 10",
            "A number between one and ten.\nScore: <n>", "On a 10-point scale.\nScore: <n>", "Rate it 1–7.\nScore: <n>",
            "Score: <n>, where 10 is the best", "A maximum of 10 points.\nScore: <n>", "On a scale of 0.0 to 1.0:\nScore: <n>",
        )),
        *((ending, f"asks for {ending!r}, which is not read") for ending in (
            "Score: A, B or C", "Score: <good|bad>", "Score: low, medium, high", "Score: A-F", "Score: pass or fail", "Score: <n>%",
        )),
        ("Say what you think.", "asks for no score"),
        ("", "asks for no score"),
    ],
)  # fmt: skip
def test_score_lines_that_are_not_read(ending, told):
    (finding,) = template_check.judge_faults("my.jinja", BOTH + ending)
    assert told in finding.seen.replace("<4>", "<n>")
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
        ("{{ prompt }} {{ response }} {{ range(9)|random }} Score: <n>", ["cannot be filled"]),
        ("{{ prompt }} {{ response }} {{ lipsum() }} Score: <n>", ["cannot be filled"]),
        ("{{ prompt }} {{ response }} {{ prompt.upper }} Score: <n>", ["which is another every time"]),
    ],
)
def test_a_judges_template_shows_both_texts(template, told):
    found = template_check.judge_faults("my.jinja", template)
    assert len(found) == len(told)
    assert all(words in str(finding) for finding, words in zip(found, told, strict=True))


@pytest.mark.parametrize(
    "program", ["{% for a in range(99999) %}{% for b in range(99999) %}{% endfor %}{% endfor %}", "{{ 'x' * 10**10 }}"]
)
def test_a_template_without_end_is_stopped(program, tmp_path):
    params = load_params(ROOT / "stages/config/profiles", "gpu.yaml")
    (tmp_path / params.judge.template).parent.mkdir(parents=True)
    (tmp_path / params.judge.template).write_text(BOTH + program + "Score: <n>")
    (finding,) = template_check.faults(params, tmp_path)
    assert "cannot be filled" in finding.seen


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


def test_the_meta_judges_template_is_looked_at_where_it_compares(tmp_path):
    params = load_params(ROOT)
    (tmp_path / "mine.jinja").write_text("{{ task }} {{ judgement_a }} [[A]] [[B]] [[C]]")
    for source, faults in (("meta_judge", 1), ("eft", 0)):
        meta = params.judge_pairs.meta_judge.model_copy(update={"template": "mine.jinja"})
        known = params.judge_pairs.model_copy(update={"source": source, "meta_judge": meta})
        assert len(template_check.faults(params.model_copy(update={"judge_pairs": known}), tmp_path)) == faults
    for profile in ("paper", "tiny"):
        file = load_params(ROOT / "stages/config/profiles", f"{profile}.yaml").judge_pairs.meta_judge.template
        text = (ROOT / file).read_text()
        assert template_check.compare_faults(file, text, ("task", "judgement_a", "judgement_b")) == []


def test_the_template_of_ranks_is_looked_at_where_ranks_judge(tmp_path):
    (tmp_path / "mine.jinja").write_text("It is better than {{ worse }} others.")
    params = load_params(ROOT)
    for source, faults in (("ranks", 1), ("model", 0)):
        seed = params.judge_seed.model_copy(update={"source": source, "path": "mine.jinja"})
        found = template_check.faults(params.model_copy(update={"judge_seed": seed}), tmp_path)
        assert len([f for f in found if f.key == "judge_seed.path" and "End the template with" in str(f)]) == faults
