from pathlib import Path

from stages.store.dictionary import dictionary

ROOT = Path(__file__).parents[2]


def test_the_data_dictionary_is_fresh():
    assert (ROOT / "data/README.md").read_text() == dictionary(), (
        "run: python -m stages.store.dictionary > data/README.md"
    )
