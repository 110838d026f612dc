"""Forms in which judges give their score, and how each is read: `test_hostile.py` holds them, docs/evaluation.md shows
them."""

from __future__ import annotations

FORMS: tuple[tuple[str, tuple[str, ...], float | None], ...] = (
    ("plain, in any case", ("Score: 4", "score:4", "SCORE : 4.", "Final score: 4", "Total score: 4"), 4),
    ("halves", ("Score: 4.5", "Score: 4.50/5"), 4.5),
    ("bold, headings, lists, code", ("**Score:** 4", "**Score: 4**", "__Score__: *4*", "## Score: 4", "- Score: 4", "Score: • 4", "`Score: 4`"), 4),
    ("brackets and quotation marks", ("[Score: 4]", "[Score]: 4", "Score: [[4]]", "Score: <4>", "(Score: 4)", "Score: “4”", "【Score】：4"), 4),
    ("of five, points, stars", ("Score: 4/5", "Score: 4 out of 5", "Score: 4 (out of 5)", "Score: 4 of 5", "Score: 4 points", "Score: 4/5 stars", "Score: 4 pts", "Score: 4 out of five", "Score: 4 (out of a maximum of 5)", "Score: 4 von 5", "Score: 4 from 5"), 4),
    ("other signs", ("Score = 4", "Score == 4", "Score := 4", "Final score - 4", "Score – 4", "Score -> 4", "Score => 4"), 4),
    ("alone on the next line, or under a heading", ("Score:\n4", "**Score:**\n\n**4/5**", "## Score\n4", "Score\n\n4."), 4),
    ("LaTeX", ("Score: \\boxed{4}", "Score: $4/5$", "$\\text{Score} = 4$", "Score: \\textbf{4}"), 4),
    ("alone in the next cell of a table", ("| Score | 4 |", "| **Score** | **4/5** |", "|Score:|4|"), 4),
    ("JSON, YAML", ('{"score": 4}', "{'score': '4'}", '```json\n{"reason": "3 facts", "score": 4}\n```', "score: 4"), 4),
    ("HTML, XML", ("<b>Score:</b> 4", "<strong>Score</strong>: 4/5", "<score>4</score>", "<score>\n4\n</score>"), 4),
    ("with a remark", ("Score: 4, because it is good", "Score: 4 because 1 point is lost for brevity", "Score: 4 (80 %)", "Score: 4 - good, with 3 examples", "Score: 4\n\nThanks!"), 4),
    ("several: the last", ("Score: 2\nOn reflection:\nScore: 4", "Score: 10\nScore: 4", "Relevance score: 1\nCoverage score: 1\nTotal score: 4"), 4),
    ("the last is no score", ("Score: 4\nScore: 10", "Score: 4\nScore: 3-4"), None),
    ("another total behind the last score line", ("Relevance score: 1\nCoverage score: 1\nTotal: 2", "Score: 1\n**Overall:** 3/5"), None),
    ("outside 0 to 5, between halves", ("Score: 10", "Score: 6", "Score: -1", "Score: 4.25", "Score: 4,5"), None),
    ("ranges, choices, sums, corrections", ("Score: 3-4", "Score: 4 or 5", "Score: 3 to 4", "Score: 3, 4", "Score: 1 + 1 + 1 = 3", "Score: 3 -> 4", "Score: 3, raised to 4", "Score: 4. On second thought, 3.", "Score: 4, no, 3", "Score: 4, minus 1 = 3", "Score: ~~3~~ 4", "Score: 4+"), None),
    ("another scale", ("Score: 4/10", "Score: 4 out of 10", "Score: 4 (max 10)", "Score: 4 out of ten", "Score: 4 sur 10", "Score: 4 (out of a maximum of 10)", "Score: 80 %", "Score: 8/10"), None),
    ("no score line: not that label, nothing between label and number, no digits", ("4 out of 5", "\\boxed{4}", "[[4]]", "Rating: 4", "Note : 4", "得分：4", "Score 4", "a score of 4", "Score (out of 5): 4", "Score: four", "Score: <n>", "Scores: 4", "Score:\n1. Relevant"), None),
)  # fmt: skip
"""What, examples, the score; None: unreadable."""


def table() -> str:
    """For docs/evaluation.md: python -m tests.method.score_forms"""
    lines = ["| form | for example | read as |", "|---|---|---|"]
    for what, examples, score in FORMS:
        shown = " · ".join(_code(example) for example in examples)
        lines.append(f"| {what} | {shown} | {'–' if score is None else f'{score:g}'} |")
    return "\n".join(lines)


def _code(example: str) -> str:
    text = example.replace("\n", "⏎").replace("|", "\\|")
    return f"`` {text} ``" if "`" in text else f"`{text}`"


if __name__ == "__main__":
    print(table())
