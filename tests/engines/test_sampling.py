"""The sampler against exact distributions and against transformers' own top-p."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import chisquare
from transformers import TopPLogitsWarper

from stages.engines.sampling import Live, SeededSampling, choose, nucleus, uniforms

LOGITS = torch.log(torch.tensor([0.05, 0.5, 0.3, 0.15]))


def frequencies(temperature: float, top_p: float, draws: int = 20_000) -> np.ndarray:
    u = uniforms(range(draws), 1)[:, 0]
    tokens = choose(LOGITS.expand(draws, -1), u, temperature, top_p)[:, 0]
    return np.bincount(tokens.numpy(), minlength=4)


@pytest.mark.parametrize(
    ("temperature", "top_p", "exact"),
    [
        (1.0, 1.0, [0.05, 0.5, 0.3, 0.15]),
        (1.0, 0.9, [0, 0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95]),  # 0.5 + 0.3 < 0.9, so the third most likely still enters
        (1.0, 0.75, [0, 0.625, 0.375, 0]),
        (1.0, 0.3, [0, 1, 0, 0]),  # the most likely always stays
        (0.5, 1.0, [0.0025 / 0.365, 0.25 / 0.365, 0.09 / 0.365, 0.0225 / 0.365]),  # squared and normalised
    ],
)
def test_frequencies_follow_temperature_and_top_p(temperature, top_p, exact):
    seen, exact = frequencies(temperature, top_p), np.array(exact)
    assert (seen[exact == 0] == 0).all()
    if (exact > 0).sum() > 1:
        assert chisquare(seen[exact > 0], exact[exact > 0] * seen.sum()).pvalue > 1e-4


def test_the_uniform_number_picks_its_slice_of_the_cdf():
    u = torch.tensor([0.0, 0.049, 0.051, 0.549, 0.551, 0.849, 0.851, 0.999999], dtype=torch.float64)
    assert choose(LOGITS.expand(8, -1), u, 1.0, 1.0)[:, 0].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize(
    ("temperature", "top_p"), [(1e-300, 1.0), (1.0, 1e-300), (1e-300, 1e-300), (1e-44, 0.9), (0.0, 1.0), (1.0, 0.0)]
)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_what_is_zero_in_float32_takes_the_most_likely(temperature, top_p, dtype):
    u = torch.tensor([0.0, 0.3, 0.999999], dtype=torch.float64)
    logits = torch.tensor([[1, 5, 2, 0]], dtype=dtype)
    assert choose(logits.expand(3, -1), u, temperature, top_p)[:, 0].tolist() == [1, 1, 1]


def rows(vocabulary: int, sharpness: float, seed: int) -> torch.Tensor:
    return torch.randn(6, vocabulary, generator=torch.Generator().manual_seed(seed)) * sharpness


@settings(max_examples=60, deadline=None)
@given(
    vocabulary=st.sampled_from([2, 7, 8, 9, 65, 700]),
    sharpness=st.sampled_from([0.0, 0.5, 3.0, 12.0]),
    seed=st.integers(0, 2**31),
    top_p=st.floats(0.05, 0.999),
    u=st.floats(0, 1, exclude_max=True),
)
def test_the_chosen_token_is_in_the_nucleus_of_transformers(vocabulary, sharpness, seed, top_p, u):
    logits = rows(vocabulary, sharpness, seed)
    token = choose(logits, torch.full((6,), min(u, 1 - 2**-32), dtype=torch.float64), 1.0, top_p)
    kept = TopPLogitsWarper(min(1.0, top_p + 1e-4))(
        None, logits
    )  # a hair wider: at the edge both are right to the last digits
    if sharpness:  # all equal: which ones enter is arbitrary
        assert kept.gather(-1, token).isfinite().all()


@pytest.mark.parametrize("vocabulary", [5, 8, 70, 1000])
@pytest.mark.parametrize("top_p", [0.3, 0.9, 0.99])
def test_the_nucleus_is_that_of_transformers(vocabulary, top_p):
    for sharpness in (0.3, 2.0, 8.0):
        logits = rows(vocabulary, sharpness, 3)
        p, tokens = nucleus(logits.softmax(-1), top_p)
        kept = TopPLogitsWarper(top_p)(None, logits).isfinite()
        for row in range(6):
            assert sorted(tokens[row][p[row] > 0].tolist()) == sorted(kept[row].nonzero()[:, 0].tolist())


def test_a_row_does_not_see_its_neighbours():
    logits = torch.cat([rows(200, 0.1, 1), rows(200, 9.0, 2)])  # broad nuclei beside narrow ones
    u = torch.linspace(0, 0.999, 12, dtype=torch.float64)
    together = choose(logits, u, 0.7, 0.9)
    alone = torch.cat([choose(logits[i : i + 1], u[i : i + 1], 0.7, 0.9) for i in range(12)])
    assert together.equal(alone)


def test_uniforms_depend_on_their_own_seed():
    table = uniforms([5, 6, 5], 4)
    assert table[0].equal(table[2])
    assert not table[0].equal(table[1])
    assert table.equal(uniforms([5, 6, 5], 9)[:, :4])  # a longer limit draws the same numbers first
    assert ((table >= 0) & (table < 1)).all()


def test_the_processor_leaves_exactly_one_token():
    sampler = SeededSampling([1, 2], Live(torch.arange(2), 4), steps=3, temperature=1.0, top_p=0.9)
    scores = sampler(torch.zeros(2, 5, dtype=torch.long), LOGITS.expand(2, -1).clone())
    assert scores.isfinite().sum(-1).tolist() == [1, 1]
    assert scores.argmax(-1).tolist() == choose(LOGITS.expand(2, -1), sampler.u[:, 1], 1.0, 0.9)[:, 0].tolist()
