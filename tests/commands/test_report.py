"""`srlm report`: one file, no network, and no text of a model is ever more than text. Looked at by a real browser where
there is one."""

import html
import json
import os
import re
import shutil
import subprocess
import sys

import polars as pl
import pytest

from stages.commands import report
from stages.console.errors import TableError
from stages.page.pairs import embedded, fitting
from stages.store import catalog
from stages.store.files import write_json
from stages.store.tables import (
    ANSWERS,
    CANDIDATES,
    JUDGED,
    JUDGEMENTS,
    PAIRS,
    PROMPTS,
    SCORES,
    TEST_PROMPTS,
    VERDICTS,
)
from tests.workspace import ENV

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")

EVIL = {
    "script": "<script>document.title='pwned'</script>",
    "end of script": "</script><script>document.title='pwned'</script>",
    "handler": "<img src=x onerror=\"document.title='pwned'\">",
    "comment": "<!--<script>document.title='pwned'",
    "markdown": "**bold** [x](javascript:alert(1)) `code`",
    "right to left": "\u202egnp.exe",
    "zero width": "pass\u200bword\ufeff",
    "control": "bell\x07 escape\x1b[31m null\x00",
    "template": "{{ page.title }} {% raw %} ${1+1}",
    "entity": "&lt;b&gt; &amp; &#x3c;",
    "line separator": "emoji 😀 \u2028line",
}


def store(root, texts, models=("M1",), prefix=""):
    """One pair per text and model; the text is prompt, both answers and all judgements."""
    for model in models:
        rows = {table: [] for table in (PROMPTS, CANDIDATES, JUDGEMENTS, SCORES, PAIRS)}
        for i, text in enumerate(texts):
            p, c, d = f"{model}p{i}", f"{model}c{i}", f"{model}d{i}"
            rows[PROMPTS].append((p, model, text, "M0", [], None))
            rows[CANDIDATES] += [
                (c, p, model, 0, "chosen " + text, "stop", 5, None),
                (d, p, model, 1, "rejected " + text, "stop", 9, None),
            ]
            rows[JUDGEMENTS] += [
                (x, p, model, k, f"judged {k} {text}", "stop", s, None)
                for x, s in ((c, 5.0), (d, None))
                for k in range(2)
            ]
            rows[SCORES] += [(c, p, model, 5.0, 0.0, 2, "chosen", None), (d, p, model, 1.0, 1.0, 1, "rejected", None)]
            rows[PAIRS].append(
                (p, model, text, "chosen " + text, "rejected " + text, c, d, 5.0, 1.0, None, None, None, None)
            )
        for table, found in rows.items():
            catalog.write(table, pl.DataFrame(found, schema=table.schema, orient="row"), root, model)
    return root


AIFT = dict.fromkeys(("prompts", "candidates", "pairs"), 1) | {"pair_yield": 1.0, "mean_margin": None}
AIFT |= {"unreadable_share": None, "dropped": {}, "fates": {}, "score_histogram": {}}


def answered(root, texts):
    """Held-out answers of M1 and M3, drop reasons, warnings, metrics and lineages of these texts: what the tables and
    charts of the page show."""
    tests = [(f"t{i}", text, text, text) for i, text in enumerate(texts)]
    catalog.write(TEST_PROMPTS, pl.DataFrame(tests, schema=TEST_PROMPTS.schema, orient="row"), root)
    for model, points in (("M1", 1.0), ("M3", 5.0)):
        rows = [(f"t{i}", model, "greedy", text, "stop", 3, points, [text], None) for i, text in enumerate(texts)]
        catalog.write(ANSWERS, pl.DataFrame(rows, schema=ANSWERS.schema, orient="row"), root, model)
    dropped = [(f"x{i}", "M2", text, text, [text], text) for i, text in enumerate(texts)]
    catalog.write(PROMPTS, pl.DataFrame(dropped, schema=PROMPTS.schema, orient="row"), root, "M2")
    write_json(root / "data/metrics/AIFT/M1.json", AIFT | {"warned": list(texts), texts[0]: 1})
    for i, text in enumerate(texts):
        each = {key: {text: text} for key in ("data", "params", "versions")}
        write_json(root / f"data/models/M2{i}/lineage.json", {"name": text, "parent": text, "method": text, **each})
    (root / "params.yaml").write_text("".join(f"# {text!a}\n" for text in texts))
    return root


