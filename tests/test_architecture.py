"""The house rules that imports can show: verbs use nouns, nouns do not know verbs or each other, the method needs no
model."""

import ast
import re
import sys
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
STAGES = ROOT / "stages"
VERBS = {f.stem for f in STAGES.glob("*.py")} - {"__init__"}
WING = "commands"
NOUNS = {f.name for f in STAGES.iterdir() if f.is_dir() and (f / "__init__.py").exists()} - {WING}
FOR_ALL = {"stages.console", "stages.config", "stages.text", "stages.store.tables"}
LIBRARIES = {
    "method": {"pydantic", "polars", "numpy", "jinja2", "rapidfuzz", "regex", "scipy"},
    "engines": {
        "torch",
        "transformers",
        "numpy",
        "polars",
        "jinja2",
        "vllm",
        "ray",
        "openai",
        "anyio",
        "tenacity",
        "peft",
    },
    "models": {"torch", "transformers", "gguf", "peft", "tokenizers", "huggingface_hub", "safetensors"},
    "trainers": {
        "accelerate",
        "torch",
        "transformers",
        "trl",
        "datasets",
        "peft",
        "bitsandbytes",
        "liger_kernel",
        "safetensors",
        "polars",
    },
    "store": {
        "polars",
        "pydantic",
        "psutil",
        "datasets",
        "duckdb",
        "dvc",
        "dvc_data",
        "filelock",
        "pathspec",
        "pyarrow",
        "safetensors",
        "transformers",
    },
    "config": {"pydantic", "ruamel", "rapidfuzz"},
    "page": {"altair", "jinja2", "markupsafe"},
    "hub": {"huggingface_hub", "jinja2", "markupsafe", "polars", "pyarrow", "ruamel", "tenacity", "yaml"},
    "console": {"dvc", "psutil", "rich", "typer"},
    "text": set(),
    "constraints": {"langdetect", "lm_eval", "polars"},
    "tinyworld": {"torch", "transformers", "tokenizers", "polars", "jinja2"},
}
HEAVY = {"torch", "transformers", "trl", "datasets", "vllm", "ray", "lm_eval"}
ORACLE = {"stages.tinyworld", "stages.constraints.oracle"}
IN_THE_LOOP = ("write_prompts", "sample_candidates", "judge_candidates", "build_pairs", "train_dpo")


def imports(file: Path, top_level_only: bool = False):
    """Modules that a file imports; `from a import b` counts as a.b where that is a module of ours."""
    tree = ast.parse(file.read_text())
    for node in tree.body if top_level_only else ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            for alias in node.names:
                name = f"{node.module}.{alias.name}"
                yield name if path_of(name) else node.module


def path_of(module: str) -> Path | None:
    base = ROOT / module.replace(".", "/")
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


def closure(module: str) -> set[str]:
    """Everything of ours that `module` may import, in functions too."""
    seen, todo = set(), [module]
    while todo:
        name = todo.pop()
        path = path_of(name)
        if name in seen or path is None or not name.startswith("stages"):
            continue
        seen.add(name)
        todo += imports(path)
    return seen


@pytest.mark.parametrize("noun", sorted(NOUNS))
def test_a_noun_knows_no_verb_and_no_other_noun(noun):
    for file in (STAGES / noun).rglob("*.py"):
        for module in imports(file):
            if module.startswith("stages."):
                own = module.startswith(f"stages.{noun}.") or module == f"stages.{noun}"
                shared = any(module == m or module.startswith(f"{m}.") for m in FOR_ALL)
                assert own or shared, f"{file.relative_to(ROOT)} imports {module}"


@pytest.mark.parametrize("file", sorted([*STAGES.glob("*.py"), *(STAGES / WING).glob("*.py")]), ids=lambda f: f.stem)
def test_a_verb_is_imported_by_nobody_and_a_command_by_commands_alone(file):
    """Two wings: the stages of dvc.yaml, and the commands for people. What both need is a noun."""
    for module in imports(file):
        part = module.split(".")[1:2] if module.startswith("stages.") else []
        assert part not in ([verb] for verb in VERBS), f"{file.name} imports {module}"
        assert part != [WING] or file.parent.name == WING, f"{file.name} imports {module}"


