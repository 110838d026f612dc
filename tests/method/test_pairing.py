from __future__ import annotations

from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stages.console.errors import TableError
from stages.method.judging import distinct, mean_scores, pool
from stages.method.pair_counts import counts, warnings
from stages.method.pairing import fates, pairs, perfect
from stages.store.tables import CANDIDATES, FATES, PAIRS, PROMPTS, SCORES
from stages.train_dpo import as_written


class Answer:
    """One candidate of prompt p (or another): its K scores, text, length."""

    def __init__(
        self,
        scores: list[float | None],
        text: str | None = None,
        tokens: int = 10,
        cut: bool = False,
        prompt: str = "p",
        thought: str | None = None,
    ) -> None:
        self.scores, self.text, self.tokens, self.cut, self.prompt = scores, text, tokens, cut, prompt
        self.thought = thought


def tables(answers: list[Answer]) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    prompts, candidates, judgements, n = [], [], [], dict[str, int]()
    for i, a in enumerate(answers):
        n[a.prompt] = n.get(a.prompt, -1) + 1
        candidate = f"c{i}"
        candidates.append(
            (
                candidate,
                a.prompt,
                "M1",
                n[a.prompt],
                f"text {i}" if a.text is None else a.text,
                "length" if a.cut else "stop",
                a.tokens,
                a.thought,
            )
        )
        judgements += [(candidate, a.prompt, k, s) for k, s in enumerate(a.scores)]
    prompts = [(p, "M1", f"prompt {p}", "M0", [], None) for p in sorted(n)]
    return (
        pl.DataFrame(prompts, schema=PROMPTS.schema, orient="row"),
        pl.DataFrame(candidates, schema=CANDIDATES.schema, orient="row"),
        pl.DataFrame(
            judgements,
            schema={"candidate_id": pl.String, "prompt_id": pl.String, "k": pl.Int32, "score": pl.Float64},
            orient="row",
        ),
    )


def means(candidates: pl.DataFrame, judgements: pl.DataFrame) -> pl.DataFrame:
    return mean_scores(pool(candidates, judgements))


def run(answers: list[Answer], **how: Any) -> tuple[list[str], pl.DataFrame, pl.DataFrame]:
    """Fates in the order of `answers`, SCORES and PAIRS."""
    prompts, candidates, judgements = tables(answers)
    settings: dict[str, Any] = {"min_margin": 0.0, "rho": None, "signal": "judge", "seed": 0} | how
    scores = fates(candidates, means(candidates, judgements), **settings)
    by_id = dict(scores.select("candidate_id", "fate").iter_rows())
    return [by_id[f"c{i}"] for i in range(len(answers))], scores, pairs(prompts, candidates, scores)


def test_best_meets_worst_on_unrounded_means() -> None:
    fate, scores, made = run([Answer([4, 4, 4]), Answer([4, 4, 5]), Answer([4, 4, 3.5]), Answer([4, None, None])])
    assert fate == ["between", "chosen", "rejected", "between"]
    assert dict(scores.schema) == SCORES.schema
    assert dict(made.schema) == PAIRS.schema
    assert scores["score"].to_list() == [4.0, 13 / 3, 11.5 / 3, 4.0]
    assert scores["spread"].to_list() == [0.0, 1.0, 0.5, 0.0]
    assert scores["parsed"].to_list() == [3, 3, 3, 1]
    assert made.rows() == [
        ("p", "M1", "prompt p", "text 1", "text 2", "c1", "c2", 13 / 3, 11.5 / 3, None, None, None, None)
    ]


def test_among_equal_scores_the_lowest_n_is_taken() -> None:
    assert run([Answer([2]), Answer([4]), Answer([4]), Answer([2])])[0] == ["rejected", "chosen", "between", "between"]


def test_equal_scores_make_no_pair() -> None:
    fate, _, made = run([Answer([4]), Answer([4])])
    assert fate == ["tied", "tied"]
    assert made.is_empty()
    assert dict(made.schema) == PAIRS.schema


def test_a_lone_candidate_is_tied() -> None:
    assert run([Answer([4]), Answer([None])])[0] == ["tied", "unreadable"]


