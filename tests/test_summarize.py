"""The summary holds what was measured, and leaves out what was not."""

from types import SimpleNamespace

from stages.summarize import summary

PARAMS = SimpleNamespace(evaluated=["SFT", "M1"], head_to_head={"M1-SFT": SimpleNamespace(model="M1", other="SFT")})
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
