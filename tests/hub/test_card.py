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

from stages.config.load import load_params
from stages.config.params import Params
from stages.console.errors import HubError
from stages.hub import card, facts
from stages.hub.card import BEGIN, END, merge
from stages.hub.configs import Config, Split, configs, schema
from stages.method.pairing import FATES
from stages.store.tables import SCORES, TABLES
from stages.text.escape import for_terminal

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
    st.sampled_from(["", "---", "# T", "a: b", "é\u202e😀", "<!-- x -->", "```"])
    | st.text(st.characters(codec="utf-8", exclude_characters="\r"), max_size=5)
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


@pytest.mark.parametrize(
    "text",
    [
        "---\r\nmine: [1, 2]\r\n---\r\n# Rows\r\n",
        "# Rows\r\nof Ann\r\n",
        "---\nmine: [1, 2]\n---\n1 %\r2 %\r3 %\r4 %\r5 %\r6 %",
    ],
)
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
    told = metadata(
        merged(
            theirs, metadata=OURS | {"license": "apache-2.0", "language": ["de"]}, before=OURS | {"language": ["en"]}
        )
    )
    assert (told["license"], told["extra"], told["language"]) == ("cc0-1.0", {"a": [1]}, ["de"])
    assert told["tags"] == ["by-ann", "dpo", "rlaif"]
    assert metadata(merged("---\ntags: [rlaif, x]\n---\n"))["tags"] == ["rlaif", "x", "dpo"]


def test_what_people_say_of_a_config_of_ours_stays():
    first = merged(None, metadata=OURS)
    theirs = first.replace("- config_name: ift", "- config_name: ift\n  default: true")
    assert theirs != first
    now = OURS | {"configs": [{"config_name": "ift", "data_files": "other.parquet"}]}
    assert metadata(merged(theirs, metadata=now, before=OURS))["configs"] == [
        {"config_name": "ift", "default": True, "data_files": "other.parquet"}
    ]


def test_what_people_took_away_does_not_come_back():
    before = OURS | {"language": ["en"]}
    theirs = merged(None, metadata=before).replace("- dpo\n", "").replace("language:\n- en\n", "")
    told = metadata(merged(theirs, metadata=before | {"tags": ["dpo", "rlaif", "new"]}, before=before))
    assert (told["tags"], told.get("language"), told["license"]) == (["rlaif", "new"], None, "mit")
    assert metadata(merged(None, metadata=before, before=before)) == before, "a card that is gone is made anew"


def test_a_tag_of_ours_that_is_true_no_more_goes_and_theirs_stays():
    before = OURS | {"tags": ["dpo", "rlaif"]}
    theirs = merged(None, metadata=before).replace("- rlaif\n", "- rlaif\n- german\n")
    assert metadata(merged(theirs, metadata=OURS | {"tags": ["dpo"]}, before=before))["tags"] == ["dpo", "german"]


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
    (ift,) = (config for config in configs({}) if config.name == "ift")
    (ours,) = card.metadata_of_configs([(ift, {})])["dataset_info"]
    old = schema_of("ift", "a")

    def name(published, suffix=None, ours=("ift", "ift_v2")):
        return card.renamed(ift, published, ours, suffix, taken={"ift_raw"}).name

    assert name([]) == name([ours]) == name([ours], "v2") == "ift"
    assert (
        name([old], "v2")
        == name([old, ours | {"config_name": "ift_v2"}])
        == name([ours | {"config_name": "ift_v2"}])
        == "ift_v2"
    )
    assert name([old, schema_of("ift_v2", "b")], "v3") == "ift_v3"
    assert name([ours, schema_of("ift_v2", "b")]) == "ift", "columns that come back have their name back"
    with pytest.raises(HubError, match="--new-config v2"):
        name([old, ours | {"config_name": "ift_raw"}])
    with pytest.raises(HubError, match="by somebody else"):
        name([ours], ours=())
    with pytest.raises(HubError, match="--new-config a name that is not there yet"):
        name([old, schema_of("ift_v2", "b")], "v2")


def test_configs_of_other_names_stay_and_ours_are_replaced():
    theirs = [
        {"config_name": "ann", "data_files": "ann.csv"},
        {"data_files": "unnamed.csv"},
        {"config_name": "ift_old", "data_files": "once ours"},
    ]
    text = "---\n" + yaml.safe_dump({"configs": [{"config_name": "ift", "data_files": "old"}, *theirs]}) + "---\n"
    assert metadata(merged(text, before={"configs": [theirs[2]]}))["configs"] == [*theirs, *OURS["configs"]]
    assert merged(merged(text), before=OURS) == merged(text)


@pytest.mark.parametrize(
    "theirs",
    [{"tags": "ann"}, {"configs": {"config_name": "ann", "data_files": "x"}}, {"dataset_info": {"config_name": "ann"}}],
)
def test_what_need_not_be_a_list_on_the_hub_is_one_entry(theirs):
    ((key, value),) = theirs.items()
    assert (
        value
        in metadata(
            merged(
                "---\n" + yaml.safe_dump(theirs) + "---\n", metadata=OURS | {"dataset_info": [{"config_name": "ift"}]}
            )
        )[key]
    )


@pytest.mark.parametrize("head", ["a: [", "- a\n- b", "just text", "1: 2", "a: !!python/name:os.system"])
def test_metadata_that_cannot_be_read_are_not_written_over(head):
    with pytest.raises(HubError, match=r"metadata at the top of README.md are not readable"):
        merged(f"---\n{head}\n---\n# Rows\n")
    assert card.metadata_of(f"---\n{head}\n---\n") == {}


@pytest.mark.parametrize(
    "body", [BEGIN, END, f"{END}\n{BEGIN}", f"{BEGIN}{BEGIN}{END}", f"{BEGIN}{END}{END}", f"{BEGIN}{END}{BEGIN}{END}"]
)
def test_half_of_the_marks_or_twice_is_for_people_to_mend(body):
    with pytest.raises(HubError, match="Put both back, each once and in this order, or delete both"):
        merged(f"{HEAD}# Rows\n{body}\nmore")


# --- What models wrote ---


class Seen(HTMLParser):
    """What a reader sees: the elements, the text, and the rows of all tables, and of each."""

    def __init__(self, markdown):
        super().__init__()
        self.elements, self.text, self.rows, self.tables, self.in_cell = Counter(), "", [], [], False
        self.feed(MarkdownIt("commonmark", {"html": True}).enable("table").render(markdown))

    def handle_starttag(self, tag, attrs):
        self.elements[tag, *attrs] += 1
        if tag == "table":
            self.tables.append([])
        elif tag == "tr":
            self.rows.append([])
            self.tables[-1].append(self.rows[-1])
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