@pytest.mark.parametrize(
    ("best", "margin", "paired"), [(4.5, 0.5, False), (5, 0.5, True), (4.5, 0.4, True), (4.5, 0.0, True)]
)
def test_the_margin_must_be_exceeded(best: float, margin: float, paired: bool) -> None:
    assert run([Answer([best]), Answer([4])], min_margin=margin)[0] == (
        ["chosen", "rejected"] if paired else ["tied", "tied"]
    )


def test_a_margin_of_thirds_is_not_exceeded_by_float_noise() -> None:
    # 7/6 - 4/6 is half a point; in floats it comes out above .5
    assert 3.5 / 3 - 2 / 3 > 0.5
    assert run([Answer([1, 1, 1.5]), Answer([1, 1, 0])], min_margin=0.5)[0] == ["tied", "tied"]


def test_an_unreadable_candidate_neither_wins_nor_loses() -> None:
    fate, scores, _ = run([Answer([None, None]), Answer([1, None]), Answer([3, 3])])
    assert fate == ["unreadable", "rejected", "chosen"]
    assert scores.row(0)[3:6] == (None, None, 0)


def test_a_candidate_that_nobody_judged_is_unreadable() -> None:
    fate, scores, _ = run([Answer([]), Answer([1]), Answer([3])])
    assert fate == ["unreadable", "rejected", "chosen"]
    assert scores["parsed"].to_list() == [0, 1, 1]


def test_a_cut_off_candidate_does_not_take_part_and_hides_no_equal_text() -> None:
    assert run([Answer([5], "same", cut=True), Answer([4], "same"), Answer([2])])[0] == [
        "cut_off",
        "chosen",
        "rejected",
    ]


def test_equal_texts_are_one_text_with_all_their_scores() -> None:
    fate, scores, _ = run([Answer([None], "same"), Answer([5], "same"), Answer([3], "x")])
    assert fate == ["chosen", "duplicate", "rejected"]
    assert scores["score"].to_list() == [5.0, 5.0, 3.0]
    assert scores["parsed"].to_list() == [1, 1, 1]
    fate, scores, _ = run([Answer([1], "same"), Answer([5, 5], "same"), Answer([3])])
    assert fate == ["chosen", "duplicate", "rejected"]
    assert scores.select("score", "spread", "parsed").row(0) == (11 / 3, 4.0, 3)
    assert run([Answer([1], "same"), Answer([5], "same")])[0] == ["tied", "duplicate"]
    other_prompt = [Answer([1], "same"), Answer([5], "x"), Answer([3], "same", prompt="q"), Answer([2], prompt="q")]
    assert run(other_prompt)[0] == ["rejected", "chosen", "chosen", "rejected"]


def test_each_whole_text_of_a_prompt_is_judged_once_under_its_lowest_n() -> None:
    answers = [
        Answer([], "a", cut=True),
        Answer([], "a"),
        Answer([], "b"),
        Answer([], "a"),
        Answer([], "a", prompt="q"),
    ]
    _, candidates, _ = tables(answers)
    assert distinct(candidates)["candidate_id"].to_list() == ["c1", "c2", "c4"]
    assert sorted(distinct(candidates.reverse())["candidate_id"]) == ["c1", "c2", "c4"]


def test_prompts_do_not_mix() -> None:
    fate, _, made = run([Answer([5]), Answer([4]), Answer([1], prompt="q"), Answer([2], prompt="q")])
    assert fate == ["chosen", "rejected", "rejected", "chosen"]
    assert made["prompt_id"].to_list() == ["p", "q"]


# --- length control ---


def test_rho_takes_the_shortest_of_the_top_band_and_the_longest_of_the_bottom_band() -> None:
    # range 0 to 5, rho .2: top band 4 to 5, bottom band 0 to 1; both edges are inside
    answers = [
        Answer([5], tokens=30),
        Answer([4], tokens=20),
        Answer([3.5], tokens=1),
        Answer([1], tokens=40),
        Answer([0], tokens=5),
        Answer([1.5], tokens=99),
    ]
    assert run(answers, rho=0.2)[0] == ["between", "chosen", "between", "rejected", "between", "between"]


