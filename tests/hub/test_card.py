"""Cards: people's words stay, ours are replaced, and what models wrote is seen as it is and never run."""

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
import yaml
from datasets import Features
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from stages.config.params import load_params
from stages.console.errors import HubError
from stages.console.text import for_terminal
from stages.hub import card, facts
from stages.hub.card import BEGIN, END, merge
from stages.hub.configs import Config, Split, configs, schema
from stages.method.pairing import FATES
from stages.store.tables import TABLES

OURS = {"license": "mit", "tags": ["dpo", "rlaif"], "configs": [{"config_name": "ift", "data_files": "ift.parquet"}]}
HEAD = "---\nlicense: cc0-1.0\nmine: [1, 2]\n---\n"


def merged(existing, section="Ours.", metadata=OURS, before=None):
    return merge("dataset", existing, section, metadata, before or {})


def metadata(text):
    return yaml.safe_load(text.split("---\n")[1])


# --- What people wrote ---


def test_where_there_is_no_card_ours_is_the_card():
    text = merged(None, metadata=OURS | {"pretty_name": "rows"})
    assert metadata(text) == OURS | {"pretty_name": "rows"}
    assert text.endswith(f"---\n\n# rows\n\n{BEGIN}\n\nOurs.\n\n{END}\n")


TEXTS = st.lists(
    st.sampled_from(["", "---", "# T", "a: b", "é\u202e😀", "<!-- x -->", "```"]) | st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=5)
).map("\n".join)


@settings(deadline=None, max_examples=50)
@given(above=TEXTS, below=TEXTS, head=st.sampled_from([HEAD, ""]))
def test_what_people_wrote_stays(above, below, head):
    assume(head or not above.lstrip().startswith("---"))
    once = merged(f"{head}{above}{BEGIN}\nold\n{END}{below}")
    before, ours, after = re.split(f"{re.escape(BEGIN)}|{re.escape(END)}", once)
    assert (ours, after) == ("\n\nOurs.\n\n", below)
    assert before.endswith(f"---\n{above}")
    assert metadata(before).get("mine") == ([1, 2] if head else None)
    assert merged(once, before=OURS) == once, "published twice it is the same"
    first = merged(head + above)
    assert first.partition(BEGIN)[0].endswith(f"---\n{above.rstrip()}\n\n")
    assert merged(first, before=OURS) == first


@pytest.mark.parametrize("text", ["---\r\nmine: [1, 2]\r\n---\r\n# Rows\r\n", "# Rows\r\nof Ann\r\n", "---\nmine: [1, 2]\n---\n1 %\r2 %\r3 %\r4 %\r5 %\r6 %"])
def test_whatever_its_line_ends_a_card_is_the_same_when_published_twice(text):
    once = merged(text)
    assert merged(once, before=OURS) == once


def test_a_byte_order_mark_hides_no_metadata():
    assert metadata(merged("\ufeff" + HEAD + "# Rows\n"))["mine"] == [1, 2]


def test_only_the_section_is_replaced():
    first = merged(f"{HEAD}# Rows\n\nBy Ann.\n", "One.")
    second = merged(first.replace(f"{END}\n", f"{END}\n\nMore of Ann.\n"), "Two.", before=OURS)
    assert second == first.replace("One.", "Two.") + "\nMore of Ann.\n"


def test_metadata_that_people_changed_stay():
    first = merged(None, metadata=OURS | {"language": ["en"]})
    theirs = first.replace("license: mit", "license: cc0-1.0\nextra: {a: [1]}").replace("- dpo", "- by-ann\n- dpo")
    told = metadata(merged(theirs, metadata=OURS | {"license": "apache-2.0", "language": ["de"]}, before=OURS | {"language": ["en"]}))
    assert (told["license"], told["extra"], told["language"]) == ("cc0-1.0", {"a": [1]}, ["de"])
    assert told["tags"] == ["by-ann", "dpo", "rlaif"]
    assert metadata(merged("---\ntags: [rlaif, x]\n---\n"))["tags"] == ["rlaif", "x", "dpo"]


def test_what_people_took_away_does_not_come_back():
    before = OURS | {"language": ["en"]}
    theirs = merged(None, metadata=before).replace("- dpo\n", "").replace("language:\n- en\n", "")
    told = metadata(merged(theirs, metadata=before | {"tags": ["dpo", "rlaif", "new"]}, before=before))
    assert (told["tags"], told.get("language"), told["license"]) == (["rlaif", "new"], None, "mit")
    assert metadata(merged(None, metadata=before, before=before)) == before, "a card that is gone is made anew"


