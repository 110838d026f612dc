"""A stage that is run by hand takes the names of params.yaml and no others, least of all a path."""

import importlib
import inspect
import shutil
from pathlib import Path

import pytest

from stages.console.errors import SrlmError
from tests.test_architecture import ROOT, VERBS

NAMES = {"model", "match", "prev", "since", "aift"}
OTHERS = {"on": ["IFT"], "model": "M2", "match": "M2-M1", "prev": "M1", "since": "M1", "aift": "M1"}
TAKES = [
    (verb, option)
    for verb in sorted(VERBS)
    for option in inspect.signature(importlib.import_module(f"stages.{verb}").main).parameters
    if option in NAMES
]


@pytest.mark.parametrize("name", ["../../../evil", "/tmp/evil", "evil", "M2/../M1", "", "m2", "M2\n"])
@pytest.mark.parametrize(("verb", "option"), TAKES)
def test_a_stage_takes_no_other_name(tmp_path, verb, option, name):
    root = tmp_path / "a/b/c/project"
    shutil.copytree(ROOT / "stages/tinyworld", root / "stages/tinyworld", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "stages/config/profiles/tiny.yaml", root / "params.yaml")
    before = sorted(tmp_path.rglob("*"))
    main = importlib.import_module(f"stages.{verb}").main
    options = {o: OTHERS[o] for o in inspect.signature(main).parameters if o in OTHERS} | {option: name}
    with pytest.raises(SrlmError, match=r"params\.yaml|dvc\.yaml"):
        main(**options, root=root)
    assert sorted(tmp_path.rglob("*")) == before
    assert not Path("/tmp/evil").exists()


def test_the_names_are_found():
    assert len({verb for verb, _ in TAKES}) >= 12