def test_the_edge_of_a_band_is_inside_despite_float_noise() -> None:
    # scores 7/3, 6.5/3 and 2/3: the top tenth begins at exactly 6.5/3, in floats above it
    assert 6.5 / 3 < 7 / 3 - 0.1 * (7 / 3 - 2 / 3)
    assert run([Answer([2, 2, 3], tokens=30), Answer([2, 2, 2.5], tokens=20), Answer([0.5, 0.5, 1])], rho=0.1)[0] == [
        "between",
        "chosen",
        "rejected",
    ]


def test_equal_lengths_in_a_band_go_to_the_score_further_out() -> None:
    assert run([Answer([4.5]), Answer([5]), Answer([0]), Answer([0.5])], rho=0.2)[0] == [
        "between",
        "chosen",
        "rejected",
        "between",
    ]


def test_at_rho_0_equal_scores_go_by_variance_then_length_then_n() -> None:
    low_variance, wild = [4, 4], [3, 5]
    assert run([Answer(wild, tokens=1), Answer(low_variance, tokens=50), Answer([1])], rho=0.0)[0] == [
        "between",
        "chosen",
        "rejected",
    ]
    assert run([Answer(low_variance, tokens=9), Answer(low_variance, tokens=8), Answer([1])], rho=0.0)[0] == [
        "between",
        "chosen",
        "rejected",
    ]
    assert run([Answer([5]), Answer(low_variance, tokens=8), Answer(low_variance, tokens=9)], rho=0.0)[0] == [
        "chosen",
        "between",
        "rejected",
    ]
    assert run([Answer([5]), Answer(wild, tokens=9), Answer(low_variance, tokens=8)], rho=0.0)[0] == [
        "chosen",
        "between",
        "rejected",
    ]
    assert run([Answer(low_variance), Answer(low_variance), Answer([1]), Answer([1])], rho=0.0)[0] == [
        "chosen",
        "between",
        "rejected",
        "between",
    ]


def test_length_control_may_cost_the_margin() -> None:
    answers = [Answer([5], tokens=30), Answer([4], tokens=20), Answer([1], tokens=40), Answer([0], tokens=5)]
    assert run(answers, min_margin=3.5, rho=None)[0] == ["chosen", "between", "between", "rejected"]
    assert run(answers, min_margin=3.5, rho=0.2)[0] == ["tied"] * 4


# --- controls ---


def test_longest_puts_length_in_the_place_of_the_score() -> None:
    answers = [Answer([5], tokens=3), Answer([1], tokens=9), Answer([None], tokens=20), Answer([2], tokens=5)]
    fate, scores, made = run(answers, signal="longest", min_margin=0.5, rho=0.1)
    assert fate == ["rejected", "chosen", "unreadable", "between"]
    assert scores["score"].to_list() == [3.0, 9.0, None, 5.0]
    assert made.select("chosen_score", "rejected_score").row(0) == (9.0, 3.0)


def test_shuffled_deals_the_scores_out_anew_within_each_prompt() -> None:
    answers = [Answer([s, s], prompt=f"p{i:02}") for i in range(40) for s in (0, 1, 2, 3)]
    _, judge, _ = run(answers)
    _, dealt, made = run(answers, signal="shuffled")
    per_prompt = pl.col("score").sort()
    assert (
        dealt.group_by("prompt_id", maintain_order=True)
        .agg(per_prompt)
        .equals(judge.group_by("prompt_id", maintain_order=True).agg(per_prompt))
    )
    stayed = (dealt["score"] == judge["score"]).mean()
    assert 0.1 < float(stayed) < 0.4  # a quarter by chance
    assert (made["chosen_score"] > made["rejected_score"]).all()
    assert dealt.equals(run(answers, signal="shuffled")[1])
    assert not dealt.equals(run(answers, signal="shuffled", seed=1)[1])


