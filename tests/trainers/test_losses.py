"""What DPO's parameters do, on two pairs by hand: log-probabilities are those of transformers' own logits."""

from __future__ import annotations

import math

import polars as pl
import pytest
import torch
from test_train_dpo import CPU, PARAMS
from torch.nn.functional import log_softmax, logsigmoid
from transformers import AutoModelForCausalLM

from stages.trainers.dpo import dpo_trainer

BETA = 0.5
PAIRS = pl.DataFrame(
    {
        "prompt": ["Say cat 3 times.", "Name three fruits."],
        "chosen": ["cat cat cat.", "pear plum"],
        "rejected": ["cat", "Sure! apple pear plum. Score: 4"],
    }
)
E = 0.2
FORMULAS = {
    ("sigmoid", 0.0): lambda x: -logsigmoid(BETA * x.sums),
    ("sigmoid", E): lambda x: -(1 - E) * logsigmoid(BETA * x.sums) - E * logsigmoid(-BETA * x.sums),
    ("robust", E): lambda x: (-(1 - E) * logsigmoid(BETA * x.sums) + E * logsigmoid(-BETA * x.sums)) / (1 - 2 * E),
    ("sigmoid_norm", 0.0): lambda x: -logsigmoid(BETA * x.means),
    ("ipo", 0.0): lambda x: (x.means - 1 / (2 * BETA)) ** 2,
}


class Margins:
    """Of log-probabilities gained over the reference, chosen less rejected: of whole answers, and per token."""

    def __init__(self, policy, reference, rows):
        def gained(ids, side):
            both = torch.tensor([ids["prompt_ids"] + ids[side]])
            at = slice(len(ids["prompt_ids"]) - 1, -1)
            taken = [
                log_softmax(model(both).logits.float(), -1)[0, at].gather(-1, torch.tensor(ids[side])[:, None])
                for model in (policy, reference)
            ]
            self.nll[side] += (-taken[0][:, 0]).tolist()
            return taken[0].sum() - taken[1].sum(), len(ids[side])

        self.nll = {"chosen_ids": [], "rejected_ids": []}
        pairs = [[gained(ids, side) for side in self.nll] for ids in rows]
        self.sums = torch.stack([chosen[0] - rejected[0] for chosen, rejected in pairs])
        self.means = torch.stack([chosen[0] / chosen[1] - rejected[0] / rejected[1] for chosen, rejected in pairs])


@pytest.mark.parametrize("nll_weight", [0.0, 0.5])
@pytest.mark.parametrize(("loss", "smoothing"), FORMULAS)
def test_the_loss_is_the_formula(base_model, tmp_path, loss, smoothing, nll_weight):
    params = PARAMS.model_copy(
        update={"loss": loss, "label_smoothing": smoothing, "beta": BETA, "nll_weight": nll_weight, "max_length": 90}
    )
    trainer, *_ = dpo_trainer(base_model, tmp_path, PAIRS, params, seed=1, hardware=CPU)
    with torch.no_grad():  # the reference is known by now; the policy moves away from it
        for weight in trainer.model.parameters():
            weight.add_(0.02 * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    policy, reference = (AutoModelForCausalLM.from_pretrained(base_model, dtype="float32").eval() for _ in range(2))
    policy.load_state_dict(trainer.model.state_dict())
    rows = [*trainer.train_dataset]
    with torch.no_grad():
        x = Margins(policy, reference, rows)
        got = trainer.compute_loss(trainer.model, trainer._prepare_inputs(trainer.data_collator(rows))).item()
    assert x.sums.abs().min() > 0.1, "the two models are alike: nothing is tested"
    chosen = sum(x.nll["chosen_ids"]) / len(x.nll["chosen_ids"])
    assert got == pytest.approx(FORMULAS[loss, smoothing](x).mean().item() + nll_weight * chosen, rel=1e-5)
    assert math.isfinite(got)