@pytest.mark.parametrize(
    ("config", "files"),
    [
        ({"config_name": "a"}, ["*"]),
        ({"data_files": "a.csv"}, ["a.csv"]),
        ({"data_files": ["a.csv", "b.csv"]}, ["b.csv", "a.csv"]),
        ({"data_files": [{"split": "train", "path": ["a.csv"]}]}, ["train", "a.csv"]),
        ({"data_dir": "data/old", "data_files": "*.parquet"}, ["*.parquet", "data/old/*.parquet"]),
    ],
)
def test_files_that_a_config_reads(config, files):
    assert card.files_read("---\n" + yaml.safe_dump({"configs": [config]}) + "---\n") == files


def schema_of(name, *columns):
    return {"config_name": name, "features": [{"name": column, "dtype": "string"} for column in columns]}


def test_a_config_has_the_name_under_which_its_columns_are_published():
    (ift,) = (config for config in configs({}, raw=False) if config.name == "ift")
    (ours,) = card.metadata_of_configs([(ift, {})])["dataset_info"]
    old = schema_of("ift", "a")

    def name(published, suffix=None):
        return card.renamed(ift, published, suffix, taken={"ift_raw"}).name

    assert name([]) == name([ours]) == name([ours], "v2") == "ift"
    assert name([old], "v2") == name([old, ours | {"config_name": "ift_v2"}]) == name([ours | {"config_name": "ift_v2"}]) == "ift_v2"
    assert name([old, schema_of("ift_v2", "b")], "v3") == "ift_v3"
    assert name([ours, schema_of("ift_v2", "b")]) == "ift", "columns that come back have their name back"
    with pytest.raises(HubError, match="--new-config v2"):
        name([old, ours | {"config_name": "ift_raw"}])
    with pytest.raises(HubError, match="--new-config a name that is not there yet"):
        name([old, schema_of("ift_v2", "b")], "v2")


def test_configs_of_other_names_stay_and_ours_are_replaced():
    theirs = [{"config_name": "ann", "data_files": "ann.csv"}, {"data_files": "unnamed.csv"}, {"config_name": "ift_old", "data_files": "once ours"}]
    text = "---\n" + yaml.safe_dump({"configs": [{"config_name": "ift", "data_files": "old"}, *theirs]}) + "---\n"
    assert metadata(merged(text, before={"configs": [theirs[2]]}))["configs"] == [*theirs, *OURS["configs"]]
    assert merged(merged(text), before=OURS) == merged(text)


@pytest.mark.parametrize("theirs", [{"tags": "ann"}, {"configs": {"config_name": "ann", "data_files": "x"}}, {"dataset_info": {"config_name": "ann"}}])
def test_what_need_not_be_a_list_on_the_hub_is_one_entry(theirs):
    ((key, value),) = theirs.items()
    assert value in metadata(merged("---\n" + yaml.safe_dump(theirs) + "---\n", metadata=OURS | {"dataset_info": [{"config_name": "ift"}]}))[key]


@pytest.mark.parametrize("head", ["a: [", "- a\n- b", "just text", "1: 2", "a: !!python/name:os.system"])
def test_metadata_that_cannot_be_read_are_not_written_over(head):
    with pytest.raises(HubError, match=r"metadata at the top of README.md are not readable"):
        merged(f"---\n{head}\n---\n# Rows\n")
    assert card.metadata_of(f"---\n{head}\n---\n") == {}


@pytest.mark.parametrize("body", [BEGIN, END, f"{END}\n{BEGIN}", f"{BEGIN}{BEGIN}{END}", f"{BEGIN}{END}{END}", f"{BEGIN}{END}{BEGIN}{END}"])
def test_half_of_the_marks_or_twice_is_for_people_to_mend(body):
    with pytest.raises(HubError, match="Put both back, each once and in this order, or delete both"):
        merged(f"{HEAD}# Rows\n{body}\nmore")


# --- What models wrote ---


class Seen(HTMLParser):
    """What a reader sees: the elements, the text, and the rows of tables."""

    def __init__(self, markdown):
        super().__init__()
        self.elements, self.text, self.rows, self.in_cell = Counter(), "", [], False
        self.feed(MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown))

    def handle_starttag(self, tag, attrs):
        self.elements[tag, *attrs] += 1
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
            self.in_cell = True

    def handle_endtag(self, tag):
        self.in_cell = self.in_cell and tag not in ("td", "th")

    def handle_comment(self, data):
        self.elements["comment"] += 1

    def handle_data(self, data):
        self.text += data
        if self.in_cell:
            self.rows[-1][-1] += data


