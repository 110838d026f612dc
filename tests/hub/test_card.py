"""Cards: people's words stay, ours are replaced, and what models wrote is seen as it is and never run."""

import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import polars as pl
import pytest
import yaml
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st
from markdown_it import MarkdownIt

from stages.config.load import load_params
from stages.config.params import Params
from stages.console.errors import HubError
from stages.hub import card, configs, facts, plan
from stages.hub.card import BEGIN, END, merge
from stages.store.tables import PAIRS
from stages.text.escape import for_terminal

OURS = {"license": "mit", "tags": ["dpo", "rlaif"], "configs": [{"config_name": "ift", "data_files": "ift.parquet"}]}
HEAD = "---\nlicense: cc0-1.0\nmine: [1, 2]\n---\n"


def merged(existing, section="Ours.", metadata=OURS, before=None):
    return merge(existing, section, metadata, before or {})


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
    assume(head or not above.removeprefix("\ufeff").lstrip().startswith("---"))
    once = merged(f"{head}{above}{BEGIN}\nold\n{END}{below}")
    above = above if head else above.removeprefix("\ufeff")  # of the file, not of what they wrote
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


def test_configs_of_other_names_stay_and_ours_are_replaced():
    theirs = [
        {"config_name": "ann", "data_files": "ann.csv"},
        {"data_files": "unnamed.csv"},
        {"config_name": "ift_old", "data_files": "once ours"},
    ]
    text = "---\n" + yaml.safe_dump({"configs": [{"config_name": "ift", "data_files": "old"}, *theirs]}) + "---\n"
    assert metadata(merged(text, before={"configs": [theirs[2]]}))["configs"] == [*OURS["configs"], *theirs[:2]]
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
FIGURE = {"value": 0.5, "low": 0.25, "high": 0.75, "n": 4}
UNKNOWN = {"value": None, "low": None, "high": None, "n": 0}
COUNTS = {
    **{"prompts": 8, "dropped": {"repeat": 2, "surplus": 0}, "candidates": 6, "fates": {"chosen": 2, "tied": 4}},
    **{"judgements": 60, "score_histogram": {"0": 6, "0.5": 0, "5": 50}, "pairs": 3, "pair_yield": 0.375},
    "unparsed": 4,
    **{"mean_score": 2.5, "mean_margin": 1.25, "warned": []},
}
EVALUATED = {
    "judge": {"pairwise_accuracy": FIGURE, "spearman": UNKNOWN},
    "writer": {"greedy": {"oracle_score": FIGURE, "points": {"right": FIGURE}}},
}
METRICS = {
    "AIFT-M1": COUNTS,
    "AIFT-M2": COUNTS | {"dropped": {"too long": 1}},
    "M1": EVALUATED,
    "EFT": {"eft": 10, "chance_share": 0.125},
}
LINEAGES = {
    name: {
        **{"name": name, "parent": parent, "method": method, "seed": 1, "params": {"lr": 1}},
        "data": dict.fromkeys((f"data/{table}.parquet" for table in tables), "ab"),
    }
    for name, parent, method, *tables in [
        ("M0", None, "tinyworld"),
        ("SFT", "M0", "sft", "IFT/train"),
        ("M1", "M0", "sft", "IFT/train", "EFT/train"),
        ("M2", "M1", "dpo", "AIFT/M1/pairs"),
        ("M3", "M2", "dpo", "AIFT/M2/pairs"),
        ("M2P", "M0", "sft", "IFT/train", "EFT/train", "AIFT/M1/scores"),
    ]
}
PAIR = {"model": "M2", "prompt": "p", "chosen": "c", "rejected": "r", "chosen_score": 5.0, "rejected_score": 0.0}
BOTH = {"repo": "ann/rows", "url": "https://hub/ann/rows", "versions": "trl 1"}
BOTH |= facts.origin(["M0"], LINEAGES, {})
BOTH |= {"code_of": {"git": "ab", "dvc_lock": "cd", "url": "https://code/x"}}
SHAPE = {"parameters": 316_880, "architecture": "Llama", "layers": 2, "width": 8, "context": 512}


def params_with(**sections):
    """The tiny profile with other keys in some sections; those that map names are given whole."""
    old, whole = PARAMS.model_dump(), ("external", "aift", "models", "drift", "positive_only", "head_to_head")
    changed = {
        name: new if name in whole or not isinstance(new, dict) else old[name] | new for name, new in sections.items()
    }
    return Params.model_validate(old | changed)