PARAMS = load_params(Path(card.__file__).parents[1] / "config/profiles", "tiny.yaml")
COUNTS = {
    "prompts": 8,
    "dropped": {"repeat": 2},
    "candidates": 28,
    "judgements": 60,
    "unparsed": 4,
    "ties": 2,
    "pairs": 3,
}
COUNTS |= {"pair_yield": 0.375, "mean_score": 2.5, "mean_margin": 1.25, "unreadable_share": 1 / 15, "warned": []}
M1 = COUNTS | {
    "fates": dict(zip(FATES, range(1, 8), strict=True)),
    "score_histogram": {"0": 6, "0.5": 0, "2.5": 10, "5": 40},
}
M2 = COUNTS | {
    "dropped": {"too long": 1},
    "fates": dict.fromkeys(FATES, 4),
    "score_histogram": {"0": 0, "0.5": 0, "2.5": 56, "5": 0},
}
FIGURE = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 4}
JUDGE = dict.fromkeys(("pairwise_accuracy", "tie_share", "spearman", "unreadable_share"), FIGURE)
WRITER = dict.fromkeys(("oracle_score", "fully_right", "all_five", "chars", "tokens", "cut_off"), FIGURE)
METRICS = {"AIFT-M1": M1, "AIFT-M2": M2, "M1": {"judge": JUDGE, "writer": {"greedy": WRITER}}}
EFT = {
    "ranked_prompts": 9,
    "ranked_answers": 20,
    "judgements": 80,
    "unparsed": 3,
    "agreeing_prompts": 5,
    "agreeing": 12,
    "thinned": 2,
    "eft": 10,
}
EFT |= {"score_histogram": {"0.5": 3, "4": 7}}


def rendered(metrics=METRICS, raw=False, pair=None, params=PARAMS, **changes):
    made = [config for config in configs({"M1": "M2", "M2": "M3"}) if raw or not config.raw]
    told = {
        "repo": "ann/rows",
        "params": params,
        "base": "M0",
        "seed_data": "files",
        "versions": "trl 1",
        "licences": {"data": "mit", "model": "mit"},
    }
    told |= {
        "url": "https://hub/datasets/ann/rows",
        "models": [],
        "params_text": "seed: 1",
        "code_of": {"git": "ab", "dvc_lock": "cd"},
    }
    rows = {(config.name, split.name): 7 for config in made for split in config.splits}
    told["configs"] = facts.described(made, rows, params)
    told["example"] = pair and {"model": "M2", "chosen_score": 5.0, "rejected_score": 0.0} | pair
    return card.render(
        "dataset", **told | facts.generation_summary(params) | facts.of_the_loop(params, metrics) | changes
    )


def of_model(name, parent, method, *tables, **params):
    data = {f"data/{table}.parquet": "ab" for table in tables} | ({f"data/models/{parent}": "cd"} if parent else {})
    return {name: {"name": name, "parent": parent, "method": method, "data": data, "seed": 1, "params": params}}


LINEAGES = (
    of_model("M0", None, "tinyworld")
    | of_model("SFT", "M0", "sft", "IFT/train")
    | of_model("M1", "M0", "sft", "IFT/train", "EFT/train")
)
LINEAGES |= of_model("M2", "M1", "dpo", "AIFT/M1/pairs") | of_model("M3", "M2", "dpo", "AIFT/M2/pairs")
LINEAGES |= of_model(
    "M2P", "M0", "sft", "IFT/train", "EFT/train", "AIFT/M1/prompts", "AIFT/M1/candidates", "AIFT/M1/scores"
)
FILES = {
    "a": ("ift", "IFT/train", 3),
    "b": ("ift", "IFT/train", 2),
    "c": ("ift", "IFT/valid", 9),
    "d": ("eft", "EFT/train", 4),
}
FILES |= {
    f"{m}{t}": (f"aift_m{m}_{t}", f"AIFT/M{m}/{t}", 6) for m in (1, 2) for t in ("prompts", "candidates", "scores")
}
FILES |= {f"{m}": (f"aift_m{m}", f"AIFT/M{m}/pairs", m) for m in (1, 2)}
FILES = {
    file: {"config": config, "table": f"data/{table}.parquet", "rows": rows}
    for file, (config, table, rows) in FILES.items()
}
"""What the datasets' repository holds: a config, a table of the store, and rows."""


def model_rendered(name, params=PARAMS, metrics=METRICS, lineages=LINEAGES, figures=None, **changes):
    told = {
        "repo": f"ann/rows-{name}",
        "url": f"https://hub/ann/rows-{name}",
        "dataset_url": "https://hub/datasets/ann/rows",
        "params": params,
        "base": "M0",
    }
    told |= {
        "seed_data": facts.seed_in_words(params),
        "versions": "trl 1",
        "licences": {"data": "mit", "model": "mit"},
        "code_of": {"git": "ab", "dvc_lock": "cd"},
    }
    config_of = {about["table"]: about["config"] for about in FILES.values()}
    told |= {"model": lineages[name], "md5": "ef", "metrics": figures, "matches": []}
    told["trained_on"] = [config_of[table] for table in lineages[name]["data"] if table in config_of]
    return card.render("model", **told | facts.of_the_model(name, params, metrics, lineages, FILES) | changes)


def match(other, **shares):
    return {"other": other, "win": FIGURE, "tie": FIGURE, "lose": FIGURE, "n": 4, "unreadable": 0} | shares


def everywhere(text):
    """A card with this text in each place that tells what is not ours: four times on lines of its own, seven times and
    more within one."""
    parents = [{"name": "M2", "parent": text, "method": text, "reference": text, "md5": "ab", "tables": {}}]
    metrics = METRICS | {"AIFT-M1": M1 | {"warned": [text], "dropped": {text: 2}}}
    pair = dict.fromkeys(("prompt", "chosen", "rejected"), text)
    made = {
        "made": [{"model": text, "writer": text, "judge": text, "rho": None}],
        "writers": text,
        "judging": text,
        "chains": [text],
    }
    made |= {
        "engines": dict.fromkeys(("prompts", "answers", "judgements", "EFT"), text),
        "scripted": ["answers"],
        "scripted_in_words": text,
    }
    metrics |= {"EFT": EFT}
    return rendered(
        metrics,
        pair=pair,
        params_text=text,
        base=text,
        seed_data=text,
        models=parents,
        licences={"data": text, "model": "mit"},
        **made,
    )