def written(root, **how):
    out = root / "report.html"
    report.write(out, root=root, **how)
    return out


def browse(page, tmp_path):
    """The page's DOM after its scripts ran, as Chromium prints it."""
    flags = [
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
    ]
    command = [
        CHROMIUM,
        *flags,
        f"--user-data-dir={tmp_path / 'profile'}",
        "--virtual-time-budget=3000",
        "--dump-dom",
        page.as_uri(),
    ]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=120, check=True, env=os.environ | {"HOME": str(tmp_path)}
    ).stdout


@pytest.mark.slow
@needs_browser
def test_nothing_that_a_model_wrote_runs_and_everything_is_shown(tmp_path):
    texts = list(EVIL.values())
    page = written(answered(store(tmp_path, texts), texts))
    opened = page.with_name("opened.html")  # the same page, with every pair opened by its own script's handler
    script = "for (const d of document.querySelectorAll('details')) d.open = true;"
    opened.write_text(
        re.sub(r"script-src 'sha256-[^']+'", "script-src 'unsafe-inline'", page.read_text())
        + f"<script>{script}</script>"
    )
    dom = browse(opened, tmp_path)
    assert "<title>Self-rewarding run</title>" in dom
    assert len(re.findall(r"<script", dom)) == 3, "data, browser, and the test's own"
    assert "<img" not in dom
    assert "\u202e" not in page.read_text()
    seen = re.sub(r'<span class="cp">U\+([0-9A-F]+)</span>', lambda m: chr(int(m[1], 16)), dom)
    seen = re.sub(r"<[^>]+>", "", seen.split('id="list"')[1].split('class="pages"')[0])
    shown = seen.replace("&lt;", "<").replace("&gt;", ">").replace("&nbsp;", "\u00a0").replace("&amp;", "&")
    for text in texts:
        for part in (f"chosen {text}", f"rejected {text}", f"judged 0 {text}", f"judged 1 {text}"):
            assert part in shown


@pytest.mark.slow
@needs_browser
def test_the_pages_own_policy_lets_its_script_run_and_no_other(tmp_path):
    page = written(store(tmp_path, ["say cat"]))
    page.write_text(page.read_text() + "<script>document.title='pwned'</script>")
    dom = browse(page, tmp_path)
    assert "1 pairs found" in dom
    assert "<title>Self-rewarding run</title>" in dom


KEYS = """
const press = (key, on = document.body) => on.dispatchEvent(new KeyboardEvent("keydown", {key, bubbles: true}));
const set = (id, value) => { const e = document.getElementById(id); e.value = value; e.dispatchEvent(new Event("input", {bubbles: true})); };
const told = [], tell = (what) => told.push(what);
const heads = () => [...document.querySelectorAll("#list summary")], count = () => document.getElementById("count").textContent;
tell(count()); tell(heads().length);
press("j"); press("j", document.activeElement); tell(heads().indexOf(document.activeElement));
press("k", document.activeElement); tell(heads().indexOf(document.activeElement));
press("n", document.activeElement); tell(document.getElementById("where").textContent);
press("/"); tell(document.activeElement.id);
const started = performance.now(); set("f-text", "CAT 19999"); tell(count()); tell(performance.now() - started < 1000);
set("f-text", ""); set("f-margin", "4.5"); tell(count()); set("f-margin", ""); set("f-model", "M1"); tell(count());
set("f-model", ""); set("f-tokens", "6"); tell(count()); set("f-tokens-most", "9"); tell(count());
set("f-tokens", ""); set("f-tokens-most", "8"); tell(count()); set("f-tokens-most", "");
set("f-model", ""); set("f-length", "chosen"); tell(count());
document.title = JSON.stringify(told);
"""


