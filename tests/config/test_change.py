"""Changes of params.yaml as people type them."""

import pytest

from stages.config import change
from stages.config.load import load_params, read_yaml
from stages.console.errors import ParamsError
from tests.workspace import ROOT

PARAMS = read_yaml(ROOT)


@pytest.mark.parametrize(
    ("words", "values"),
    [
        (["seed=1,2, 3"], {"seed": [1, 2, 3]}),
        (["train_dpo.lr=1e-4,2.0e-4"], {"train_dpo.lr": [1e-4, 2e-4]}),
        (['write_prompts.stop=["*","\\n"],[]'], {"write_prompts.stop": [["*", "\n"], []]}),
        (["judge.scale={min: 0, max: 3, letters: null}"], {"judge.scale": [{"min": 0, "max": 3, "letters": None}]}),
        (["aift.M2.judge=M2,M1"], {"aift.M2.judge": ["M2", "M1"]}),
        (["hardware.compile=true", "aift.M1.rho=null"], {"hardware.compile": [True], "aift.M1.rho": [None]}),
        (["seed=1,1,1.0,true"], {"seed": [1, 1.0, True]}),
    ],
)
def test_values_are_yaml_behind_commas(words, values):
    found = change.parse(words, PARAMS)
    assert found == values
    assert [[type(v) for v in some] for some in found.values()] == [[type(v) for v in some] for some in values.values()]
    for each in change.combinations(found):
        again = change.parse(change.words_of(each), PARAMS)
        assert change.combinations(again) == [each], "as it is shown it can be typed"


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("n", r"'n' changes nothing. Expected KEY=VALUE"),
        ("=4", "changes nothing"),
        ("seed=", "seed= has no value"),
        ("seed=[1", r"'\[1' is no value of YAML"),
        ("sed=1", r"params.yaml has no sed; did you mean seed\?"),
        ("sample_candidate.n=1", r"did you mean sample_candidates.n\?"),
        ("judge_k=1", r"did you mean evaluate.judge_k\?"),
        ("zzzz.qqqq=1", r"params.yaml has no zzzz.qqqq. docs/configuration.md has all"),
        ("seed.x=1", "seed is 1, with nothing in it"),
        ("judge_candidates.engine.name=openai", r"is null, .*Set it whole: judge_candidates.engine=\{name: ...\}"),
    ],
)
def test_what_is_no_change_says_what_to_type(word, message):
    with pytest.raises(ParamsError, match=message):
        change.parse([word], PARAMS)


def test_a_key_given_twice_is_one_sweep():
    with pytest.raises(ParamsError, match=r"seed is given twice\. All its values in one, as seed=1,2"):
        change.parse(["seed=1", "seed=2"], PARAMS)


def test_every_value_meets_every_other():
    two = change.combinations({"seed": [1, 2], "sample_candidates.n": [4, 8]})
    assert [change.words_of(each) for each in two] == [
        ["seed=1", "sample_candidates.n=4"],
        ["seed=1", "sample_candidates.n=8"],
        ["seed=2", "sample_candidates.n=4"],
        ["seed=2", "sample_candidates.n=8"],
    ]


@pytest.mark.parametrize("profile", sorted(file.stem for file in (ROOT / "stages/config/profiles").glob("*.yaml")))
def test_a_file_keeps_all_but_the_change(profile, tmp_path):
    source, target = ROOT / f"stages/config/profiles/{profile}.yaml", tmp_path / "params.yaml"
    change.write(source, target, {})
    assert target.read_text() == source.read_text()
    values = {"sample_candidates.n": 3, "train_dpo.lr": 1e-5, "write_prompts.stop": ["a: b"]}
    change.write(source, target, values)
    before, after = source.read_text().splitlines(), target.read_text().splitlines()
    assert len(before) == len(after)
    assert sum(a != b for a, b in zip(before, after, strict=True)) == len(values)
    assert change.applied(read_yaml(source.parent, source.name), values) == change.applied(read_yaml(tmp_path), {})
    assert load_params(tmp_path).train_dpo.lr == 1e-5