def everywhere_in_a_model(text):
    """As `everywhere`, of a model that learnt from another's opinion."""
    known = {
        "name": text,
        "parent": text,
        "method": text,
        "reference": text,
        "seed": text,
        "data": {},
        "params": {text: text},
    }
    told = {
        "model": known,
        "aift": {"model": text, "judge": f"{text}'s judge"},
        "all_read": [text],
        "warnings": [],
        "base": text,
        "seed_data": text,
    }
    told |= {"scripted": text, "matches": [match(text)], "compared_by": text}
    quiet = model_rendered("M2", versions=text, licences={"data": text, "model": text}, **told)
    return quiet + model_rendered("M2", **told | {"warnings": [{"dataset": text, "text": text}]})


HOSTILE = [
    "</pre><script>alert(1)</script>",
    "</details>",
    "<img src=x onerror=alert(1)>",
    "<http://e.vil>",
    "&lt;",
    "<!--",
    "-->",
    BEGIN,
    END,
]
HOSTILE += [
    "![i](http://e.vil/x.png)",
    "[l](javascript:alert(1))",
    "`x`",
    "```\n",
    "**b**",
    "|",
    "\\",
    "\n\n",
    "\n# h\n",
    "\n---\n",
    "\n- ",
    "\n    ",
]
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
    assert seen.text.count(for_terminal(text)) >= 7 + 9
    model, plain = (Seen(everywhere_in_a_model(said)) for said in (text, "x"))
    assert model.elements == plain.elements
    assert model.text.count(for_terminal(text)) >= 2 * 12
    assert not {"\x1b", "\u202e", "\r"} & set(section + everywhere_in_a_model(text))
    whole = merged(HEAD, section)
    assert (whole.count(BEGIN), whole.count(END), merged(whole, section, before=OURS)) == (1, 1, whole)


@given(
    st.text(st.characters(max_codepoint=0x2FF), min_size=1, max_size=9)
    | st.text("ab_/.`|<\\\n*", min_size=1, max_size=5)
)
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


def params_with(**sections):
    """The tiny profile with other keys in some sections; those that map names are given whole."""
    old = PARAMS.model_dump()
    whole = ("external", "aift", "models", "drift", "positive_only", "head_to_head")
    return Params.model_validate(
        old
        | {
            name: new if name in whole or not isinstance(new, dict) else old[name] | new
            for name, new in sections.items()
        }
    )


def words(markdown):
    """As a reader reads them, on one line."""
    return " ".join(Seen(markdown).text.split())


def cells(section):
    return {row[0]: row[1:] for row in Seen(section).rows}


TIED = "prompts without one, best minus worst not above 0.5, or one usable answer only, %"
UNUSABLE = "prompts without one, no usable answer, %"


def test_fates_and_scores_add_up():
    told = cells(rendered())
    assert told[""] == ["AIFT(M1)", "AIFT(M2)"]
    scores = [name for name in told if name.startswith("score ")]
    assert scores == ["score 0", "score 2.5", "score 5"], "0.5 was never given"
    for parts, whole in ((FATES, "candidates"), ([*scores, "unreadable (null, never a score)"], "judgements")):
        assert [sum(map(int, column)) for column in zip(*(told[part] for part in parts), strict=True)] == [
            int(n) for n in told[whole]
        ]
    assert (told["prompts dropped: repeat"], told["prompts dropped: too long"]) == (["2", "0"], ["0", "1"])
    assert told["prompts that gave a pair, %"] == ["37.5", "37.5"]
    assert (told[TIED], told[UNUSABLE]) == (["25.0", "25.0"], ["37.5", "37.5"]), "with those that gave a pair 100 %"


def test_unknown_is_a_dash_and_never_a_number():
    null = {"value": None, "low": None, "high": None, "n": 0}
    m1 = {"judge": JUDGE | {"spearman": null}, "writer": {"greedy": WRITER | {"oracle_score": null}}}
    told = cells(rendered({"AIFT-M1": M1 | {"mean_score": None, "pair_yield": None, "prompts": 0}, "M1": m1}))
    assert told["mean score"] == told["prompts that gave a pair, %"] == told[TIED] == told[UNUSABLE] == ["–"]
    assert told["M1"] == ["50.0", "50.0", "–", "50.0", "0"], "no checker, no column of its scores"


def test_a_store_without_evaluation_or_without_aift_has_a_card():
    assert "Nothing was evaluated." in rendered({"AIFT-M1": M1})
    assert "Nothing was evaluated." not in rendered()
    assert cells(rendered({}))["candidates"] == []


def test_every_column_of_every_contract_stands_in_the_card():
    rows = [tuple(row) for row in Seen(rendered(raw=True)).rows]
    for config in configs({"M1": "M2", "M2": "M3"}):
        for c in config.table.columns:
            assert (
                c.name,
                str(c.dtype) + (", null is unknown" if c.nullable else ""),
                c.meaning.replace("`", ""),
            ) in rows
        for split in config.splits:
            made_by = split.table.made_by + (f"@{split.model}" if split.model else "")
            assert (
                config.name,
                split.name,
                "7",
                made_by,
                config.trains if split.name == "train" else "nothing: held out",
                split.table.meaning,
            ) in rows


@pytest.mark.parametrize("table", TABLES, ids=lambda table: table.name)
def test_the_metadata_have_the_features_that_datasets_reads(table):
    config = Config("x", (Split("train", table, "M1"), Split("valid", table, "M1")))
    sizes = {
        name: {"rows": rows, "bytes": 10 * rows, "stored": rows, "paths": [f"{name}.parquet"]}
        for name, rows in (("train", 3), ("valid", 1))
    }
    made = yaml.safe_load(yaml.safe_dump(card.metadata_of_configs([(config, sizes)])))
    (info,) = made["dataset_info"]
    assert Features._from_yaml_list(info["features"]) == Features.from_arrow_schema(schema(table))
    assert (info["splits"][0], info["download_size"], info["dataset_size"]) == (
        {"name": "train", "num_bytes": 30, "num_examples": 3},
        4,
        40,
    )
    paths = [{"split": name, "path": [f"{name}.parquet"]} for name in ("train", "valid")]
    assert made["configs"] == [{"config_name": "x", "data_files": paths}]