def dataset(params=PARAMS, metrics=METRICS, raw=True, **changes):
    trains = plan.trained(params)
    every = [config for config in configs.configs(trains) if raw or not config.raw]
    splits = [
        {"config": c.name, "raw": c.raw, "split": s.name, "rows": 7, "trains": c.trains or "nothing yet"}
        | {"meaning": facts.meaning(s.table, s.model, trains)}
        for c in every
        for s in c.splits
    ]
    section = {
        **{"splits": splits, "columns": facts.columns({config.name: config.table for config in every})},
        **{"models": {name: known | {"md5": "ab"} for name, known in LINEAGES.items()}, "parameters": "0.3 M"},
        "example": PAIR,
    }
    return card.render(
        "dataset", **BOTH | facts.of_the_run(params) | facts.outcomes(params, metrics) | section | changes
    )


def of_model(name="M2", params=PARAMS, metrics=METRICS, lineages=LINEAGES, **changes):
    section = {"model": lineages[name], "adapter": False, "shape": SHAPE, "md5": "ef", "configs": ["aift_m1"]}
    section |= {"dataset_url": "https://hub/datasets/ann/rows"}
    about = facts.of_the_model(name, params, metrics, lineages)
    return card.render("model", **BOTH | facts.of_the_run(params) | section | about | changes)


def params_of(text):
    """With this text wherever params.yaml takes any."""
    seed = PARAMS.split_seed.model_copy(update={"source": "oasst1", "path": text})
    base = PARAMS.base["M0"].model_copy(update={"source": "path", "path": text})
    how = PARAMS.aift["M1"].model_copy(update={"writer": text, "judge": text})
    return PARAMS.model_copy(update={"split_seed": seed, "base": {"M0": base}, "aift": {"M1": how}})


def everywhere(text):
    """A dataset's card with this text in each place that shows what is not ours."""
    metrics = METRICS | {"AIFT-M1": COUNTS | {"warned": [text], "dropped": {text: 2}}}
    changes = dict.fromkeys(("versions", "scripted"), text) | {"engines": {text: text}}
    changes |= {"params": params_of(text), "mended": {text: text}, "left_out": {"data/x": text}}
    changes |= {"example": PAIR | dict.fromkeys(("model", "prompt", "chosen", "rejected"), text)}
    changes |= {"models": {text: {"parent": text, "method": text, "reference": text, "md5": "ab", "data": {}}}}
    return dataset(metrics=metrics, **changes)


def everywhere_in_a_model(text):
    """As `everywhere`, of a model that learnt from another's opinion."""
    known = {"name": text, "parent": text, "method": text, "reference": text, "seed": text, "data": {}}
    changes = dict.fromkeys(("versions", "scripted", "compared_by"), text) | {"params": params_of(text)}
    changes |= {"mended": {text: text}, "left_out": {"data/x": text}}
    changes |= {"model": known | {"params": {text: text}}, "warnings": [{"of": text, "text": text}]}
    changes |= {"learnt_aift": {"model": text, "judge": f"{text} "}, "shape": SHAPE | {"architecture": text}}
    match = {"other": text, "win": FIGURE, "tie": FIGURE, "lose": FIGURE, "n": 4, "unreadable": 0}
    return of_model(**changes | {"matches": [match]})


@pytest.mark.parametrize("render", [dataset, of_model])
def test_what_intake_put_right_and_what_a_server_would_not_take(render):
    """In one line each, which is a cell of a table in a model's card."""
    lineages = {"M0": {"mended": ["no pad token: <b>|</s> pads", "its template\nreads the clock"]}}
    graph = {"left_out": {"data/AIFT/M1/candidates.parquet": ["seed", "top_p"]}}
    text = render(**facts.origin(["M0", "writer"], lineages, graph))
    (line,) = [line for line in text.splitlines() if "Put right in M0 on intake" in line]
    assert "reads the clock" in line
    assert "A server would not take seed, top\\_p in the requests for `data/AIFT/M1/candidates.parquet`." in line
    assert "<b>" not in line
    assert "Put right" not in render()


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