PARAMS = load_params(Path(card.__file__).parents[1] / "config/profiles", "scripted.yaml")
COUNTS = {"prompts": 8, "dropped": {"repeat": 2}, "candidates": 28, "judgements": 60, "unparsed": 4, "ties": 2, "pairs": 3}
COUNTS |= {"pair_yield": 0.375, "mean_score": 2.5, "mean_margin": 1.25, "unreadable_share": 1 / 15, "warned": []}
M1 = COUNTS | {"fates": dict(zip(FATES, range(1, 8), strict=True)), "score_histogram": {"0": 6, "0.5": 0, "2.5": 10, "5": 40}}
M2 = COUNTS | {"dropped": {"too long": 1}, "fates": dict.fromkeys(FATES, 4), "score_histogram": {"0": 0, "0.5": 0, "2.5": 56, "5": 0}}
FIGURE = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 4}
JUDGE = dict.fromkeys(("pairwise_accuracy", "tie_share", "spearman", "unreadable_share"), FIGURE)
METRICS = {"AIFT-M1": M1, "AIFT-M2": M2, "M1": {"judge": JUDGE, "writer": {"greedy": {"chars": FIGURE, "oracle_score": FIGURE}}}}


def rendered(metrics=METRICS, raw=False, pair=None, **changes):
    made = configs({"M1": "M2", "M2": "M3"}, raw=raw)
    told = {"repo": "ann/rows", "params": PARAMS, "base": "M0", "seed_data": "files", "versions": "trl 1", "licences": {"data": "mit", "model": "mit"}}
    told |= {"models": [], "params_text": "seed: 1", "code_of": {"git": "ab", "dvc_lock": "cd"}}
    told["configs"] = facts.described([(config, False) for config in made], {(config.name, split.name): 7 for config in made for split in config.splits})
    told["example"] = pair and {"model": "M2", "chosen_score": 5.0, "rejected_score": 0.0} | pair
    return card.render("dataset", **told | facts.of_the_loop(PARAMS, metrics) | changes)


def everywhere(text):
    """A card with this text in each place that tells what is not ours: four times on lines of its own, seven times within one."""
    parents = [{"name": "M2", "parent": text, "method": text, "reference": text, "md5": "ab", "tables": {}}]
    metrics = METRICS | {"AIFT-M1": M1 | {"warned": [text], "dropped": {text: 2}}}
    pair = dict.fromkeys(("prompt", "chosen", "rejected"), text)
    return rendered(metrics, pair=pair, params_text=text, base=text, seed_data=text, models=parents, licences={"data": text, "model": "mit"})


HOSTILE = ["</pre><script>alert(1)</script>", "</details>", "<img src=x onerror=alert(1)>", "<http://e.vil>", "&lt;", "<!--", "-->", BEGIN, END]
HOSTILE += ["![i](http://e.vil/x.png)", "[l](javascript:alert(1))", "`x`", "```\n", "**b**", "|", "\\", "\n\n", "\n# h\n", "\n---\n", "\n- ", "\n    "]
HOSTILE += ["{{ 7*7 }}", "{% raw %}", "\x1b[31m", "\u202e", "\r"]


@settings(deadline=None, max_examples=40)
@given(parts=st.lists(st.sampled_from(HOSTILE) | st.text(max_size=9), max_size=8))
@example(parts=HOSTILE)
def test_a_reader_sees_text_as_it_is_and_none_of_it_does_anything(parts):
    text = f"x{''.join(parts)}y"
    section = everywhere(text)
    seen = Seen(section)
    assert seen.elements == Seen(everywhere("x")).elements, "it is no element, and ends none"
    assert seen.text.count("\n".join(for_terminal(line) for line in text.split("\n"))) >= 4
    assert seen.text.count(for_terminal(text)) >= 7
    assert not {"\x1b", "\u202e", "\r"} & set(section)
    whole = merged(HEAD, section)
    assert (whole.count(BEGIN), whole.count(END), merged(whole, section, before=OURS)) == (1, 1, whole)


@given(st.text(st.characters(max_codepoint=0x2FF), min_size=1, max_size=9) | st.text("ab_/.`|<\\\n*", min_size=1, max_size=5))
def test_code_is_printed_as_it_is_or_refused(text):
    try:
        printed = card.code(text)
    except HubError:
        return
    seen = Seen(f"| a |\n|---|\n| `{printed}` |")
    assert (seen.elements[("code",)], seen.rows[1][0].strip()) == (1, text.strip())


@pytest.mark.parametrize("text", ["a`b", "a|b", "a<b", 'a"b', "a'b", "a\\b", "a\n", "a\u202eb", "a&b", END])
def test_what_could_end_code_is_refused(text):
    with pytest.raises(HubError, match="cannot stand in a card's code"):
        card.code(text)


# --- What the cards tell ---