def test_fates_that_do_not_add_up_are_not_published():
    with pytest.raises(HubError, match=r"AIFT-M1\.json: 29 candidates have 28 fates"):
        rendered(METRICS | {"AIFT-M1": M1 | {"candidates": 29}})


def test_what_was_warned_of_models_that_are_no_longer_made_is_not_told():
    assert "once" not in rendered(METRICS | {"AIFT-M9": M1 | {"warned": ["once"]}, "drift-M9": {"warned": ["once"]}})
    assert "Warned of while it was made: drift\\-M2: now" in rendered(METRICS | {"drift-M2": {"warned": ["now"]}})


def test_two_kinds_of_score_can_be_missing():
    expected = params_with(engine={"name": "transformers"}, judge_candidates={"score": "expected"})
    of_m1 = METRICS | {"AIFT-M1": M1 | {"unreadable_share": 0.5}}
    for params, told in ((PARAMS, False), (expected, True)):
        text = rendered(of_m1, params=params)
        rows = {row[0]: row[1:] for row in Seen(text).rows if row}
        assert rows["judgements without a score, %"][0] == "6.7", "as many as the row of the unreadable ones says"
        assert rows.get("judgements without an expected score, %", [None])[0] == ("50.0" if told else None)


# What was made how: true for every run that params.yaml can ask for


def aift(*models, **how):
    return {model: {"writer": "M0", "judge": model, "prompts": 9, "rho": None} | how for model in models}


OTHERS = {"external": {"large": {"source": "hub", "repo": "lab/large", "revision": "ab"}}}
ONE = {"aift": aift("M1"), "models": {"M2": {"prev": "M1"}}, "drift": {}, "evaluated": ["M1", "M2"], "head_to_head": {}}
FOUR = {"aift": aift("M1", "M2", "M3", "M4"), "models": {f"M{i + 1}": {"prev": f"M{i}"} for i in (4, 2, 3, 1)}}
SIBLINGS = {
    "models": {"M2": {"prev": "M1"}, "M2b": {"prev": "M1"}, "M3": {"prev": "M2"}, "S": {"prev": "SFT"}},
    "aift": aift("M1", "M2", "SFT"),
}
OWN, LAST = (
    "judged its own answers 3 times each with an LLM-as-a-Judge prompt, and was trained by DPO on ",
    "then the next model did the same",
)
BEST, CHAIN = "the best answer against the worst", "M0 → SFT on IFT + EFT → M1 → DPO on AIFT(M1) → M2"
SELF = "Self-rewarding preference data"
EXPECTED = {"engine": {"name": "transformers"}, "judge_candidates": {"score": "expected"}}


@pytest.mark.parametrize(
    ("changes", "told", "not_told"),
    [
        (
            {},
            [
                f"{SELF}, with everything",
                "M0 wrote new prompts; a language model answered each 8 times, " + OWN + BEST,
                LAST,
            ],
            ["control", "expect", "length"],
        ),
        ({}, [f"{CHAIN} → DPO on AIFT(M2) → M3. Load"], []),
        (
            {"aift": aift("M1", writer="M1") | aift("M2", writer="M2")},
            ["A language model wrote new prompts, answered each 8 times, " + OWN],
            ["M0 wrote"],
        ),
        (
            {"aift": aift("M1") | aift("M2", writer="M1")},
            ["M0 and M1 wrote new prompts; a language model answered"],
            ["A language model wrote"],
        ),
        (
            OTHERS | {"aift": aift("M1", "M2", writer="large", judge="large")},
            [
                "large wrote new prompts",
                "large judged the answers in AIFT(M1) and the answers in AIFT(M2), 3 times each, with",
                "the model was trained by DPO",
            ],
            ["its own answers", SELF, "control"],
        ),
        (
            {"aift": aift("M1") | aift("M2", judge="M1")},
            ["M1 judged its own answers and the answers in AIFT(M2), 3 times each, with"],
            [SELF],
        ),
        (
            OTHERS | {"aift": aift("M1") | aift("M2", judge="large")},
            ["M1 judged its own answers and large judged the answers in AIFT(M2), 3 times each"],
            [SELF],
        ),
        (
            {"build_pairs": {"signal": "shuffled"}},
            ["DPO on pairs that chance picked; then", "This is a control. The judge's scores were dealt out"],
            [BEST, SELF],
        ),
        (
            {"build_pairs": {"signal": "longest"}},
            ["DPO on the longest answer against the shortest; then", "This is a control. Length took"],
            [BEST, SELF],
        ),
        (
            EXPECTED,
            [
                f"{SELF}, with",
                "prompt (a score is what the judge's probabilities of 0 to 5 expect, not the number that it wrote), "
                "and was",
            ],
            [],
        ),
        (
            {"aift": aift("M1") | aift("M2", rho=0.0)},
            [BEST + " (with length control, where the table below says so); then"],
            [],
        ),
        (
            ONE,
            [OWN + BEST + " (Self-Rewarding Language Models, Yuan et al. 2024): " + CHAIN + ". Load"],
            ["next model"],
        ),
        (
            FOUR,
            [
                "then each next model did the same",
                CHAIN + " → DPO on AIFT(M2) → M3 → DPO on AIFT(M3) → M4 → DPO on AIFT(M4) → M5. Load",
            ],
            [],
        ),
        (
            SIBLINGS,
            [
                CHAIN
                + " → DPO on AIFT(M2) → M3; M0 → SFT on IFT → SFT → DPO on AIFT(SFT) → S; M1 → DPO on AIFT(M1) → M2b. Load"
            ],
            [],
        ),
        (
            {"positive_only": {"P": {"aift": "M1"}}},
            ["→ M3; M0 → SFT on IFT + EFT + the perfect answers of AIFT(M1) → P. Load"],
            [],
        ),
        (
            ONE | {"models": {}, "evaluated": ["M1"]},
            ["no model was trained by DPO on the pairs (Self", "M0 → SFT on IFT + EFT → M1. Load"],
            ["was trained by DPO on the best"],
        ),
        (
            ONE | {"models": {}, "evaluated": ["M1"], "aift": {}},
            ["Seed data of a loop, without preference data so far", "M0 → SFT on IFT + EFT → M1. Load"],
            [SELF],
        ),
    ],
)
def test_the_opening_is_true_of_the_run(changes, told, not_told):
    opening = words(rendered(params=params_with(**changes))).partition("from datasets")[0]
    for sentence in told:
        assert sentence in opening
    for untrue in not_told:
        assert untrue not in opening