def test_shuffled_leaves_those_out_that_have_no_part() -> None:
    answers = [Answer([None]), Answer([5], cut=True), Answer([1], "x"), Answer([4], "x"), Answer([2]), Answer([3])]
    fate, scores, _ = run(answers, signal="shuffled")
    assert fate[:2] == ["unreadable", "cut_off"]
    assert fate[3] == "duplicate"
    assert scores["score"].to_list()[:2] == [None, None]
    assert scores["score"][3] == scores["score"][2], "a duplicate has the score of its text"
    assert sorted(scores["score"].to_list()[i] for i in (2, 4, 5)) == [2.0, 2.5, 3.0]


def test_a_judgement_of_no_candidate_is_named() -> None:
    _, candidates, judgements = tables([Answer([1]), Answer([2])])
    with pytest.raises(TableError, match="'c1'"):
        means(candidates[:1], judgements)


# --- properties ---

one_answer = st.builds(
    Answer,
    st.lists(st.one_of(st.none(), st.integers(0, 10).map(lambda h: h / 2)), max_size=3),
    st.sampled_from(["a", "b", "c", "d", "e"]),
    st.integers(0, 4),
    st.booleans(),
    st.sampled_from("pqr"),
)


@pytest.mark.slow
@settings(max_examples=120, deadline=None)
@given(
    st.lists(one_answer, max_size=14),
    st.sampled_from([0.0, 0.5, 1.0]),
    st.sampled_from([None, 0.0, 0.1, 0.49]),
    st.sampled_from(["judge", "shuffled", "longest"]),
    st.randoms(use_true_random=False),
)
def test_what_holds_always(answers: list[Answer], min_margin: float, rho: float | None, signal: Any, rng: Any) -> None:
    how: dict[str, Any] = {"min_margin": min_margin, "rho": rho, "signal": signal, "seed": 3}
    prompts, candidates, judgements = tables(answers)
    scores = fates(candidates, means(candidates, judgements), **how)
    made = pairs(prompts, candidates, scores)

    assert sorted(scores["candidate_id"]) == sorted(candidates["candidate_id"])
    assert set(scores["fate"]) <= set(FATES)
    figures = counts(prompts, candidates, judgements, means(candidates, judgements), scores, made)
    assert sum(figures["fates"].values()) == len(candidates) == figures["candidates"]
    assert (scores["score"].is_null() == (scores["parsed"] == 0)).all()
    texts = scores.join(candidates, on="candidate_id").filter(pl.col("fate") != "cut_off")
    assert texts.group_by("prompt_id", "response").agg(pl.col("score").n_unique())["score"].eq(1).all()
    assert figures["fates"]["chosen"] == figures["fates"]["rejected"] == len(made)

    assert (made["chosen_score"] - made["rejected_score"] > min_margin).all()
    assert (made["chosen"] != made["rejected"]).all()
    assert made["prompt_id"].is_unique().all()
    unread = scores.filter(pl.col("score").is_null())
    assert set(unread["fate"]) <= {"unreadable", "cut_off", "duplicate"}
    by_prompt = scores.group_by("prompt_id").agg(pl.col("fate"))
    for _, fate in by_prompt.iter_rows():
        assert ("tied" in fate) + ("chosen" in fate) <= 1

    def mixed(frame: pl.DataFrame) -> pl.DataFrame:
        return frame[rng.sample(range(len(frame)), len(frame))]

    again = fates(mixed(candidates), means(mixed(candidates), mixed(judgements)), **how)
    assert again.equals(scores)
    assert pairs(mixed(prompts), mixed(candidates), mixed(again)).equals(made)


@settings(max_examples=60, deadline=None)
@given(st.lists(one_answer, max_size=10), st.sampled_from([None, 0.0, 0.2]))
def test_the_best_and_the_worst_are_the_ends_of_what_could_be_read(answers: list[Answer], rho: float | None) -> None:
    _, candidates, judgements = tables(answers)
    scores = fates(candidates, means(candidates, judgements), min_margin=0.0, rho=rho, signal="judge", seed=0)
    live = scores.filter(~pl.col("fate").is_in(["unreadable", "cut_off", "duplicate"]))
    ends = live.group_by("prompt_id").agg(pl.col("score").max().alias("high"), pl.col("score").min().alias("low"))
    rows = live.join(ends, on="prompt_id")
    slack = (rho or 0) * (pl.col("high") - pl.col("low")) + 1e-9
    assert rows.filter(pl.col("fate") == "chosen").select((pl.col("score") >= pl.col("high") - slack).all()).item()
    assert rows.filter(pl.col("fate") == "rejected").select((pl.col("score") <= pl.col("low") + slack).all()).item()
    assert rows.filter(pl.col("fate") == "tied").select((pl.col("high") == pl.col("low")).all()).item()