@pytest.mark.slow
@needs_browser
def test_20000_pairs_are_walked_and_filtered_by_keyboard(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "PAIRS_BYTES", 40_000_000)
    page = written(store(tmp_path, [f"say cat {i}" for i in range(20_000)]))
    page.write_text(
        re.sub(r"script-src 'sha256-[^']+'", "script-src 'unsafe-inline'", page.read_text())
        + f"<script>{KEYS}</script>"
    )
    title = html.unescape(re.search(r"<title>(.*?)</title>", browse(page, tmp_path))[1])
    assert json.loads(title) == [
        *("20000 pairs found", 25, 1, 0, "page 2 of 800", "f-text"),
        *("1 pairs found", True, "0 pairs found", "20000 pairs found"),
        *("20000 pairs found", "20000 pairs found", "0 pairs found", "0 pairs found"),
    ]


@pytest.mark.slow
@needs_browser
def test_the_page_fits_a_phone(tmp_path):
    page = written(measured(store(tmp_path, ["say " + "cat" * 200]), [("win", "lose")] * 30))
    framed = tmp_path / "phone.html"
    shown = re.sub(r"script-src 'sha256-[^']+'", "script-src 'unsafe-inline'", page.read_text())
    page.write_text(shown + "<script>parent.postMessage(document.documentElement.scrollWidth, '*')</script>")
    listen = "onmessage = (e) => { document.title = e.data; }"
    framed.write_text(f"<script>{listen}</script><iframe width=390 style='border:0' src='{page.name}'></iframe>")
    width = re.search(r"<title>(\d+)</title>", browse(framed, tmp_path))[1]
    assert 360 < int(width) <= 390, "nothing but tables scrolls sideways"


@pytest.mark.slow
def test_the_page_asks_for_nothing(tmp_path):
    text = written(store(tmp_path, ["say cat"])).read_text()
    without_namespaces = re.sub(r'xmlns(:\w+)?="[^"]+"', "", text)
    assert "http://" not in without_namespaces
    assert "https://" not in without_namespaces
    assert not re.search(r"<link|@import|src=", without_namespaces)


def test_an_empty_store_is_a_friendly_page(tmp_path):
    text = written(tmp_path).read_text()
    assert "The store is empty. Make it with <code>srlm repro</code>" in text
    assert "Nothing is measured yet" in text
    assert "table judgements is not there yet: stage judge_candidates makes it" in text


@pytest.mark.slow
def test_what_is_there_is_shown_when_the_rest_is_not(tmp_path):
    store(tmp_path, ["say cat"])
    (tmp_path / PAIRS.path.format(model="M1")).unlink()
    text = written(tmp_path).read_text()
    assert "Every single judgement" in text
    assert "table pairs is not there yet" in text
    assert "No pairs yet." in text


@pytest.mark.slow
def test_pairs_without_their_prompts_are_still_counted(tmp_path):
    store(tmp_path, ["say cat", "say dog"])
    (tmp_path / PROMPTS.path.format(model="M1")).unlink()
    text = written(tmp_path).read_text()
    assert "2 of 2 pairs" in text
    assert "The store is empty" not in text


@pytest.mark.parametrize(
    ("content", "said"),
    [("{", "cannot be read as JSON"), ('{"name": "M2"}', "lacks parent, method"), ("3", "expected an object")],
)
def test_a_broken_lineage_is_named(tmp_path, content, said):
    store(tmp_path, ["say cat"])
    (tmp_path / "data/models/M2").mkdir(parents=True)
    (tmp_path / "data/models/M2/lineage.json").write_text(content)
    with pytest.raises(TableError, match=said):
        written(tmp_path)
    assert not (tmp_path / "report.html").exists()


def trained(root, name, parent, log="step,loss\n1,2.0\n2,1.0\n"):
    lineage = {"name": name, "parent": parent, "method": "dpo", "data": {f"data/AIFT/{parent}/pairs.parquet": "abc123"}}
    write_json(root / f"data/models/{name}/lineage.json", lineage | {"params": {"beta": 0.1}, "versions": {"trl": "1"}})
    (root / "data/plots").mkdir(exist_ok=True)
    (root / f"data/plots/train_{name}.csv").write_text(log)