def test_the_limits_of_the_data_are_those_of_how_pairs_were_picked():
    own, others = (
        "Scores are a model's opinion of its own answers.",
        "Scores are the opinion of the models that judged.",
    )
    chance, length = (
        "was left to chance, and says nothing of how good it is",
        "was left to their lengths, and says nothing of how good it is",
    )
    judged = OTHERS | {"aift": aift("M1", "M2", judge="large")}
    runs = (
        ({}, own),
        (judged, others),
        ({"build_pairs": {"signal": "shuffled"}}, chance),
        ({"build_pairs": {"signal": "longest"}}, length),
    )
    for changes, told in runs:
        limits = words(rendered(params=params_with(**changes))).partition("Limits")[2]
        assert [said for said in (own, others, chance, length) if said in limits] == [told]


def test_lengths_are_not_called_scores():
    pair = dict.fromkeys(("prompt", "chosen", "rejected"), "x")
    for signal, kind in (("judge", "score"), ("longest", "tokens")):
        section = rendered(params=params_with(build_pairs={"signal": signal}), pair=pair)
        assert f"chosen, {kind} 5.00" in words(section)
        assert ("mean margin, chosen over rejected, tokens" in cells(section)) == (signal == "longest")


def test_a_table_tells_who_made_each_aift():
    def told(**changes):
        section = rendered(params=params_with(**changes)).partition("## Who made what")[2].partition("\n## ")[0]
        head, *rows = Seen(section).rows
        assert {len(row) for row in rows} == {len(head)}, "no cell is lost"
        return {model: [row[i] for row in rows] for i, model in enumerate(head) if i}

    usual, number, by_judge = (
        "transformers",
        "sampled: the number that the judge wrote",
        "the judge's scores, margin above 0.5",
    )
    assert told() == {
        f"AIFT({m})": [
            "M0",
            usual,
            f"{m} itself",
            usual,
            "8",
            "0.7",
            f"{m} itself",
            usual,
            "3",
            "0.7",
            number,
            by_judge,
        ]
        for m in ("M1", "M2")
    }
    engine = PARAMS.engine.model_dump() | {"name": "openai", "max_context": 8192}
    judges = {"engine": engine, "k": 1, "temperature": 0.0, "score": "expected"}
    changes = {
        "external": {"lar_ge": {"source": "server", "repo": "a|b", "revision": None}},
        "judge_candidates": judges,
        "build_pairs": {"min_margin": 0},
    }
    changes |= {
        "write_prompts": {"engine": PARAMS.engine.model_dump() | {"name": "ray", "inner": "vllm", "dtype": "bfloat16"}}
    }
    by = told(
        **changes,
        sample_candidates={"n": 5, "temperature": 1.5},
        aift=aift("M1", judge="lar_ge") | aift("M2", writer="M1", rho=0.1),
    )
    writes, judge, kind, picked = (
        "ray, inner vllm, dtype bfloat16",
        "openai, max_context 8192",
        "expected: by the judge's probabilities",
        "the judge's scores",
    )
    assert by["AIFT(M1)"] == [
        "M0",
        writes,
        "M1 itself",
        usual,
        "5",
        "1.5",
        "lar_ge",
        judge,
        "1",
        "0.0",
        kind,
        f"{picked}, margin above 0.0",
    ]
    controlled = f"{picked}, margin above 0.0, with length control, rho 0.1"
    assert by["AIFT(M2)"] == [
        "M1",
        writes,
        "M2 itself",
        usual,
        "5",
        "1.5",
        "M2 itself",
        judge,
        "1",
        "0.0",
        kind,
        controlled,
    ]
    for signal, picked in (
        ("shuffled", "scores dealt out at random (shuffled), margin above 0.5, with length control, rho 0.1"),
        ("longest", "length in tokens (longest), margin above 0.5"),
    ):
        assert told(**ONE | {"aift": aift("M1", rho=0.1)}, build_pairs={"signal": signal})["AIFT(M1)"][-1] == picked


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({}, "best minus worst not above 0.5"),
        ({"build_pairs": {"min_margin": 0}}, "best minus worst not above 0.0"),
        ({"aift": aift("M1") | aift("M2", rho=0.0)}, "best minus worst (as length control picks them) not above 0.5"),
        (
            {"aift": aift("M1", "M2", rho=0.1), "build_pairs": {"signal": "longest"}},
            "longest minus shortest not above 0.5",
        ),
    ],
)
def test_why_prompts_gave_no_pair_is_told_as_the_rule_was(changes, rule):
    rows = [row for row in cells(rendered(params=params_with(**changes))) if row.startswith("prompts without one")]
    assert rows == [f"prompts without one, {rule}, or one usable answer only, %", UNUSABLE]


def test_a_card_says_what_each_fate_is():
    (meaning,) = (column.meaning for column in SCORES.columns if column.name == "fate")
    assert f"A fate is {meaning}.".replace("`", "") in words(rendered())
    assert all(f"`{fate}`" in meaning for fate in FATES)


def test_the_bins_of_eft_add_up():
    assert "EFT was chosen" not in rendered(), "no counts, no table"
    section = rendered(METRICS | {"EFT": EFT}).partition("### How EFT was chosen")[2].partition("\n## ")[0]
    told = dict(Seen(section).rows)
    bins = [
        "unreadable (null, never a score)",
        "readable, not taken: in a try that does not agree, or after the first that does",
        "agreeing, thinned out",
    ]
    assert [told[name] for name in bins] == ["3", "65", "2"]
    assert sum(int(told[name]) for name in [*bins, "agreeing, kept"]) == int(told["judgements of these"]) == 80
    assert [(name, n) for name, n in told.items() if "with score" in name] == [
        ("with score 0.5", "3"),
        ("with score 4", "7"),
    ]
    assert (
        told["rows of EFT"],
        told["ranked prompts"],
        told["of these, with a try that agrees"],
        told["ranked answers"],
    ) == ("10", "9", "5", "20")


@pytest.mark.parametrize(
    "wrong", [{"judgements": 14}, {"agreeing": 13}, {"thinned": 1}, {"eft": 11}, {"score_histogram": {"4": 9}}]
)
def test_an_eft_whose_bins_do_not_add_up_is_not_published(wrong):
    assert rendered({"EFT": EFT | {"judgements": 15}}), "none was passed over"
    with pytest.raises(HubError, match=r"EFT\.json: its counts do not add up"):
        rendered({"EFT": EFT | wrong})


