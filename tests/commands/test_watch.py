"""`srlm watch`: a real process, asked as a browser asks it and as others would."""

import http.client
import json
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import contextmanager

import polars as pl
import psutil
import pytest

from stages.commands import watch
from stages.commands.watch_view import Side, View
from stages.console.errors import SrlmError
from stages.store import database, reviews
from stages.store.files import write_json
from stages.store.run import LIVE
from tests.browser import CHROMIUM, Browser
from tests.commands.test_report import AIFT, EVIL, measured, store, trained
from tests.workspace import ENV, ROOT

needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium here: apt-get install chromium")
DVC_YAML = """stages:
  sample_candidates:
    foreach: ${aift}
    do:
      cmd: python -m stages.sample_candidates ${key}
      outs: ['data/AIFT/${key}/candidates.parquet']
  train_dpo:
    foreach: ${models}
    do:
      cmd: python -m stages.train_dpo ${key} --prev M1
      deps: [data/AIFT/M1/candidates.parquet]
      outs: ['data/models/${key}']
"""
PARAMS = "aift: {M1: {}}\nmodels: {M2: {prev: M1}}\nevaluated: [SFT, M1]\nhead_to_head: {M1-SFT: {}}\n"


def project(root):
    """A store of few pairs, a project of two stages around it."""
    (root / "params.yaml").write_text(PARAMS)
    (root / "dvc.yaml").write_text(DVC_YAML)
    (root / ".dvc").mkdir(exist_ok=True)
    (root / ".dvc/config").write_text("[core]\n    analytics = false\n    no_scm = true\n")
    return root


@contextmanager
def watching(root, *options):
    """The port of `srlm watch` in `root`, and its process."""
    command = [sys.executable, "-P", "-m", "stages.commands.cli", "watch", *options]
    env = ENV | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen(command, cwd=root, env=env, stderr=subprocess.PIPE, text=True)
    try:
        line = process.stderr.readline()
        assert "http://127.0.0.1:" in line, line + process.stderr.read()
        yield int(re.search(r"127\.0\.0\.1:(\d+)/", line)[1]), process
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def ask(port, path, method="GET", body=None, **headers):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    answer = connection.getresponse()
    content = answer.read().decode()
    connection.close()
    return answer.status, dict(answer.getheaders()), content


def drawn(port):
    """The page, when its figures are drawn."""
    for _ in range(300):
        _, headers, text = ask(port, "/")
        if 'data-version=""' not in text:
            return headers, text
        time.sleep(0.1)
    raise AssertionError("never drawn")


def told(root, stage, *lines):
    """What a stage that runs in this process has told."""
    path = root / LIVE / f"{stage}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    me = psutil.Process()
    first = {"started": time.time() - 30, "pid": me.pid, "created": me.create_time()}
    path.write_text("".join(json.dumps(line) + "\n" for line in (first, *lines)))


def progress(label, done, total, unit):
    fields = {"label": label, "done": done, "total": total, "unit": unit, "free": 0, "note": "12 tokens/s"}
    return fields | {"begun": time.time() - 30, "at": time.time()}


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    root = project(
        measured(store(tmp_path_factory.mktemp("watch"), ["say cat", "say dog", "say <b>"]), [("win", "lose")] * 25)
    )
    with watching(root) as (port, process):
        drawn(port)
        yield root, port, process


def test_only_this_machine_is_listened_to(served):
    _, port, process = served
    [listening] = [c for c in psutil.Process(process.pid).net_connections() if c.status == psutil.CONN_LISTEN]
    assert (listening.laddr.ip, listening.laddr.port) == ("127.0.0.1", port)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:{port}", "127.0.0.1", "127.0.0.1:1", "[::1]:{port}", ""]
)
@pytest.mark.parametrize("path", ["/", "/api/state", "/api/pairs"])
def test_a_name_that_another_site_points_here_gets_nothing(served, host, path):
    _, port, _ = served
    status, _, text = ask(port, path, Host=host.format(port=port))
    assert (status, "Host" in text) == (403, True)
    assert ask(port, path, Host=f"localhost:{port}")[0] == 200