def cells(section):
    return {row[0]: row[1:] for row in Seen(section).rows}


def test_fates_and_scores_add_up():
    told = cells(rendered())
    assert told[""] == ["AIFT(M1)", "AIFT(M2)"]
    scores = [name for name in told if name.startswith("score ")]
    assert scores == ["score 0", "score 2.5", "score 5"], "0.5 was never given"
    for parts, whole in ((FATES, "candidates"), ([*scores, "unreadable (null, never a score)"], "judgements")):
        assert [sum(map(int, column)) for column in zip(*(told[part] for part in parts), strict=True)] == [int(n) for n in told[whole]]
    assert (told["prompts dropped: repeat"], told["prompts dropped: too long"]) == (["2", "0"], ["0", "1"])
    assert told["prompts that gave a pair, %"] == ["37.5", "37.5"]
    assert told["prompts without one, best and worst tied, %"] == ["25.0", "25.0"]


def test_unknown_is_a_dash_and_never_a_number():
    null = {"value": None, "low": None, "high": None, "n": 0}
    m1 = {"judge": JUDGE | {"spearman": null}, "writer": {"greedy": {"chars": FIGURE, "oracle_score": null}}}
    told = cells(rendered({"AIFT-M1": M1 | {"mean_score": None, "pair_yield": None, "prompts": 0}, "M1": m1}))
    assert told["mean score"] == told["prompts that gave a pair, %"] == told["prompts without one, best and worst tied, %"] == ["–"]
    assert told["M1"] == ["50.0", "50.0", "–", "50.0", "0"], "no checker, no column of its scores"


def test_a_store_without_evaluation_or_without_aift_has_a_card():
    assert "Nothing was evaluated." in rendered({"AIFT-M1": M1})
    assert "Nothing was evaluated." not in rendered()
    assert cells(rendered({}))["candidates"] == []


def test_every_column_of_every_contract_stands_in_the_card():
    rows = [tuple(row) for row in Seen(rendered(raw=True)).rows]
    for config in configs({"M1": "M2", "M2": "M3"}, raw=True):
        for c in config.table.columns:
            assert (c.name, str(c.dtype) + (", null is unknown" if c.nullable else ""), c.meaning.replace("`", "")) in rows
        for split in config.splits:
            made_by = split.table.made_by + (f"@{split.model}" if split.model else "")
            assert (config.name, split.name, "7", made_by, config.trains if split.name == "train" else "nothing: held out", split.table.meaning) in rows


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_metadata_have_the_features_that_datasets_reads(table):
    config = Config("x", (Split("train", table, "M1"), Split("valid", table, "M1")))
    sizes = {name: {"rows": rows, "bytes": 10 * rows, "stored": rows, "paths": [f"{name}.parquet"]} for name, rows in (("train", 3), ("valid", 1))}
    made = yaml.safe_load(yaml.safe_dump(card.metadata_of_configs([(config, sizes)])))
    (info,) = made["dataset_info"]
    assert Features._from_yaml_list(info["features"]) == Features.from_arrow_schema(schema(table))
    assert (info["splits"][0], info["download_size"], info["dataset_size"]) == ({"name": "train", "num_bytes": 30, "num_examples": 3}, 4, 40)
    paths = [{"split": name, "path": [f"{name}.parquet"]} for name in ("train", "valid")]
    assert made["configs"] == [{"config_name": "x", "data_files": paths}]


def test_fates_that_do_not_add_up_are_not_published():
    with pytest.raises(HubError, match=r"AIFT-M1\.json: 29 candidates have 28 fates"):
        rendered(METRICS | {"AIFT-M1": M1 | {"candidates": 29}})


def test_what_was_warned_of_models_that_are_no_longer_made_is_not_told():
    assert "once" not in rendered(METRICS | {"AIFT-M9": M1 | {"warned": ["once"]}, "drift-M9": {"warned": ["once"]}})
    assert "Warned of while it was made: drift\\-M2: now" in rendered(METRICS | {"drift-M2": {"warned": ["now"]}})


def test_two_kinds_of_score_can_be_missing():
    expected = PARAMS.model_copy(update={"judge_candidates": PARAMS.judge_candidates.model_copy(update={"score": "expected"})})
    of_m1 = METRICS | {"AIFT-M1": M1 | {"unreadable_share": 0.5}}
    for params, told in ((PARAMS, False), (expected, True)):
        text = rendered(of_m1, params=params)
        rows = {row[0]: row[1:] for row in Seen(text).rows if row}
        assert rows["judgements without a score, %"][0] == "6.7", "as many as the row of the unreadable ones says"
        assert rows.get("judgements without an expected score, %", [None])[0] == ("50.0" if told else None)