def test_the_rule_of_agreement_is_told():
    def told(**changes):
        return (
            words(rendered({"EFT": EFT}, params=params_with(**changes)))
            .partition("How EFT was chosen")[2]
            .partition("EFT ranked")[0]
        )

    strict, weak = "always has the higher score.", "never has the lower score, and not all scores are equal."
    model, written = (
        "The SFT baseline (engine transformers) judged each ranked answer 4 times, at temperature 0.7;",
        "came with the seed data;",
    )
    usual, other = (
        told(),
        told(build_eft={"agreement": "weak", "max_share_of_commonest_score": 0.25}, judge_seed={"source": "written"}),
    )
    assert [said in usual for said in (strict, weak, model, written, "thinned to 40.0 % of EFT at most")] == [
        True,
        False,
        True,
        False,
        True,
    ]
    assert [said in other for said in (strict, weak, model, written, "thinned to 25.0 % of EFT at most")] == [
        False,
        True,
        False,
        True,
        True,
    ]


# Where a hash took a model's place

HASH = {"engine": {"name": "scripted"}}
IN_RAY = {"engine": {"name": "ray", "inner": "scripted"}}
MODEL = PARAMS.engine.model_dump()
WRITER_ALONE = {"write_prompts": {"engine": MODEL | {"name": "scripted"}}}
JUDGE_ALONE = {"judge_candidates": {"engine": MODEL | {"name": "scripted"}}}
ANSWERS_ALONE = HASH | {
    "write_prompts": {"engine": MODEL},
    "judge_candidates": {"engine": MODEL},
    "judge_seed": {"source": "written"},
}
NO_AIFT = ONE | {"models": {}, "evaluated": ["M1"], "aift": {}}


@pytest.mark.parametrize(
    ("changes", "made", "figures"),
    [
        ({}, None, False),
        ({"engine": {"inner": "scripted"}}, None, False),
        (HASH, "the new prompts, the answers, their judgements and the judgements in EFT", True),
        (IN_RAY, "the new prompts, the answers, their judgements and the judgements in EFT", True),
        (WRITER_ALONE, "the new prompts", False),
        (JUDGE_ALONE, "their judgements", False),
        (ANSWERS_ALONE, "the answers", True),
        (HASH | NO_AIFT, "the judgements in EFT", True),
        (HASH | NO_AIFT | {"judge_seed": {"source": "written"}}, None, True),
    ],
)
def test_texts_from_a_hash_are_told_as_such(changes, made, figures):
    section = words(rendered(params=params_with(**changes)))
    notice, figures_told = (
        f"This is a trial of the pipeline. The engine scripted made {made}: texts from a hash",
        "answered and judged here in the models' place",
    )
    assert (notice in section, "This is a trial" in section, figures_told in section) == (
        made is not None,
        made is not None,
        figures,
    )


def test_what_a_hash_decided_is_no_opinion():
    own, chance, none = (
        "model's opinion of its own answers",
        "was left to chance",
        "Scores come from a hash, and are no opinion of the answers.",
    )
    for changes, told in (({}, own), (HASH, none), (JUDGE_ALONE, none), (WRITER_ALONE, own), (HASH | SHUFFLED, chance)):
        limits = words(rendered(params=params_with(**changes))).partition("Limits")[2]
        assert [said for said in (own, chance, none) if said in limits] == [told]
    assert [
        f"{SELF}, with" in words(rendered(params=params_with(**changes)))
        for changes in (WRITER_ALONE, JUDGE_ALONE, HASH)
    ] == [True, False, False]


@pytest.mark.parametrize(
    ("changes", "tags"),
    [
        ({}, ["self-rewarding", "preference", "dpo", "rlaif", "llm-as-a-judge"]),
        (WRITER_ALONE, ["self-rewarding", "preference", "dpo", "rlaif", "llm-as-a-judge"]),
        (OTHERS | {"aift": aift("M1", "M2", judge="large")}, ["preference", "dpo", "rlaif", "llm-as-a-judge"]),
        ({"build_pairs": {"signal": "shuffled"}}, ["llm-as-a-judge"]),
        ({"build_pairs": {"signal": "longest"}}, ["llm-as-a-judge"]),
        (NO_AIFT, ["llm-as-a-judge"]),
        (JUDGE_ALONE, ["llm-as-a-judge"]),
        (ANSWERS_ALONE, ["llm-as-a-judge"]),
        (HASH, []),
        (IN_RAY, []),
        (HASH | NO_AIFT, []),
        (HASH | {"judge_candidates": {"engine": MODEL}}, ["llm-as-a-judge"]),
    ],
)
def test_a_tag_is_true_of_its_data(changes, tags):
    metadata = facts.dataset_metadata("ann/rows", params_with(**changes), 9)
    assert metadata["tags"] == [*tags, "arxiv:2401.10020"]
    theirs = "---\ntags: [by-ann, dpo]\n---\n"
    assert yaml.safe_load(merged(theirs, metadata=metadata).split("---\n")[1])["tags"][:2] == ["by-ann", "dpo"], (
        "people's own stay"
    )


def test_what_is_trained_without_rejected_answers_is_told_where_its_data_are():
    trains = {
        row[0]: row[4]
        for row in Seen(rendered(raw=True, params=params_with(positive_only={"P": {"aift": "M1"}}))).rows
        if len(row) == 6
    }
    assert (trains["eft"], trains["aift_m1"]) == ("M1, and P", "M2")
    assert trains["aift_m1_scores"] == "P, by the perfect answers; aift_m1 is made from it"
    assert trains["aift_m1_judgements"] == "nothing; aift_m1 is made from it"
    assert trains["aift_m2_scores"] == "nothing; aift_m2 is made from it"


LARGE = OTHERS | {"aift": aift("M1", "M2", judge="large")}
SHUFFLED, LONGEST = {"build_pairs": {"signal": "shuffled"}}, {"build_pairs": {"signal": "longest"}}


