// The page's one script: the pair browser, of pairs in this file or of a server's; and of a server's what runs, live.
// Every text of a model goes in through textContent; nothing here builds HTML from strings.
"use strict";
(() => {
  const PAGE = 25, body = document.body, served = "version" in body.dataset, token = body.dataset.token;
  const by = (id) => document.getElementById(id);
  const UNSEEN = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\u2028\u2029]/u;

  // Text with what has no shape of its own (control, zero-width, direction) shown as its code point.
  function visible(text) {
    const box = document.createElement("bdi");
    box.className = "t";
    let run = "";
    for (const c of text) {
      if (c !== "\n" && c !== "\t" && UNSEEN.test(c)) {
        box.append(run, make("span", "cp", "U+" + c.codePointAt(0).toString(16).toUpperCase().padStart(4, "0")));
        run = "";
      } else run += c;
    }
    box.append(run);
    return box;
  }

  function make(tag, name, ...children) {
    const node = document.createElement(tag);
    if (name) node.className = name;
    node.append(...children);
    return node;
  }

  const set = (node, text) => { if (node.textContent !== text) node.textContent = text; };

  async function ask(path, options) {
    const answer = await fetch(path, { cache: "no-store", credentials: "omit", ...options });
    const content = await answer.json();
    if (!answer.ok) throw new Error(content.error);
    return content;
  }

  const score = (s) => (s === null ? "unreadable" : String(Math.round(s * 100) / 100));
  const count = (n) => n.toLocaleString("en-US");

  // --- Pairs ---

  const list = by("list");
  const margin = (p) => p.chosen.score - p.rejected.score;
  const doubt = (p) => margin(p) - Math.max(p.chosen.spread ?? 0, p.rejected.spread ?? 0);
  const embedded = by("pairs-data") ? JSON.parse(by("pairs-data").textContent) : [];
  const open = new WeakMap();
  let at = 0, total = 0, asked = 0;

  function side(name, answer) {
    const box = make("div", name, make("h3", "", `${name} · ${score(answer.score)}`), make("div", "side", visible(answer.text)),
      make("p", "muted", `${answer.tokens ?? "?"} tokens · ${answer.id}`));
    for (const j of answer.judgements) box.append(make("div", "judgement", make("b", "", `${score(j.score)} `), visible(j.text)));
    return box;
  }

  const DECISIONS = { agree: "Agree", swap: "Swap sides", drop: "Drop" };
  const done = { agree: "agreed", swap: "swapped", drop: "dropped", disputed: "disputed" };

  function reviewed(p, tag) {
    tag.hidden = !p.review;
    if (p.review) set(tag, `${done[p.review.decision]} by ${p.review.who}${p.trained ? "" : ", no pair now"}`);
  }

  function buttons(p, tag) {
    const box = make("div", "review");
    box.setAttribute("role", "group");
    box.setAttribute("aria-label", "your review of this pair");
    for (const [decision, name] of Object.entries(DECISIONS)) {
      const button = make("button", "", name);
      button.type = "button";
      button.dataset.decision = decision;
      button.addEventListener("click", () => decide(p, decision, tag, box));
      box.append(button);
    }
    pressed(p, box);
    return box;
  }

  const pressed = (p, box) => box?.querySelectorAll("button").forEach((b) => b.setAttribute("aria-pressed", String(p.review?.decision === b.dataset.decision)));

  async function decide(p, decision, tag, box) {
    try {
      p.review = await ask("api/review", {
        method: "POST",
        headers: { "Content-Type": "application/json", "X-Srlm-Token": token },
        body: JSON.stringify({ model: p.model, prompt_id: p.prompt_id, chosen_id: p.chosen.id, rejected_id: p.rejected.id, decision }),
      });
      reviewed(p, tag);
      pressed(p, box);
      set(by("told"), `${p.model}: ${done[decision]}, written to data/REVIEW/${p.model}.parquet as ${p.review.who}`);
    } catch (e) {
      set(by("told"), `not recorded: ${e.message}`);
    }
  }

  function item(p) {
    const tag = make("span", "tag decided");
    const head = make("summary", "", make("span", "tag", p.model), make("span", "tag", `margin ${score(margin(p))}`), tag, visible(p.prompt));
    const details = make("details", "pair", head);
    reviewed(p, tag);
    details.addEventListener("toggle", () => {
      if (!details.open || details.childElementCount > 1) return;
      details.append(make("div", "sides", side("chosen", p.chosen), side("rejected", p.rejected)));
      if (token) details.append(buttons(p, tag));
    });
    open.set(head, (decision) => decide(p, decision, tag, details.querySelector(".review")));
    return details;
  }

  // Between the two numbers that were typed; one left open is no bound.
  function within(id, value) {
    const [least, most] = [by(id).value, by(`${id}-most`).value];
    return (least === "" || value >= Number(least) - 1e-9) && (most === "" || value <= Number(most) + 1e-9);
  }

  function here() {
    const model = by("f-model").value, text = by("f-text").value.toLowerCase(), longer = by("f-length").value;
    const found = embedded.filter((p) => (!model || p.model === model) && within("f-margin", margin(p)) && within("f-tokens", Math.max(p.chosen.tokens, p.rejected.tokens))
      && (!longer || (longer === "chosen" ? p.chosen.tokens > p.rejected.tokens : p.rejected.tokens > p.chosen.tokens))
      && (!text || [p.prompt, p.chosen.text, p.rejected.text].some((t) => t.toLowerCase().includes(text))));
    const sort = by("f-sort").value;
    if (sort === "doubt") found.sort((a, b) => doubt(a) - doubt(b));
    if (sort === "margin") found.sort((a, b) => margin(b) - margin(a));
    return found;
  }

  // Of those that fit the filters the rows of page `at`, which may lie beyond the last one.
  function rows() {
    if (!served) {
      const found = here();
      at = Math.min(Math.max(at, 0), Math.max(0, Math.ceil(found.length / PAGE) - 1));
      return { total: found.length, page: at, pairs: found.slice(at * PAGE, (at + 1) * PAGE) };
    }
    const query = new URLSearchParams({ page: Math.max(at, 0), size: PAGE });
    for (const field of by("filters").querySelectorAll("input, select")) if (field.value) query.set(field.id.slice(2), field.value);
    return ask(`api/pairs?${query}`);
  }

  function draw(found, focus) {
    total = found.total;
    at = found.page;
    const last = Math.max(0, Math.ceil(total / PAGE) - 1), models = by("f-model");
    list.replaceChildren(...found.pairs.map(item));
    for (const model of found.models ?? []) if (![...models.options].some((o) => o.value === model)) models.append(make("option", "", model));
    by("where").textContent = `page ${at + 1} of ${last + 1}`;
    by("prev").disabled = at === 0;
    by("next").disabled = at === last;
    by("count").textContent = `${total} pairs found`;
    if (focus) list.querySelector("summary")?.focus();
  }

  async function show(focus) {
    const mine = ++asked;
    if (!served) return draw(rows(), focus);
    try {
      const found = await rows();
      if (mine === asked) draw(found, focus);
    } catch (e) {
      if (mine === asked) by("count").textContent = `no pairs can be shown: ${e.message}`;
    }
  }

  function walk(step) {
    const heads = [...list.querySelectorAll("summary")], now = heads.indexOf(document.activeElement);
    heads[Math.min(Math.max(now + step, 0), heads.length - 1)]?.focus();
  }

  function browse() {
    let typed;
    by("filters").addEventListener("input", () => {
      at = 0;
      clearTimeout(typed);
      if (served) typed = setTimeout(show, 150);
      else show();
    });
    by("filters").addEventListener("submit", (e) => e.preventDefault());
    by("prev").addEventListener("click", () => { at--; show(); });
    by("next").addEventListener("click", () => { at++; show(); });
    document.addEventListener("keydown", (e) => {
      if (e.ctrlKey || e.metaKey || e.altKey) return;
      const typing = e.target.matches("input, select");
      if (e.key === "Escape" && typing) e.target.blur();
      if (typing) return;
      if (e.key === "/") { e.preventDefault(); by("f-text").focus(); }
      if (e.key === "j") walk(1);
      if (e.key === "k") walk(-1);
      if (e.key === "n") { at++; show(true); }
      if (e.key === "p") { at--; show(true); }
      const decision = { a: "agree", s: "swap", d: "drop" }[e.key], pair = e.target.closest("details.pair");
      if (token && decision && pair) open.get(pair.firstElementChild)(decision);
    });
    show();
  }
  if (list) browse();

  // --- What runs ---

  const MARKS = { waiting: "· waiting", running: "▶ running", done: "✓ done", failed: "✗ failed", "up to date": "= up to date" };
  const SVG = ["http:", "", "www.w3.org", "2000", "svg"].join("/");  // a name: the page holds no address

  function span(seconds) {
    if (seconds === null || seconds === undefined) return "";
    const s = Math.round(seconds), h = Math.floor(s / 3600), m = Math.floor((s % 3600) / 60);
    return h ? `${h} h ${m} min` : m ? `${m} min ${s % 60} s` : `${s} s`;
  }

  function stage(one) {
    const id = `stage-${one.name}`;
    let row = document.getElementById(id);
    if (!row) {
      row = make("li", "", make("span", "state"), make("span", "name", one.name), make("span", "more"));
      row.id = id;
      by("stages").append(row);
    }
    const [state, , more] = row.children, p = one.progress;
    row.dataset.state = one.state;
    set(state, MARKS[one.state]);
    const parts = [];
    if (p && one.state === "running") parts.push(`${p.label}: ${count(p.done)}/${count(p.total)} ${p.unit}`, p.note);
    if (one.seconds !== null) parts.push(span(one.seconds));
    if (one.state === "running" && one.left_s !== null) parts.push(`about ${span(one.left_s)} left`);
    if (one.state === "waiting" && one.left_s !== null) parts.push(`took ${span(one.left_s)}`);
    set(more, parts.filter(Boolean).join(", "));
    let bar = row.querySelector("progress");
    if (p && one.state === "running") {
      if (!bar) {
        bar = make("progress", "");
        bar.setAttribute("aria-label", `progress of ${one.name}`);
        bar.style.gridColumn = "1 / -1";
        row.append(bar);
      }
      bar.max = Math.max(p.total, 1);
      bar.value = p.done;
    } else bar?.remove();
    let why = row.querySelector(".error");
    if (one.error && !why) row.append(why = make("span", "error"));
    if (why) one.error ? why.replaceChildren(visible(one.error)) : why.remove();
  }

  const line = (values) => values.filter((v) => v[1] !== undefined && Number.isFinite(v[1]));
  const short = (v) => (Math.abs(v) >= 1000 || (v && Math.abs(v) < 0.001) ? v.toExponential(1) : String(Number(v.toPrecision(3))));

  // One measure by step: a line, its least and its highest value, and its last in the caption.
  function curve(name, measure, points, colour, total) {
    const W = 400, H = 150, left = 48, ys = points.map((p) => p[1]);
    let low = Math.min(...ys), high = Math.max(...ys);
    if (low === high) [low, high] = [low - 0.5, high + 0.5];
    const x = (v) => left + ((v - 1) / Math.max(total - 1, 1)) * (W - left - 8), y = (v) => 12 + (1 - (v - low) / (high - low)) * (H - 34);
    const svg = document.createElementNS(SVG, "svg"), add = (tag, values, text) => {
      const node = document.createElementNS(SVG, tag);
      for (const [key, value] of Object.entries(values)) node.setAttribute(key, value);
      if (text !== undefined) node.textContent = text;
      svg.append(node);
    };
    svg.setAttribute("viewBox", `0 0 ${W} ${H}`);
    svg.setAttribute("class", "curve");
    svg.setAttribute("aria-hidden", "true");
    for (const v of [low, high]) {
      add("line", { x1: left, x2: W, y1: y(v), y2: y(v) });
      add("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, short(v));
    }
    add("text", { x: left, y: H - 6 }, "step 1");
    add("text", { x: W - 4, y: H - 6, "text-anchor": "end" }, count(total));
    if (points.length > 1) add("polyline", { points: points.map((p) => `${x(p[0]).toFixed(1)},${y(p[1]).toFixed(1)}`).join(" "), stroke: colour });
    const [step, value] = points.at(-1);
    add("circle", { cx: x(step), cy: y(value), r: 3.5, fill: colour });
    const said = `${name}: ${measure} ${short(value)} at step ${count(step)} of ${count(total)}`;
    const figure = make("figure", "", make("figcaption", "", said), svg);
    figure.setAttribute("role", "img");
    figure.setAttribute("aria-label", said);
    return figure;
  }

  function curves(stages) {
    const training = stages.findLast((one) => one.steps.length && one.state === "running") ?? stages.findLast((one) => one.steps.length);
    const panels = [];
    if (training) {
      const total = Math.max(training.progress?.total ?? 1, training.steps.at(-1).step);
      for (const [measure, colour] of [["loss", "#3b82c4"], ["margin", "#3f9a6a"]]) {
        const points = line(training.steps.map((s) => [s.step, s[measure]]));
        if (points.length) panels.push(curve(training.progress?.label ?? training.name, measure, points, colour, total));
      }
    }
    by("curves").replaceChildren(...panels);
  }

  let fed = "", acted = null;
  function feed(running) {
    const texts = running?.texts ?? [], now = JSON.stringify(texts);
    by("feed").hidden = !texts.length;
    if (now === fed) return;
    fed = now;
    set(by("feed-of"), running ? `${running.name}: a few of those that come, newest first` : "");
    by("texts").replaceChildren(...texts.map((t) => {
      const box = make("div", "text");
      if (t.score !== undefined) box.append(make("span", "tag", `score ${score(t.score)}`));
      if (t.prompt) box.append(make("p", "muted", visible(t.prompt)));
      if (t.response) box.append(make("p", "muted", "answer: ", visible(t.response)));
      box.append(visible(t.text));
      return box;
    }));
  }

  function run(state) {
    const running = state.stages.filter((one) => one.state === "running"), over = state.stages.filter((one) => ["done", "up to date"].includes(one.state)).length;
    const failed = state.stages.filter((one) => one.state === "failed"), all = state.stages.length;
    const names = running.map((one) => one.name).join(", ");
    const active = running.length || state.repro?.state === "running";
    const left = state.left_s === null || !active ? "" : `; ${state.unknown ? "at least" : "about"} ${span(state.left_s)} left${state.unknown ? ` (${state.unknown} stages never ran here)` : ""}`;
    const what = failed.length && !active ? `Failed: ${failed.map((one) => one.name).join(", ")}` : names ? `Running: ${names}` : active ? `Starting: ${state.stages.find((one) => one.state === "waiting")?.name ?? "the end"}`
      : over === all ? "Nothing runs: everything is up to date" : `Nothing runs: ${all - over} stages wait. Type: srlm repro`;
    set(by("run-now"), `${what}; ${over} of ${all} stages done`.replace(/; (\d+) of \1 stages done$/, ""));
    by("run-left") ?? by("run-now").after(Object.assign(make("p", "muted"), { id: "run-left" }));
    set(by("run-left"), left.slice(2));
    by("run-all").max = Math.max(all, 1);
    by("run-all").value = over + running.reduce((sum, one) => sum + (one.progress?.total ? one.progress.done / one.progress.total : 0), 0);
    by("run-all").hidden = over === all;
    if (Boolean(active) !== acted) by("stages-box").open = acted = Boolean(active) || failed.length > 0;
    state.stages.forEach(stage);
    const known = new Set(state.stages.map((one) => `stage-${one.name}`));
    for (const row of [...by("stages").children]) if (!known.has(row.id)) row.remove();
    curves(active ? state.stages : []);
    feed(running.findLast((one) => one.texts.length));
    const doubts = new Set([...document.querySelectorAll("#answer .doubts li")].map((li) => li.textContent));
    const fresh = state.warnings.filter((w) => !doubts.has(w));
    by("run-warnings").replaceChildren(...(fresh.length ? [make("div", "doubts", make("b", "", "Warnings"), make("ul", "", ...fresh.map((w) => make("li", "", visible(w)))))] : []));
    return active;
  }

  // The page as it is now, section by section: what is focused, open or unchanged stays.
  const before = new Map();
  async function refresh() {
    const text = await (await fetch(location.href, { cache: "no-store", credentials: "omit" })).text();
    const page = new DOMParser().parseFromString(text, "text/html"), main = document.querySelector("main");
    let last = null;
    for (const now of page.querySelectorAll("main > *")) {
      const key = now.id || now.localName, old = now.id ? by(now.id) : main.querySelector(`:scope > ${key}`), html = now.outerHTML;
      if (["run", "pairs"].includes(now.id) || (old && (before.get(key) === html || old.contains(document.activeElement)))) {
        last = old;
        continue;
      }
      before.set(key, html);
      const opened = old ? [...old.querySelectorAll("details")].map((d) => d.open) : [];
      now.querySelectorAll("details").forEach((d, i) => { d.open = opened[i] ?? d.open; });
      const node = document.importNode(now, true);
      old ? old.replaceWith(node) : last ? last.after(node) : main.prepend(node);
      last = node;
    }
    by("revision").replaceWith(document.importNode(page.getElementById("revision"), true));
    body.dataset.version = page.body.dataset.version;
    if (!list.contains(document.activeElement) && !list.querySelector("details[open]")) show();
  }

  async function poll() {
    let wait = 4000;
    try {
      const state = await ask("api/state");
      if ("live" in body.dataset) wait = run(state) ? 1000 : 4000;
      if (state.version !== body.dataset.version) await refresh();
    } catch (e) {
      const text = e instanceof TypeError ? "srlm watch has ended; this is what it showed last" : e.message;
      if ("live" in body.dataset) set(by("run-now"), text);
    }
    setTimeout(poll, document.hidden ? 10000 : wait);
  }
  if (served) poll();
})();