@pytest.mark.slow
def test_the_loop_names_every_child_and_what_the_stages_warned_of(tmp_path):
    store(tmp_path, ["say cat"])
    write_json(tmp_path / "data/metrics/AIFT/M1.json", AIFT | {"warned": ["the judge is saturated: 61% <b>"]})
    for name in ("M2", "M2b", "M2P"):
        trained(tmp_path, name, "M1", "step,loss,valid_loss\n1,2.0,\n2,1.0,3.5\n3,0.5,3.0\n")
    text = written(tmp_path).read_text()
    assert "AIFT(M1): the judge is saturated: 61% &lt;b&gt;" in text
    assert "abc123" in text
    assert "which train <b>M2</b>, <b>M2P</b>, <b>M2b</b>" in text
    assert "M2: 2 → 0.5 in 3 steps" in text
    assert "valid_loss" in text


@pytest.mark.slow
def test_models_that_params_no_longer_name_are_not_shown(tmp_path):
    store(tmp_path, ["say cat"])
    trained(tmp_path, "M2", "M1")
    trained(tmp_path, "OLD", "M1")
    (tmp_path / "params.yaml").write_text("aift: {M1: {}}\nmodels: {M2: {prev: M1}}\n")
    text = written(tmp_path).read_text()
    assert "M2: 2 → 1 in 2 steps" in text
    assert "OLD" not in text


@pytest.mark.parametrize("log", ["", "loss\n1\n", "step,loss\nx,1\n", "step,loss\n1,2,3\n\x00"])
def test_a_broken_training_log_is_named(tmp_path, log):
    store(tmp_path, ["say cat"])
    trained(tmp_path, "M2", "M1", log)
    with pytest.raises(TableError, match=r"train_M2\.csv is not a training log"):
        written(tmp_path)
    assert not (tmp_path / "report.html").exists()


def test_pairs_that_do_not_join_are_an_error(tmp_path):
    store(tmp_path, ["say cat", "say dog"])
    candidates = CANDIDATES.path.format(model="M1")
    damaged = pl.read_parquet(tmp_path / candidates).with_columns(pl.col("candidate_id").str.replace("M1c1", "M1cX"))
    damaged.write_parquet(tmp_path / candidates)
    with pytest.raises(TableError, match=r"rows of \w+@M1\.\w+ -> .* is damaged"):
        written(tmp_path)
    assert not (tmp_path / "report.html").exists()


def measured(root, verdicts, oracle=None, ranks=((0, 5.0), (1, 1.0))):
    """SFT and M1 evaluated on a held-out prompt for each of `verdicts` (first, second) of model `large`."""
    verdict_rows, models = [], ("SFT", "M1")
    for i, (first, second) in enumerate(verdicts):
        outcome = None if None in (first, second) else first if first == second else "tie"
        verdict_rows.append((f"t{i}", "M1", "SFT", "greedy", "large", first, second, outcome))
    catalog.write(VERDICTS, pl.DataFrame(verdict_rows, schema=VERDICTS.schema, orient="row"), root, "M1-SFT")
    for model in models:
        rows = [(f"t{i}", model, "greedy", "cat", "stop", 3, oracle, None, None) for i in range(len(verdicts))]
        catalog.write(ANSWERS, pl.DataFrame(rows, schema=ANSWERS.schema, orient="row"), root, model)
        judged = [(f"c{i}", "r", model, rank, score, 1) for i, (rank, score) in enumerate(ranks)]
        catalog.write(JUDGED, pl.DataFrame(judged, schema=JUDGED.schema, orient="row"), root, model)
        figure = {"value": 0.5, "low": 0.4, "high": 0.6, "n": 40}
        nothing = {"value": None, "low": None, "high": None, "n": 0}
        greedy = {"oracle_score": figure if oracle else nothing, "fully_right": nothing, "tokens": figure}
        content = {"judge": {"pairwise_accuracy": figure, "spearman": nothing}, "writer": {"greedy": greedy}}
        write_json(root / f"data/metrics/EVAL/{model}.json", content)
    return root