@pytest.mark.parametrize(
    ("model", "changes", "told", "not_told"),
    [
        (
            "M0",
            {},
            "pretrained from scratch on the text of a tiny world, which a program wrote, and tuned on nothing.",
            ["It learnt", "judge", "control"],
        ),
        (
            "SFT",
            {},
            "It learnt from the answers of the seed data only (IFT); no model of this loop wrote or judged them.",
            ["itself", "EFT", "control", "perfect"],
        ),
        (
            "M1",
            {},
            "to judge from EFT, judgements that the SFT baseline, a model, wrote of the seed data's ranked answers",
            ["itself", "perfect", "came with"],
        ),
        (
            "M1",
            {"judge_seed": {"source": "written"}},
            "to judge from EFT, judgements that came with the seed data. No answer",
            ["itself", "SFT baseline"],
        ),
        (
            "M3",
            {},
            "It learnt from answers that M2 judged itself, and that nobody read. It may be wrong or unsafe, and may "
            "like its own",
            ["M1", "control"],
        ),
        ("M3", {}, "What M2, its parent, had learnt stays in it.", []),
        (
            "M3",
            LARGE,
            "It learnt from answers of M2 that large judged, and that nobody read.",
            ["itself", "its own style"],
        ),
        (
            "M3",
            SHUFFLED,
            "It is a control: the scores that M2 gave the answers of M2 were dealt out anew at random, so chance "
            "picked",
            ["itself", "style"],
        ),
        (
            "M3",
            LONGEST,
            "It is a control: it learnt to prefer the longest answer of M2 to the shortest, whatever they say.",
            ["itself", "judge", "style"],
        ),
        (
            "M2P",
            {},
            "IFT and EFT) it learnt from those answers of M1 to which M1 itself gave a perfect mean score, and from no "
            "rejected ones.",
            ["control"],
        ),
        (
            "M2P",
            LARGE,
            "it learnt from those answers of M1 to which large gave a perfect mean score, and from no rejected ones.",
            ["itself", "parent"],
        ),
        (
            "M2P",
            SHUFFLED,
            "answers of M1 that got a perfect score when those that M1 gave were dealt out anew at random (a control), "
            "and from",
            ["mean"],
        ),
        ("odd", {}, "Limits It may be wrong or unsafe. Licence", []),
    ],
)
def test_the_limits_of_a_model_are_those_of_what_it_learnt_from(model, changes, told, not_told):
    lineages = LINEAGES | of_model("odd", "M0", "dpo", "IFT/train")
    section = model_rendered(model, params_with(**changes), {}, lineages)
    limits = words(section[section.index("## Limits") : section.index("## Cite")])
    assert told in limits
    for untrue in not_told:
        assert untrue not in limits


def test_a_model_is_of_a_self_rewarding_loop_only_where_models_judged_themselves():
    for changes, told in (({}, True), (LARGE, False), (SHUFFLED, False), (HASH, False)):
        assert ("M2 of a self-rewarding loop" in words(model_rendered("M2", params_with(**changes)))) == told


@pytest.mark.parametrize(("too_long", "told"), [(None, False), (0, False), (3, True)])
def test_rows_that_were_left_out_are_told(too_long, told):
    lineages = LINEAGES | {"M2": LINEAGES["M2"] | {"too_long": too_long, "params": {"max_length": 512}}}
    assert (
        "3 of these, longer than 512 tokens, were left out" in words(model_rendered("M2", lineages=lineages))
    ) == told


@pytest.mark.parametrize(
    ("model", "changes", "tags"),
    [
        ("M0", {}, []),
        ("SFT", {}, ["sft", "trl"]),
        ("M1", {}, ["self-rewarding", "llm-as-a-judge", "sft", "trl"]),
        ("M2P", {}, ["self-rewarding", "llm-as-a-judge", "sft", "trl"]),
        ("M3", {}, ["self-rewarding", "llm-as-a-judge", "dpo", "trl"]),
        ("M3", SHUFFLED, ["llm-as-a-judge", "dpo", "trl"]),
        ("M3", HASH, ["dpo", "trl"]),
        ("M3", JUDGE_ALONE, ["dpo", "trl"]),
        ("M3", WRITER_ALONE, ["self-rewarding", "llm-as-a-judge", "dpo", "trl"]),
        ("M2P", JUDGE_ALONE, ["llm-as-a-judge", "sft", "trl"]),
        ("M1", HASH, ["sft", "trl"]),
        ("odd", {}, ["dpo", "trl"]),
    ],
)
def test_a_tag_is_true_of_its_model(model, changes, tags):
    params, lineages = params_with(**changes), LINEAGES | of_model("odd", "M0", "dpo", "IFT/train")
    about = facts.of_the_model(model, params, METRICS, lineages, FILES)
    assert facts.model_metadata("ann/x", params, "ann/rows", "M0", lineages[model]["method"], about)["tags"] == [
        *tags,
        "arxiv:2401.10020",
    ]


@pytest.mark.parametrize(
    ("model", "changes", "made"),
    [
        ("M0", HASH, None),
        ("SFT", HASH, None),
        ("M1", HASH, "the judgements in EFT"),
        ("M1", HASH | {"judge_seed": {"source": "written"}}, None),
        ("M1", JUDGE_ALONE, None),
        ("M3", HASH, "the new prompts, the answers and their judgements"),
        ("M3", JUDGE_ALONE, "their judgements"),
        ("M2P", HASH, "the new prompts, the answers, their judgements and the judgements in EFT"),
        ("M3", {}, None),
    ],
)
def test_a_model_that_learnt_from_a_hash_says_so(model, changes, made):
    section = words(model_rendered(model, params_with(**changes)))
    assert (f"The engine scripted made {made} from which this model learnt:" in section, "trial" in section) == (
        made is not None,
        made is not None,
    )


def card_of(model, figures, matches, params=PARAMS):
    """What its card tells of how good it is."""
    return (
        model_rendered(model, params, figures=figures, matches=matches)
        .partition("## How good is it?")[2]
        .partition("## Limits")[0]
    )