@settings(deadline=None, max_examples=25)
@given(parts=st.lists(st.sampled_from(HOSTILE) | st.text(max_size=9), max_size=8))
@example(parts=HOSTILE)
def test_a_reader_sees_text_as_it_is_and_none_of_it_does_anything(parts):
    text = f"x{''.join(parts)}y"
    for everywhere_in, cells, lines in ((everywhere, 10, 3), (everywhere_in_a_model, 12, 0)):
        section = everywhere_in(text)
        seen = Seen(section)
        assert seen.elements == Seen(everywhere_in("x")).elements, "it is no element, and ends none"
        assert seen.text.count("\n".join(for_terminal(line) for line in text.split("\n"))) >= lines
        assert seen.text.count(for_terminal(text)) >= cells
        assert not {"\x1b", "\u202e", "\r"} & set(section)
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


# --- What the cards say ---


def words(markdown):
    """As a reader reads them, on one line."""
    return " ".join(Seen(markdown).text.split())


def cells(section):
    return {row[0]: row[1:] for row in Seen(section).rows}


def test_a_dataset_card_is_read_from_the_top():
    text = dataset(raw=False)
    top = text.partition("# Details")[0]
    assert len(top.split()) <= 700
    first = words(top)
    assert first.startswith("Text of a toy world.")
    assert "0.3 M parameters" in first[:150]
    parts = ["A pair of AIFT(M2)", "From what", "How good", "Load", "What to doubt", "Licence"]
    assert sorted(parts, key=first.index) == parts
    assert "<details>" not in top
    assert "https://code/x" in top
    assert "This data set is under apache-2.0" in first
    assert "seed: 1" not in text, "parameters are a file beside it"


def test_every_column_of_every_contract_stands_in_the_card_once():
    seen = Seen(dataset())
    tables = [tuple(map(tuple, table[1:])) for table in seen.tables if table[0] == ["column", "type", "meaning"]]
    assert len(tables) == len(set(tables))
    shown = {row for table in tables for row in table}
    for config in configs.configs({"M1": "M2"}):
        for c in config.table.columns:
            kind = str(c.dtype) + (", null is unknown" if c.nullable else "")
            assert (c.name, kind, c.meaning.replace("`", "")) in shown
    assert "AIFT(M1): the preference pairs that train M2 (paper 2.2, step 4)" in words(dataset())
    assert "Mt" not in words(dataset(raw=False))


def test_counts_are_those_of_the_metrics_and_unknown_is_a_dash():
    rows = cells(dataset(metrics=METRICS | {"AIFT-M1": COUNTS | {"mean_score": None}}))
    assert ["", "AIFT(M1)", "AIFT(M2)"] in Seen(dataset()).rows
    assert (rows["dropped: repeat"], rows["dropped: too long"]) == (["2", "–"], ["–", "1"])
    assert rows["unparsed"] == ["4", "4"]
    assert rows["chance share"] == ["0.125"], "beside the yield of EFT"
    assert rows["mean score"] == ["–", "2.50"]
    assert ["M1", *["0.50 (0.25 to 0.75, n 4)"] * 2] in Seen(dataset()).rows
    assert "surplus" not in words(dataset()), "what never happened takes no room"


def test_a_store_without_evaluation_or_without_aift_has_a_card():
    assert "No model was evaluated." in words(dataset(metrics={}))
    none = params_with(aift={}, models={}, drift={}, evaluated=["M1"], head_to_head={})
    assert "without preference data so far" in words(dataset(params=none, example=None))


@pytest.mark.parametrize(
    ("changes", "says", "tags"),
    [
        ({"engine": {"name": "scripted"}}, "Scripted. The engine scripted wrote the prompts, the answers", 0),
        (
            {"build_pairs": {"signal": "longest"}},
            "A control, not the method. Pairs were picked by build_pairs.signal: lo",
            0,
        ),
        ({}, "Self-rewarding preference data", 5),
        (
            {
                "aift": {"M1": {"writer": "M0", "judge": "SFT", "prompts": 9, "rho": None}},
                "models": {"M2": {"prev": "M1"}},
                "drift": {},
                "evaluated": ["M1"],
                "head_to_head": {},
            },
            "Preference data, with what made them",
            4,
        ),
    ],
    ids=["scripted", "control", "method", "another judge"],
)
def test_the_opening_and_the_tags_are_true_of_the_run(changes, says, tags):
    params = params_with(**changes)
    text = words(dataset(params=params))
    assert says in text
    assert ("or an earlier one that it comes of" in text) == ("aift" not in changes), "M1 judges for M2, too"
    run = facts.of_the_run(params)
    metadata = facts.dataset_metadata(params, run)
    assert len(metadata["tags"]) - 1 == tags
    model = facts.model_metadata(params, "ann/rows", None, facts.of_the_model("M2", params, {}, LINEAGES), run)
    assert ("llm-as-a-judge" in model["tags"]) == (tags > 0)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        ("M2", "It learnt from answers of M1 that it judged, and that nobody read"),
        ("M2P", "Beside the seed data it learnt from answers of M1 that it judged perfect"),
        ("M1", "to answer from IFT, and to judge from EFT"),
        ("SFT", "was not taught to judge"),
        ("M0", "A model of a toy world, with 0.3 M parameters"),
    ],
)
def test_what_to_doubt_of_a_model_is_what_it_learnt_from(model, says):
    assert says in words(of_model(model))


