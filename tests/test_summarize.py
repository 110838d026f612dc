"""The summary holds what was measured, and leaves out what was not."""

from types import SimpleNamespace

from stages.summarize import summary

PARAMS = SimpleNamespace(
    evaluated=["SFT", "M1"],
    head_to_head={"M1-SFT": SimpleNamespace(model="M1", other="SFT")},
    aift={"M1": None, "M2": None},
    warn=SimpleNamespace(scores_apart=0.05),
)
MATCH = {("head_to_head", "M1-SFT"): {"greedy": {"win": {"value": 0.5}}}}


def test_matches_without_evaluations_are_of_no_last_model():
    assert summary(MATCH, PARAMS) == {"pairs": 0, "pair_yield": None, "warnings": 0}


def test_the_last_evaluated_model_is_summed_up():
    means = {"writer": {"greedy": {"oracle_score": {"value": 3.5}}}, "judge": {"pairwise_accuracy": {"value": None}}}
    aift = {"prompts": 4, "pairs": 3, "warned": ["a saturated judge"]}
    found = {**MATCH, ("EVAL", "M1"): means, ("AIFT", "M1"): aift}
    assert summary(found, PARAMS) == {
        "writer": {"M1": 3.5}, "win": {"M1-SFT": 0.5}, "pairs": 3, "pair_yield": 0.75, "warnings": 1
    }  # fmt: skip


def test_a_judge_that_parts_from_the_checker_is_a_warning():
    found = {}
    for model, own, checked in (("M1", 3.0, 4.0), ("M2", 4.0, 3.0)):
        found["AIFT", model] = {"prompts": 4, "pairs": 3, "mean_score": own}
        found["EVAL", model] = {"writer": {"greedy": {"oracle_score": {"value": checked}}}}
        found["EVAL", model]["judge"] = {"pairwise_accuracy": {"value": None}}
    assert summary(found, PARAMS)["warnings"] == 1