# --- figures and sentences ---

SOME = [
    *(Answer([5, 4], tokens=10), Answer([2, None], tokens=20), Answer([3, 3])),
    *(Answer([4, 4], prompt="q"), Answer([4, 4], prompt="q")),
    *(Answer([None, None], prompt="r"), Answer([5, 5], cut=True, prompt="r")),
]


def test_perfect_answers_are_those_whose_mean_is_5() -> None:
    better = [Answer([5, 5, 5]), Answer([5, 5, 4.5]), Answer([5, None, 5])]
    no_part = [Answer([5], text="text 0"), Answer([5], cut=True), Answer([None])]
    prompts, candidates, judgements = tables([*better, *no_part, Answer([5], prompt="q")])
    scores = fates(candidates, means(candidates, judgements), min_margin=0.5, rho=None, signal="judge", seed=0)
    found = perfect(prompts, candidates, scores)
    assert found.columns == ["id", "instruction", "response"]
    assert found.rows() == [("c0", "prompt p", "text 0"), ("c2", "prompt p", "text 2"), ("c6", "prompt q", "text 6")]


def test_counts_hold_what_the_metrics_file_shows() -> None:
    prompts, candidates, judgements = tables(SOME)
    extra = pl.DataFrame(
        [("x", "M1", "a", "M0", [], "repeat"), ("y", "M1", "b", "M0", [], "repeat")],
        schema=PROMPTS.schema,
        orient="row",
    )
    prompts = pl.concat([prompts, extra])
    scores = fates(candidates, means(candidates, judgements), min_margin=0.0, rho=None, signal="judge", seed=0)
    figures = counts(
        prompts, candidates, judgements, means(candidates, judgements), scores, pairs(prompts, candidates, scores)
    )
    assert figures == {
        "prompts": 3,
        "dropped": {"repeat": 2},
        "candidates": 7,
        "judgements": 14,
        "unparsed": 3,
        "fates": {"chosen": 1, "rejected": 1, "between": 1, "tied": 2, "unreadable": 1, "cut_off": 1, "duplicate": 0},
        "ties": 1,
        "pairs": 1,
        "pair_yield": 1 / 3,
        "mean_score": pytest.approx((4.5 + 2 + 3 + 4 + 4) / 5),
        "mean_margin": 2.5,
        "score_histogram": {
            "0": 0,
            "0.5": 0,
            "1": 0,
            "1.5": 0,
            "2": 1,
            "2.5": 0,
            "3": 2,
            "3.5": 0,
            "4": 5,
            "4.5": 0,
            "5": 3,
        },
        "commonest_score_share": 5 / 11,
        "unreadable_share": 3 / 14,
        "candidate_tokens": pytest.approx(80 / 7),
        "distinct_share": 1.0,
        "chosen_tokens": 10.0,
        "rejected_tokens": 20.0,
    }


def test_a_share_or_mean_of_nothing_is_null() -> None:
    prompts, candidates, judgements = tables([])
    scores = fates(candidates, means(candidates, judgements), min_margin=0.0, rho=None, signal="judge", seed=0)
    figures = counts(
        prompts, candidates, judgements, means(candidates, judgements), scores, pairs(prompts, candidates, scores)
    )
    nothing = (
        "pair_yield",
        "mean_score",
        "mean_margin",
        "commonest_score_share",
        "unreadable_share",
        "chosen_tokens",
        "rejected_tokens",
    )
    nothing += ("candidate_tokens", "distinct_share")
    assert [figures[name] for name in nothing] == [None] * 9
    assert figures["pairs"] == 0