def test_a_model_card_has_its_shape_its_figures_and_its_warnings():
    params = params_with(
        head_to_head={"M2-M1": {"model": "M2", "other": "M1"}, "M3-M1": {"model": "M3", "other": "M1"}}
    )
    match = {"greedy": {"win": FIGURE, "tie": FIGURE, "lose": UNKNOWN, "n": 4, "unreadable": 2}}
    metrics = METRICS | {"M2": EVALUATED, "M2-M1": match, "M3-M1": match, "drift-M2": {"warned": ["shorter"]}}
    rows = cells(of_model("M2", params, metrics))
    assert rows["parameters"] == ["0.3 M"]
    assert rows["context, tokens"] == ["512"]
    assert rows["pairwise accuracy"] == ["0.500", "0.250 to 0.750", "4"]
    assert "spearman" not in rows, "unknown"
    assert rows["M1"] == ["0.50 (0.25 to 0.75)", "0.50 (0.25 to 0.75)", "–", "4", "2"]
    assert "shorter" not in of_model("M2", params, metrics)
    assert "drift-M2: shorter" in words(of_model("M3", params, metrics))
    assert "It was not evaluated." in words(of_model("M3"))
    assert facts.line_of("M3", LINEAGES, PARAMS) == ["M3", "M2", "M1", "M0"]


def test_the_example_is_the_widest_of_the_short_pairs():
    row = dict.fromkeys(PAIRS.schema, "x") | {"chosen_score": 4.0, "rejected_score": 3.0, "reversed": None}
    rows = [row, row | {"prompt_id": "b", "rejected_score": 1.0}, row | {"rejected_score": 0.0, "prompt": "x" * 2000}]
    frame = pl.DataFrame(rows, schema=PAIRS.schema)
    assert facts.example([("M1", frame), ("M2", frame.clear())])["prompt_id"] == "b"
    assert facts.example([]) is None


@pytest.mark.parametrize(
    ("source", "of_data", "of_m1"),
    [
        ("model", "The SFT baseline judged each ranked answer 4 times", "judgements that the SFT baseline wrote"),
        (
            "judge",
            "Big (judge_seed.source: judge) judged each ranked answer 4 times",
            "judgements that Big (judge_seed.source: judge) wrote",
        ),
        ("ranks", "No model judged the ranked answers", "people's ranks, turned into judgements"),
        ("written", "came with the seed data", "judgements that came with the seed data"),
    ],
)
def test_the_cards_say_where_the_judgements_in_eft_come_from(source, of_data, of_m1):
    seed = PARAMS.judge_seed.model_copy(update={"source": source, "judge": "Big", "answers_per_prompt": 3})
    params = PARAMS.model_copy(update={"judge_seed": seed})
    data = words(dataset(params=params, metrics=METRICS | {"EFT": {"eft": 9, "warned": ["only 1 of 9"]}}))
    assert of_data in data
    assert "of 3 answers to a prompt at most" in data
    assert "EFT: only 1 of 9" in data
    assert of_m1 in words(of_model("M1", params=params))
    assert ("the judgements in EFT" in facts.of_the_run(params)["engines"]) == (source in ("model", "judge"))


def test_a_model_that_saw_no_eft_is_not_doubted_for_it():
    metrics = METRICS | {"EFT": {"warned": ["only 1 of 9"]}}
    assert "only 1 of 9" in words(of_model("M2", metrics=metrics))
    assert "only 1 of 9" not in words(of_model("SFT", metrics=metrics))