def test_the_page_has_the_reports_policy_and_may_ask_this_server_alone(served):
    _, port, _ = served
    headers, text = drawn(port)
    policy = headers["Content-Security-Policy"]
    assert re.search(r'http-equiv="Content-Security-Policy" content="([^"]+)"', text)[1] in policy
    assert "default-src 'none'" in policy
    assert "connect-src 'self'; frame-ancestors 'none'" in policy
    assert "unsafe" not in policy.replace("style-src 'unsafe-inline'", "")
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert not [name for name in headers if name.startswith("Access-Control")]
    assert len(re.findall("<script", text)) == 1
    assert "M1 over SFT can be told apart from noise" in text
    assert not re.search(r"https?://", re.sub(r'xmlns(:\w+)?="[^"]+"', "", text)), "nothing from elsewhere"


def test_reading_is_all_that_can_be_done(served):
    _, port, _ = served
    status, headers, text = ask(port, "/", "HEAD")
    assert (status, text, int(headers["Content-Length"]) > 1000) == (200, "", True)
    for method in ("PUT", "DELETE", "OPTIONS", "PATCH"):
        assert ask(port, "/", method)[0] in (405, 501)
    for path in ("/../../etc/passwd", "/api", "//evil", "/data/AIFT/M1/pairs.parquet"):
        assert ask(port, path)[0] == 404


def test_pairs_come_by_the_page_and_by_the_forms_fields(served):
    _, port, _ = served

    def pairs(query):
        status, _, text = ask(port, f"/api/pairs?{query}")
        assert status == 200, text
        return json.loads(text)

    first = pairs("size=2")
    assert (first["total"], first["page"], len(first["pairs"]), first["models"]) == (3, 0, 2, ["M1"])
    one = pairs("text=CAT")["pairs"][0]
    assert (one["prompt"], one["chosen"]["text"], one["rejected"]["text"]) == (
        "say cat",
        "chosen say cat",
        "rejected say cat",
    )
    assert [j["score"] for j in one["chosen"]["judgements"]] == [5.0, 5.0]
    assert one["rejected"]["judgements"][0] == {"score": None, "text": "judged 0 say cat"}
    assert len(pairs("size=2&page=1")["pairs"]) == 1
    assert pairs("size=2&page=99")["page"] == 1
    for query, total in (
        ("margin=4", 3),
        ("margin=4.1", 0),
        ("margin-most=3", 0),
        ("tokens=9", 3),
        ("tokens-most=8", 0),
    ):
        assert pairs(query)["total"] == total, query
    assert pairs("length=rejected")["total"] == 3
    assert pairs("model=M2")["total"] == 0
    assert pairs("text=%27%3B+DROP+TABLE+browsed")["total"] == 0


@pytest.mark.parametrize("query", ["margin=x", "size=x", "sort=price", "length=both", "side=7", "side=-1", "page=1e9"])
def test_a_field_that_is_none_is_told(served, query):
    _, port, _ = served
    status, _, text = ask(port, f"/api/pairs?{query}")
    assert (status, bool(json.loads(text)["error"])) == (400, True)


