"""What README.md and docs/ say is so: commands, options, modules, keys and paths exist; tables are generated; README
stays a page."""

import importlib.util
import re
import shlex
from pathlib import Path

import pytest
from ruamel.yaml import YAML
from typer.main import get_command
from typer.testing import CliRunner

from benchmarks import readme_tables
from docs.configuration import page
from docs.formats import table
from stages.commands import cli
from stages.config.params import Params

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()
FILES = (*ROOT.glob("*.md"), *sorted((ROOT / "docs").rglob("*.md")), ROOT / "stages/README.md")
PAGES = {str(f.relative_to(ROOT)): f.read_text() for f in FILES if f.name != "CHANGELOG.md"}
COMMANDS = get_command(cli.app).commands
each_page = pytest.mark.parametrize("name", PAGES)


def blocks(text: str, language: str = "") -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", text, flags=re.MULTILINE | re.DOTALL)


def test_readme_is_a_page():
    assert len(README.splitlines()) <= 150


def test_the_skill_is_a_page_and_what_it_reads_by_machine_can_be():
    """Every command that reads has --json; those that write a file, or run, have not all."""
    assert len(PAGES["SKILL.md"].splitlines()) <= 100
    writes = {"profile", "init", "repro", "report", "publish", "export", "watch"}
    for name, command in COMMANDS.items():
        for each in getattr(command, "commands", {name: command}).values():
            options = {option for parameter in each.params for option in parameter.opts}
            assert "--json" in options or {name, each.name} & writes, name


def test_tables_are_what_data_results_holds():
    readme_tables.main(check=True, root=ROOT)


def test_the_configuration_is_fresh():
    assert PAGES["docs/configuration.md"] == page(), "python -m docs.configuration > docs/configuration.md"


def test_the_formats_of_data_are_those_that_are_read():
    assert table() in PAGES["docs/data.md"], "python -m docs.formats, into docs/data.md"


@each_page
def test_commands_exist_and_take_these_options(name):
    text = PAGES[name]
    named = set(re.findall(r"(?:`|^)srlm ([a-z][a-z-]*)", text, flags=re.MULTILINE))
    assert named <= set(COMMANDS)
    for line in "\n".join(blocks(text)).splitlines():
        words = shlex.split(line, comments=True) if line.startswith("srlm ") else []
        if words:
            command = COMMANDS[words[1]]
            command = getattr(command, "commands", {}).get(words[2], command) if len(words) > 2 else command
            known = {option for parameter in command.params for option in parameter.opts}
            assert {word for word in words if word.startswith("-")} <= known, line


def test_every_command_is_in_readme_and_explains_itself():
    assert set(re.findall(r"srlm ([a-z][a-z-]*)", README)) >= set(COMMANDS), "a command that the README does not show"
    for command in COMMANDS:
        done = CliRunner().invoke(cli.app, [command, "--help"])
        assert done.exit_code == 0
        assert len(done.output.splitlines()) > 3


@each_page
def test_modules_and_make_targets_exist(name):
    for module in re.findall(r"python -m ((?:stages|benchmarks|docs)[\w.]*)", PAGES[name]):
        assert module.isupper() or module.endswith("NAME") or importlib.util.find_spec(module), module
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"(?:^|`)make ([a-z-]+)", PAGES[name], flags=re.MULTILINE)) <= targets


@each_page
def test_links_paths_and_anchors_lead_somewhere(name):
    text, folder = PAGES[name], (ROOT / name).parent
    for target in re.findall(r"\]\((?!http|#)([^)#]+)", text):
        assert (folder / target).exists(), target
    for path in re.findall(
        r"`((?:stages|method|models|trainers|engines|templates|tests|docs|benchmarks)/[\w./]*)`", text
    ):
        assert (ROOT / path).exists() or (ROOT / "stages" / path).exists(), path
    headings = {
        re.sub(r"[^a-z0-9 -]", "", h.lower()).replace(" ", "-")
        for h in re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)
    }
    assert set(re.findall(r"\]\(#([^)]+)\)", text)) <= headings


@each_page
def test_yaml_blocks_and_keys_are_of_params_yaml(name):
    params = YAML(typ="safe").load(ROOT / "params.yaml")
    for block in blocks(PAGES[name], "yaml"):
        given = YAML(typ="safe").load(block.replace(", ...", ""))
        assert set(given) <= set(params), block
        for section, content in given.items():
            if isinstance(content, dict) and section in {"split_seed", "engine", "hardware", "judge_candidates"}:
                assert set(content) <= {*params[section], "servers"}, block
    for key in re.findall(r"`([a-z_]+\.[a-z_]+)`", PAGES[name]):
        section, entry = key.split(".")
        if section in Params.model_fields and isinstance(params.get(section), dict):
            assert entry in {*params[section], "servers"} or section in {"external", "base"}, key


def test_the_tests_that_docs_paper_names_exist():
    named = re.findall(r"(tests/[\w/]+\.py)(?:::(\w+))?", PAGES["docs/paper.md"])
    assert len(named) > 25
    for file, test in named:
        assert f"def {test}(" in (ROOT / file).read_text() if test else (ROOT / file).is_file(), (file, test)


def test_each_number_of_the_paper_is_marked():
    """Those of the method, in the profile: paper's, or ours."""
    profile = (ROOT / "stages/config/profiles/paper.yaml").read_text()
    for section in ("train_sft", "train_dpo", "write_prompts", "evaluate"):
        lines = profile.split(f"\n{section}:\n")[1].split("\n\n")[0].split("\n")
        for line in lines[: next((i for i, line in enumerate(lines) if not line.startswith("  ")), None)]:
            if re.search(r": .*([0-9]|true|float|sigmoid)", line):
                assert re.search(r"# (paper|ours)\b", line), line


def test_stages_of_the_paper_table_are_stages():
    names = {f.stem for f in (ROOT / "stages").glob("*.py")}
    table = README.split("## Paper → stage → table")[1].split("\n\n")[1]
    for line in table.splitlines()[2:]:
        for stage in re.findall(r"`([a-z_]+)`", line.split("|")[2]):
            assert stage in names, stage


def test_profiles_it_names_exist():
    for name in re.search(r"`srlm profile ([a-z| ]+)`", README)[1].split(" | "):
        assert (ROOT / f"stages/config/profiles/{name}.yaml").is_file()


def test_no_merge_was_left_half_done():
    for name, text in {**PAGES, "CHANGELOG.md": (ROOT / "CHANGELOG.md").read_text()}.items():
        assert not re.search(r"^(<{7} |={7}$|>{7} )", text, re.MULTILINE), name


def test_the_map_of_the_house_names_every_verb_and_folder():
    named = set(re.findall(r"\w+", blocks(PAGES["stages/README.md"])[0]))
    stages = ROOT / "stages"
    assert {f.stem for f in stages.glob("[a-z]*.py")} <= named
    assert {f.name for f in stages.iterdir() if f.is_dir() and f.name[0].isalpha()} <= named