def test_without_an_oracle_only_what_has_values_is_drawn(tmp_path):
    page = written(measured(tmp_path, [("win", "win")] * 30 + [("lose", "lose")] * 2)).read_text()
    assert "M1 beats SFT: it wins 93.8% of 32 held-out prompts" in page
    assert "judged by the model large" in page
    titles = re.findall(r"<figcaption>(.*?)</figcaption>", page)
    assert titles == ["greedy", "Pairs in people&#39;s order, %", "Tokens"]
    assert "checker" not in page
    assert all("<text" in figure for figure in re.findall(r"<figure.*?</figure>", page, re.DOTALL)), "no empty frame"


def test_unreadable_verdicts_are_told_not_drawn(tmp_path):
    page = written(measured(tmp_path, [(None, None)] * 16)).read_text()
    reason = "16 of 16 unreadable: the comparing model large never wrote [[A]], [[B]] or [[C]]"
    assert f"Whether M1 answers better than SFT is not known ({reason})" in page
    matches = page.split('<section id="matches">')[1].split("</section>")[0]
    assert reason in matches
    assert "<figure" not in matches


@pytest.mark.slow
def test_every_figure_has_its_n_and_a_name_for_a_screen_reader(tmp_path):
    page = written(measured(store(tmp_path, ["say cat"]), [("win", "tie")] * 3)).read_text()
    assert "M1  50.0 (40.0 to 60.0), n 40" in page
    figures = re.findall(r"<figure[^>]*>", page)
    assert figures
    assert all('role="img" aria-label="' in figure for figure in figures)


@pytest.mark.slow
def test_a_large_store_is_sampled_evenly_and_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "PAIRS_BYTES", 20_000)
    page = written(store(tmp_path, [f"say cat {i}" for i in range(200)], models=("M1", "M2")))
    text = page.read_text()
    pairs = json.loads(re.search(r'id="pairs-data">(.*?)</script>', text)[1])
    count = {model: sum(p["model"] == model for p in pairs) for model in ("M1", "M2")}
    assert abs(count["M1"] - count["M2"]) <= 1
    assert f"{len(pairs)} of 400 pairs: a sample, drawn evenly" in text
    assert page.read_bytes() == written(tmp_path).read_bytes(), "the same store, the same page"


@pytest.mark.slow
def test_a_revision_is_shown_as_it_was(tmp_path):
    root = tmp_path / "project"
    root.mkdir()
    trained_then = "step,loss\n1,9.0\n2,7.0\n"
    for command in (("git", "init", "-q"), (sys.executable, "-m", "dvc", "init", "-q")):
        subprocess.run(command, cwd=root, check=True, env=ENV)
    trained(measured(root, [("win", "win")] * 20), "M2", "M1", trained_then)
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b.c")
    for command in ((*git, "add", "-A"), (*git, "commit", "-qm", "one"), (*git, "tag", "v1")):
        subprocess.run(command, cwd=root, check=True)
    trained(root, "M2", "M1")
    text = written(root, revision="v1").read_text()
    assert "M2: 9 → 7 in 2 steps" in text
    assert "M1 beats SFT" in text
    assert "revision <code>v1</code>" in text


def test_pairs_fit_their_budget():
    pairs = [{"text": "x" * 10}] * 5
    one = len(embedded(pairs[0]))
    text, n = fitting(pairs, 2 + 3 * (one + 1))
    assert n == 3 == len(json.loads(text))
    assert len(text) <= 2 + 3 * (one + 1)
    assert fitting([], 10) == ("[]", 0)


@pytest.mark.parametrize("text", EVIL.values(), ids=EVIL)
def test_embedded_json_cannot_end_its_element(text):
    found = embedded({"text": text})
    assert not set(found) & set("<>&")
    assert found.isascii()
    assert json.loads(found) == {"text": text}