def test_ls_shows_the_algorithm_and_nothing_else():
    """`ls stages/*.py` = the verbs that dvc.yaml runs."""
    run = {*re.findall(r"python -m stages\.(\w+)", (ROOT / "dvc.yaml").read_text())}
    assert run == VERBS


def test_no_circle_of_imports():
    """Not between files, not between rooms, not even in functions."""
    files = {".".join(f.relative_to(ROOT).with_suffix("").parts): f for f in STAGES.rglob("*.py")}
    graph = {name: {m for m in imports(f) if m in files and m != name} for name, f in files.items()}
    rooms: dict[str, set[str]] = {}
    for name, reached in graph.items():
        rooms.setdefault(name.split(".")[1], set()).update(m.split(".")[1] for m in reached)
    for arrows in (graph, {room: to - {room} for room, to in rooms.items()}):
        TopologicalSorter(arrows).prepare()  # raises CycleError with the circle


def test_the_door_to_python_uses_nouns_and_nobody_uses_it():
    """`srlm` shows what `stages` has: no rule of its own, no verb, no command, nothing heavy before it is asked for."""
    door = ROOT / "srlm/_store.py"
    rooms = {module.split(".")[1] for module in imports(door) if module.startswith("stages.")}
    assert rooms
    assert rooms <= NOUNS
    assert not {module.split(".")[0] for module in imports(door, top_level_only=True)} & HEAVY
    assert not [file for file in STAGES.rglob("*.py") if any(m.split(".")[0] == "srlm" for m in imports(file))]


@pytest.mark.parametrize("noun", sorted(NOUNS))
def test_a_noun_uses_only_its_libraries(noun):
    for file in (STAGES / noun).rglob("*.py"):
        for module in imports(file):
            top = module.split(".")[0]
            assert top == "stages" or top in sys.stdlib_module_names or top in LIBRARIES[noun], (
                f"{file.relative_to(ROOT)} imports {top}"
            )


@pytest.mark.parametrize("file", sorted(STAGES.rglob("*.py")), ids=lambda f: str(f.relative_to(STAGES)))
def test_heavy_libraries_are_imported_where_they_are_used(file):
    """A no-op command and every rule must start without torch; a stage's cost is its imports."""
    allowed = (
        HEAVY
        if file.parent.name in {"models", "trainers", "tinyworld"} and file.name not in {"__init__.py", "checkpoint.py"}
        else set()
    )
    if file.parent.name == "backends" or file.name in {"sampling.py", "tokenization.py"}:
        allowed = HEAVY  # opened by name, through engines/open.py only
    assert not {m.split(".")[0] for m in imports(file, top_level_only=True)} & (HEAVY - allowed)


@pytest.mark.parametrize("verb", IN_THE_LOOP)
def test_the_loop_never_sees_the_oracle(verb):
    """The reward comes only from the model's own judgements: between M1 and M3 nothing can even import the checker."""
    reached = closure(f"stages.{verb}")
    assert len(reached) > 5, "the closure is followed"
    assert not {m for m in reached if m.startswith(tuple(ORACLE))}


def test_evaluation_and_seed_making_do_see_the_oracle():
    """The test above can fail."""
    for verb in ("evaluate", "split_seed", "get_model"):
        assert any(m.startswith("stages.tinyworld") for m in closure(f"stages.{verb}"))


@pytest.mark.parametrize("file", sorted(STAGES.rglob("*.py")), ids=lambda f: str(f.relative_to(STAGES)))
def test_every_file_opens_with_what_it_is_and_stays_short(file):
    text = file.read_text()
    assert ast.get_docstring(ast.parse(text)), file
    assert len(text.splitlines()) <= 340, f"{file}: a concept is hiding"


def test_no_remote_code_and_no_pickles():
    for file in STAGES.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.keyword):
                assert node.arg != "trust_remote_code" or (
                    isinstance(node.value, ast.Constant) and node.value.value is False
                ), file
            if isinstance(node, ast.Attribute):
                assert (getattr(node.value, "id", ""), node.attr) not in {
                    ("torch", "load"),
                    ("pickle", "load"),
                    ("pickle", "loads"),
                }, file


def test_no_two_test_files_have_one_name():
    """Folders of tests are no packages: pytest would import one file for both."""
    names = [file.name for file in (ROOT / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