def test_a_writers_figures_are_not_a_judges():
    def figure(value):
        return {"value": value, "low": value - 0.01, "high": value + 0.01, "n": 20}

    writer = {name: figure(value) for name, value in zip(WRITER, (4.5, 0.6, 0.5, 23.4, 7.1, 0.02), strict=True)}
    won = match("SFT", win={"value": 0.63, "low": 0.59, "high": 0.676, "n": 19}, n=19, unreadable=1)
    null = {"value": None, "low": None, "high": None, "n": 0}
    lost = match("M2", win=null, tie=null, lose=null, n=0, unreadable=20)
    tables = Seen(card_of("M3", {"judge": JUDGE, "writer": {"greedy": writer}}, [won, lost])).tables
    judge, writes, matches = tables
    assert (judge[0][0], [row[0] for row in judge[1:]]) == (
        "as a judge, against the ranks of held-out answers",
        ["pairwise accuracy %", "ties %", "unreadable %", "Spearman"],
    )
    assert writes == [
        ["as a writer, on 20 held-out prompts, greedy decoding", "", "95 %"],
        ["checker's score, mean (0 to 5)", "4.50", "4.49 to 4.51"],
        ["fully right by the checker, %", "60.0", "59.0 to 61.0"],
        ["all five points of the checker, %", "50.0", "49.0 to 51.0"],
        ["characters, mean", "23.4", "23.4 to 23.4"],
        ["tokens, mean", "7.1", "7.1 to 7.1"],
        ["cut off by the length limit, %", "2.0", "1.0 to 3.0"],
    ]
    half = "50.0 (25.0 to 75.0)"
    assert matches[1:] == [["SFT", "63.0 (59.0 to 67.6)", half, half, "19", "1"], ["M2", "–", "–", "–", "0", "20"]]


def test_where_no_checker_is_nothing_is_told_of_it():
    null = {"value": None, "low": None, "high": None, "n": 0}
    greedy = WRITER | dict.fromkeys(("oracle_score", "fully_right", "all_five"), null)
    assert "checker" not in card_of("M3", {"judge": JUDGE, "writer": {"greedy": greedy}}, [])
    assert "It was not evaluated." in card_of("M3", None, [])
    assert "head to head" not in card_of("M3", METRICS["M1"], [])


def test_who_decided_head_to_head_is_told():
    compares = {"evaluate": {"compare_with": "data/models/M1"}}
    checker, model = (
        "The tiny world's checker decided: more points win.",
        "M1, a model, decided, asked in both orders; where its two verdicts disagree it is a tie",
    )
    hashed = "; the engine scripted took its part, so they tell nothing of either"
    by_hash = {"evaluate": compares["evaluate"] | {"judge_engine": MODEL | {"name": "scripted"}}}
    for changes, told in (({}, checker), (compares, f"{model}."), (by_hash, model + hashed), (HASH, checker)):
        text = words(card_of("M3", METRICS["M1"], [match("SFT")], params_with(**changes)))
        assert told in text
        assert (checker in text, hashed in text, "in the model's place" in text) == (
            told == checker,
            changes == by_hash,
            changes == HASH,
        )


def test_matches_are_the_models_own():
    """And greedy; what nobody compared is not there."""
    metrics = {"M3-SFT": {"greedy": match("")["win"] | {"n": 7}, "sampled": {"n": 8}}, "M2-M1": {"greedy": {"n": 9}}}
    assert [(m["other"], m["n"]) for m in facts.matches(PARAMS, metrics, "M3")] == [("SFT", 7)]
    assert facts.matches(PARAMS, metrics, "M1") == []


def test_a_model_names_what_it_was_trained_on_with_its_rows():
    for model, told in (
        ("SFT", "by sft. Trained on ift (5 rows). Load"),
        ("M1", "Trained on ift (5 rows) and eft (4 rows). Load"),
        ("M3", "Trained on aift_m2 (2 rows). Load"),
        (
            "M2P",
            "Trained on ift (5 rows) and eft (4 rows), and on the answers of AIFT(M1) with a perfect mean score. Load",
        ),
    ):
        assert told in words(model_rendered(model))
    assert "made by tinyworld. Load" in words(model_rendered("M0"))


def test_a_model_tells_what_was_warned_of_the_data_that_it_and_its_parents_saw():
    metrics = (
        METRICS
        | {f"AIFT-{m}": METRICS[f"AIFT-{m}"] | {"warned": [f"<b>{m}</b>"]} for m in ("M1", "M2")}
        | {"drift-M2": {"warned": ["drifts"]}}
    )
    metrics |= {"AIFT-M9": M1 | {"warned": ["once"]}, "drift-M1": {"warned": ["once"]}}
    of_m1, of_m2, drift = (
        f"Warned of while its data were made: {told}"
        for told in ("AIFT-M1: <b>M1</b>", "AIFT-M2: <b>M2</b>", "drift-M2: drifts")
    )
    for model, told in (
        ("M0", []),
        ("SFT", []),
        ("M1", []),
        ("M2", [of_m1]),
        ("M2P", [of_m1]),
        ("M3", [of_m1, of_m2, drift]),
    ):
        text = words(model_rendered(model, metrics=metrics))
        assert ([said for said in (of_m1, of_m2, drift) if said in text], text.count("Warned"), "once" in text) == (
            told,
            len(told),
            False,
        )
    assert "none of the warnings" not in words(model_rendered("M3", metrics=metrics))
    none = "made, none of the warnings of warn in params.yaml was given."
    for model, told in (
        ("M1", ""),
        ("M2", f"While AIFT(M1) was {none}"),
        ("M3", f"While AIFT(M1) and AIFT(M2) were {none}"),
    ):
        text = words(model_rendered(model))
        assert told in text
        assert (none in text) == bool(told)
    assert none not in words(model_rendered("M2", metrics={})), "what is not known is not told"


def test_a_model_tells_the_source_of_the_seed_data():
    hub = params_with(split_seed={"source": "hub", "repo": "lab/oa_st", "revision": "fdf72"})
    for model in ("M0", "M3"):
        assert (
            "Seed data: lab/oa_st of the Hub at revision fdf72; 5 rows of IFT and 4 of EFT are made of them."
            in words(model_rendered(model, hub))
        )
    assert "Seed data: made by the embedded tiny world; 5 rows" in words(model_rendered("M3"))


def test_both_cards_say_how_to_cite_what_they_are_of():
    url = "https://hub/datasets/ann/my_rows"
    for section, key, title, where in (
        (rendered(repo="ann/my_rows", url=url), "ann-my_rows", r"{ann/my\_rows}", url),
        (model_rendered("M2"), "ann-rows-M2", "{ann/rows-M2}", "https://hub/ann/rows-M2"),
    ):
        cited = Seen(section).text.partition("@misc")[2]
        lines = [
            f"{{{key},",
            f'  title        = "{title}",',
            f'  howpublished = "\\url{{{where}}}",',
            '  note         = "Made by code at git revision ab"',
            "}",
        ]
        assert cited.rstrip() == "\n".join(lines)
        assert "@article{yuan2024self," in section
    with pytest.raises(HubError, match="cannot stand in a card's code"):
        rendered(url="https://hub/`x`")