def test_the_mean_score_is_the_judges_under_every_signal() -> None:
    prompts, candidates, judgements = tables(SOME)
    scores = fates(candidates, means(candidates, judgements), min_margin=0.0, rho=None, signal="longest", seed=0)
    figures = counts(
        prompts, candidates, judgements, means(candidates, judgements), scores, pairs(prompts, candidates, scores)
    )
    assert figures["mean_score"] == means(candidates, judgements)["score"].mean()
    assert figures["mean_margin"] == 10.0  # in tokens, as the pairs are


def test_suspicious_figures_are_named() -> None:
    figures = {
        "commonest_score_share": 0.84,
        "score_histogram": {"4": 16, "5": 84},
        "unreadable_share": 0.06,
        "pair_yield": 0.29,
    }
    figures |= {"distinct_share": 0.2}
    limits = {"commonest_score": 0.6, "unreadable": 0.05, "pair_yield": 0.3, "distinct": 0.3}
    assert warnings(figures, **limits) == [
        "the judge is saturated: 84% of its readable scores are 5 (warned above 60%)",
        "6% of the judgements could not be read (warned above 5%)",
        "only 29% of the prompts give a pair (warned below 30%)",
        "the answers collapse: only 20% of the candidates of a prompt are different texts (warned below 30%)",
    ]
    at_the_limit = {"commonest_score_share": 0.6, "unreadable_share": 0.05, "pair_yield": 0.3, "distinct_share": 0.3}
    assert warnings(figures | at_the_limit, **limits) == []
    assert warnings(dict.fromkeys(at_the_limit), **limits) == []


@pytest.mark.parametrize("how", [{"rho": 0.1, "signal": "judge"}, {"rho": None, "signal": "longest"}])
def test_unknown_lengths_decide_nothing(how: dict) -> None:
    _, candidates, judgements = tables([Answer([4.0]), Answer([2.0])])
    candidates = candidates.with_columns(tokens=pl.lit(None, pl.Int32))
    with pytest.raises(TableError, match="lengths of some candidates in tokens are not known"):
        fates(candidates, means(candidates, judgements), min_margin=0.0, seed=1, **how)


THOUGHT = "<think>" + "b" * 71 + "</think>\n\n"


def test_pairs_carry_thoughts_and_equal_answers_are_one_whatever_was_thought():
    answers = [
        Answer([5.0], "fig", thought=THOUGHT),
        Answer([1.0], "plum"),
        Answer([None], "fig", thought="<think>c</think>"),
        Answer([], "", thought="<think>never", cut=True),
    ]
    found, _, made = run(answers)
    assert found == ["chosen", "rejected", "duplicate", "cut_off"]
    assert made.select("chosen", "rejected", "chosen_thought", "rejected_thought").row(0) == (
        "fig",
        "plum",
        THOUGHT,
        None,
    )
    assert as_written(made).select("chosen", "rejected").row(0) == (THOUGHT + "fig", "plum")
    assert run([Answer([5.0], "fig", thought=THOUGHT), Answer([1.0], "fig")])[0] == ["tied", "duplicate"]


def test_the_length_of_an_answer_is_without_its_thought():
    """The first is longest as a whole (100 tokens of 88 + 22 characters), shortest as an answer (20)."""
    answers = [Answer([5.0], "a" * 22, 100, thought=THOUGHT), Answer([5.0], "b", 30), Answer([1.0], "c", 10)]
    assert len(THOUGHT) == 88
    assert run(answers, rho=0.1)[0] == ["chosen", "between", "rejected"]
    assert run(answers, signal="longest")[1]["score"].to_list() == [20.0, 30.0, 10.0]


def test_a_perfect_answer_is_trained_with_its_thought():
    prompts, candidates, _ = tables([Answer([5.0], "fig", thought=THOUGHT), Answer([5.0], "plum")])
    scores = run([Answer([5.0], "fig", thought=THOUGHT), Answer([5.0], "plum")])[1]
    assert perfect(prompts, candidates, scores)["response"].to_list() == [THOUGHT + "fig", "plum"]