def test_a_port_that_is_taken_and_a_folder_without_a_project_are_told(tmp_path, served):
    with pytest.raises(SrlmError, match=r"no params\.yaml"):
        watch.watch(root=tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(SrlmError, match=f"cannot listen on 127.0.0.1:{taken.getsockname()[1]}"):
            watch.watch(taken.getsockname()[1], root=project(tmp_path))


PAIR = {"model": "M1", "prompt_id": "M1p0", "chosen_id": "M1c0", "rejected_id": "M1d0", "decision": "swap"}


def post(port, said=PAIR, path="/api/review", **headers):
    token = re.search(r'data-token="([^"]+)"', ask(port, "/")[2])[1]
    usual = {"Content-Type": "application/json", "Origin": f"http://127.0.0.1:{port}", "X-Srlm-Token": token}
    body = said if isinstance(said, str) else json.dumps(said)
    sent = {name: value for name, value in (usual | headers).items() if value is not None}
    status, _, text = ask(port, path, "POST", body, **sent)
    return status, json.loads(text)


@pytest.mark.parametrize(
    "headers",
    [
        {"Origin": "http://evil.example"},
        {"Origin": None},
        {"Origin": "null"},
        {"X-Srlm-Token": "guess"},
        {"X-Srlm-Token": None},
        {"Host": "evil.example"},
    ],
)
def test_nobody_but_our_page_writes(served, headers):
    root, port, _ = served
    assert post(port, **headers)[0] == 403
    assert not (root / "data/REVIEW").exists()


@pytest.mark.parametrize(
    ("said", "status", "why"),
    [
        ("{", 400, "Expecting"),
        ([], 400, "all texts"),
        (PAIR | {"decision": "perhaps"}, 400, "agree, swap, drop"),
        (PAIR | {"decision": 3}, 400, "all texts"),
        (PAIR | {"prompt_id": "gone"}, 400, "no such pair here"),
        (PAIR | {"model": "../../x"}, 400, "no such pair here"),
        ("x" * 20_000, 413, "at most"),
    ],
)
def test_what_is_no_review_is_told_and_not_written(served, said, status, why):
    root, port, _ = served
    answer = post(port, said)
    assert (answer[0], why in answer[1]["error"]) == (status, True)
    assert not (root / "data/REVIEW").exists()


def test_a_review_is_written_shown_and_found(tmp_path):
    root = project(store(tmp_path, ["say cat", "say dog"]))
    with watching(root) as (port, _):
        status, answer = post(port)
        assert (status, answer["decision"], bool(answer["who"])) == (200, "swap", True)
        post(port, PAIR | {"decision": "drop"})
        rows = reviews.read(root, "M1")
        assert rows["decision"].to_list() == ["swap", "drop"]
        assert rows["reviewed_at"].is_sorted()
        found = json.loads(ask(port, "/api/pairs?review=drop")[2])
        assert [(p["prompt_id"], p["review"]) for p in found["pairs"]] == [
            ("M1p0", {"decision": "drop", "who": answer["who"]})
        ]
        assert json.loads(ask(port, "/api/pairs?review=none")[2])["total"] == 1
        # the pair is gone when build_pairs has followed: it may be wanted back
        file = root / "data/AIFT/M1/pairs.parquet"
        pl.read_parquet(file).filter(pl.col("prompt_id") != "M1p0").write_parquet(file)
        found = json.loads(ask(port, "/api/pairs?review=drop")[2])["pairs"]
        assert [(p["prompt_id"], p["trained"]) for p in found] == [("M1p0", False)]
        assert post(port, PAIR | {"decision": "agree"})[0] == 200


@pytest.mark.slow
def test_the_state_follows_the_stages_and_the_page_follows_the_store(tmp_path):
    root = project(store(tmp_path, ["say cat"]))
    with watching(root) as (port, process):
        state = lambda: json.loads(ask(port, "/api/state")[2])
        assert [(s["name"], s["state"]) for s in state()["stages"]] == [
            ("sample_candidates@M1", "waiting"),
            ("train_dpo@M2", "waiting"),
        ]
        told(root, "sample_candidates@M1", progress("M1 writes", 6, 24, "texts"), {"texts": [["M1p0", 1, "<i>miau"]]})
        now = state()["stages"][0]
        assert (now["state"], now["progress"]["done"]) == ("running", 6)
        assert now["texts"] == [{"id": "M1p0", "n": 1, "text": "<i>miau", "prompt": "say cat"}]
        assert 60 < now["left_s"] < 120
        told(
            root, "train_dpo@M2", {"step": 1, "loss": 0.7, "margin": 0.1}, {"outcome": "TrainingError", "error": "<b>"}
        )
        failed = state()["stages"][1]
        assert (failed["state"], failed["error"], failed["steps"][0]["margin"]) == ("failed", "<b>", 0.1)
        assert_older_figures_are_told_while_a_run_is_at_work(root, port)
        version = state()["version"]
        write_json(root / "data/metrics/AIFT/M1.json", AIFT | {"warned": ["saturated <b>"]})
        assert state()["warnings"] == ["AIFT(M1): saturated <b>"]
        until(lambda: state()["version"] != version)
        assert "saturated &lt;b&gt;" in drawn(port)[1]
        process.send_signal(signal.SIGTERM)
        assert (process.wait(30), process.stderr.read().strip()) == (143, "srlm watch has ended")


def test_a_table_that_a_stage_takes_away_while_the_page_is_drawn_ends_nothing(tmp_path, monkeypatch):
    root = project(store(tmp_path, ["say cat"]))
    path = root / "data/AIFT/M1/pairs.parquet"
    content, check = path.read_bytes(), database.check_schema

    def checked(table, file):
        check(table, file)
        if file == path:
            path.unlink()

    view = View(root, [Side(root, None)])
    monkeypatch.setattr(database, "check_schema", checked)
    view._draw("one")
    assert "pairs.parquet" in view.html()
    monkeypatch.undo()
    path.write_bytes(content)
    view._draw("two")
    assert 'data-version="two"' in view.html()


def assert_older_figures_are_told_while_a_run_is_at_work(root, port):
    params = (root / "params.yaml").read_text()
    (root / "params.yaml").write_text(params + "seed: 2\n")
    lock = {
        "schema": "2.0",
        "stages": {"train_dpo@M2": {"cmd": "x", "params": {"params.yaml": {"seed": 1}}, "outs": []}},
    }
    (root / "dvc.lock").write_text(json.dumps(lock) + "\n")
    advice, of_before = "may not fit. Run: srlm repro", "is of the run before"
    for lines, seen, unseen in (([], of_before, advice), ([{"outcome": "done"}], advice, of_before)):
        told(root, "repro", *lines)
        until(lambda: seen in drawn(port)[1])  # noqa: B023
        assert unseen not in drawn(port)[1]
        [warning] = [w for w in json.loads(ask(port, "/api/state")[2])["warnings"] if advice in w or of_before in w]
        assert seen in warning
    (root / "params.yaml").write_text(params)


def until(holds):
    for _ in range(200):
        if holds():
            return
        time.sleep(0.1)
    raise AssertionError("never so")


FITS = "document.documentElement.scrollWidth"
HEIGHT = "Math.max(...[...document.querySelectorAll('{} svg text')].map((t) => t.getBoundingClientRect().height))"


@pytest.mark.slow
@needs_browser
def test_a_run_is_watched_in_both_widths_and_lights(tmp_path):
    root = project(measured(store(tmp_path / "p", ["say cat", *EVIL.values()]), [("win", "lose")] * 25))
    steps = [{"step": i, "loss": 3 / i, "margin": i / 9} for i in range(1, 10)]
    told(root, "train_dpo@M2", progress("DPO M2", 9, 20, "steps"), *steps)
    texts = [["M1p0", i, text + " word" * 60] for i, text in enumerate(EVIL.values())]
    told(root, "sample_candidates@M1", progress("M1 writes", 6, 24, "texts"), {"texts": texts})
    with watching(root) as (port, _), Browser(tmp_path) as browser:
        drawn(port)
        backgrounds = set()
        for width in (1280, 390):
            for light in ("light", "dark"):
                browser.show(f"http://127.0.0.1:{port}/", width, light=light)
                browser.until(
                    "document.querySelectorAll('#stages li').length === 2 && document.querySelectorAll('details.pair').length"
                )
                assert browser.run(FITS) == width, "nothing but tables scrolls sideways"
                assert 9 < browser.run(HEIGHT.format("#curves")) < 20, "a chart's letters are as large as the text's"
                backgrounds.add(browser.run("getComputedStyle(document.body).backgroundColor"))
                assert browser.run("document.title") == "Self-rewarding run"
        assert len(backgrounds) == 2
        assert "Running: sample_candidates@M1, train_dpo@M2" in browser.run(
            "document.getElementById('run-now').textContent"
        )
        assert browser.run(
            "[...document.querySelectorAll('#curves figure')].map((f) => f.getAttribute('aria-label'))"
        ) == [
            "DPO M2: loss 0.333 at step 9 of 20",
            "DPO M2: margin 1 at step 9 of 20",
        ]
        order = "[...document.querySelector('main').children].map((n) => n.id || n.localName).slice(0, 4)"
        assert browser.run(order) == ["answer", "run", "models", "nav"], "the answer first"
        seen = browser.run("document.getElementById('texts').textContent")
        assert "<script>document.title='pwned'</script>" in seen
        assert "U+202E" in seen
        # the stage goes on, and the page with it
        told(
            root, "train_dpo@M2", progress("DPO M2", 20, 20, "steps"), *steps, {"step": 20, "loss": 0.1, "margin": 2.0}
        )
        browser.until("document.querySelector('#curves').textContent.includes('loss 0.1 at step 20 of 20')")
        write_json(root / "data/metrics/AIFT/M1.json", AIFT | {"warned": ["the judge is saturated <img>"]})
        browser.until(
            "document.querySelector('#answer').textContent.includes('AIFT(M1): the judge is saturated <img>')"
        )
        assert browser.run("document.querySelectorAll('img').length") == 0
        assert browser.errors == []


@pytest.mark.slow
@needs_browser
def test_20000_pairs_stay_with_the_server_and_are_walked_by_keyboard(tmp_path):
    root = project(store(tmp_path / "p", [f"say cat {i}" for i in range(20_000)]))
    with watching(root) as (port, _), Browser(tmp_path) as browser:
        browser.show(f"http://127.0.0.1:{port}/")
        browser.until("document.getElementById('count').textContent === '20000 pairs found'", 60)
        assert browser.run("document.querySelectorAll('details.pair').length") == 25
        page = browser.run("document.getElementById('where').textContent")
        assert page == "page 1 of 800"
        focused = "[...document.querySelectorAll('#list summary')].indexOf(document.activeElement)"
        for key, place in (("j", 0), ("j", 1), ("k", 0)):
            browser.press(key)
            assert browser.run(focused) == place
        browser.press("Enter")
        browser.until("Boolean(document.querySelector('details.pair[open] .sides'))")
        browser.press("s")
        browser.until(
            "document.getElementById('told').textContent.startsWith('M1: swapped, written to data/REVIEW/M1.parquet')"
        )
        assert browser.run("document.querySelector('.review [aria-pressed=\"true\"]').textContent") == "Swap sides"
        browser.press("d")
        browser.until("document.querySelector('details.pair .decided').textContent.startsWith('dropped by ')")
        assert reviews.read(root, "M1")["decision"].to_list() == ["swap", "drop"]
        browser.press("n")
        browser.until("document.getElementById('where').textContent === 'page 2 of 800'")
        assert browser.until(f"{focused} === 0")
        browser.press("/")
        assert browser.run("document.activeElement.id") == "f-text"
        for letter in "CAT 19999":
            browser.press(letter)
        since = time.monotonic()
        browser.until("document.getElementById('count').textContent === '1 pairs found'")
        assert time.monotonic() - since < 2
        assert browser.run("document.querySelector('details.pair').textContent").endswith("say cat 19999")
        assert browser.errors == []


@pytest.mark.slow
@needs_browser
def test_two_versions_stand_side_by_side(tmp_path):
    root = tmp_path / "p"
    project(trained_store(root))
    git = ("git", "-c", "user.name=a", "-c", "user.email=a@b.c")
    for command in (("git", "init", "-q"), (*git, "add", "-fA"), (*git, "commit", "-qm", "one"), (*git, "tag", "v1")):
        subprocess.run(command, cwd=root, check=True)
    measured(root, [("lose", "lose")] * 20)
    store(root, ["say dog"])
    with watching(root, "--rev", "v1", "--other", "HEAD") as (port, _), Browser(tmp_path) as browser:
        drawn(port)
        for width, columns in ((1280, 2), (390, 1)):
            browser.show(f"http://127.0.0.1:{port}/", width)
            assert browser.run(FITS) == width
            tops = browser.run(
                "[...document.querySelectorAll('#answer .side-name')].map((n) => n.getBoundingClientRect().top)"
            )
            assert (len(tops), len(set(tops))) == (2, 3 - columns)
            assert browser.run("document.querySelector('.side-name').textContent") == "v1"
            assert 9 < browser.run(HEIGHT.format("#judge")) < 20
        sentences = browser.run("[...document.querySelectorAll('.answer')].map((n) => n.textContent.slice(0, 13))")
        assert sentences == ["M1 beats SFT:", "M1 beats SFT:"]
        assert browser.run("document.getElementById('run')") is None, "nothing runs in a revision"
        assert browser.run("document.body.dataset.token") is None, "nor is anything reviewed"
        assert browser.until("document.getElementById('count').textContent") == "1 pairs found"
        assert browser.errors == []


def trained_store(root):
    root.mkdir()
    trained(measured(store(root, ["say cat"]), [("win", "win")] * 20), "M2", "M1")
    return root
