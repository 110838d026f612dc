"""Runs under other seeds add to the table of results; nothing that was measured is lost."""

import json

import pytest
from typer.testing import CliRunner

from benchmarks import seeds


def test_one_seed_more_keeps_the_others(tmp_path, monkeypatch):
    results = tmp_path / "data/results/seeds.json"
    results.parent.mkdir(parents=True)
    results.write_text(json.dumps({"301": "old", "302": "old"}))
    monkeypatch.setattr(seeds, "run_one", lambda root, name, variant, overrides, measure: {"seconds": 1.0, **overrides})
    seeds.seeds(302, 2, {}, root=tmp_path)
    assert json.loads(results.read_text()) == {
        "301": "old",
        "302": {"seconds": 1.0, "seed": 302},
        "303": {"seconds": 1.0, "seed": 303},
    }


@pytest.mark.parametrize("option", ["--jobs", "--count"])
def test_none_at_a_time_is_wrong_usage(option):
    done = CliRunner().invoke(seeds.app, ["seeds", option, "0"])
    assert done.exit_code == 2
    assert option in done.output
