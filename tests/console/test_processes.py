import pytest

from stages.console.processes import is_dvc, is_stage


@pytest.mark.parametrize(
    ("line", "dvc", "stage"),
    [
        ("/x/.venv/bin/python -m dvc repro", True, False),
        ("python3.11 /x/bin/dvc repro", True, False),
        ("python -B -m stages.console.dvc repro", True, False),
        ("/usr/bin/dvc repro", True, False),
        (r"C:\x\Scripts\dvc.exe repro", True, False),
        ("python -m stages.train_dpo M2 --prev M1", False, True),
        ("/x/bin/python3 -u -m stages.build_pairs M1", False, True),
        ("du -sh .dvc", False, False),
        ("tail -f /x/dvc", False, False),
        ("vim stages/console/dvc.py", False, False),
        ("python -m pytest stages.train_dpo dvc", False, False),
        ("grep -m 1 stages.train_dpo x", False, False),
        ("python", False, False),
        ("", False, False),
    ],
)
def test_what_a_process_is_depends_on_what_it_runs(line: str, dvc: bool, stage: bool) -> None:
    assert (is_dvc(line.split()), is_stage(line.split())) == (dvc, stage)
