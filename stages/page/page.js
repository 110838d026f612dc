// The pair browser. Every text of a model goes in through textContent; nothing here builds HTML from strings.
"use strict";
(() => {
  const PAGE = 25;
  const pairs = JSON.parse(document.getElementById("pairs-data").textContent);
  const list = document.getElementById("list");
  if (!list) return;
  const by = (id) => document.getElementById(id);
  const UNSEEN = /[\p{Cc}\p{Cf}\p{Co}\p{Cs}\u2028\u2029]/u;
  let found = pairs, at = 0;

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

  const score = (s) => (s === null ? "unreadable" : String(Math.round(s * 100) / 100));
  const margin = (p) => p.chosen.score - p.rejected.score;
  const doubt = (p) => margin(p) - Math.max(p.chosen.spread ?? 0, p.rejected.spread ?? 0);

  function side(name, answer) {
    const box = make("div", name, make("h3", "", `${name} · ${score(answer.score)}`), make("div", "side", visible(answer.text)),
      make("p", "muted", `${answer.tokens} tokens · ${answer.id}`));
    for (const j of answer.judgements) box.append(make("div", "judgement", make("b", "", `${score(j.score)} `), visible(j.text)));
    return box;
  }

  function item(p) {
    const head = make("summary", "", make("span", "tag", p.model), make("span", "tag", `margin ${score(margin(p))}`), visible(p.prompt));
    const details = make("details", "pair", head);
    details.addEventListener("toggle", () => {
      if (details.open && details.childElementCount === 1) details.append(make("div", "sides", side("chosen", p.chosen), side("rejected", p.rejected)));
    });
    return details;
  }

  function show(focus) {
    const last = Math.max(0, Math.ceil(found.length / PAGE) - 1);
    at = Math.min(Math.max(at, 0), last);
    list.replaceChildren(...found.slice(at * PAGE, (at + 1) * PAGE).map(item));
    by("where").textContent = `page ${at + 1} of ${last + 1}`;
    by("prev").disabled = at === 0;
    by("next").disabled = at === last;
    by("count").textContent = `${found.length} pairs found`;
    if (focus) list.querySelector("summary")?.focus();
  }

  // Between the two numbers that were typed; one left open is no bound.
  function within(id, value) {
    const [least, most] = [by(id).value, by(`${id}-most`).value];
    return (least === "" || value >= Number(least) - 1e-9) && (most === "" || value <= Number(most) + 1e-9);
  }

  function filter() {
    const model = by("f-model").value, text = by("f-text").value.toLowerCase(), longer = by("f-length").value;
    found = pairs.filter((p) => (!model || p.model === model) && within("f-margin", margin(p)) && within("f-tokens", Math.max(p.chosen.tokens, p.rejected.tokens))
      && (!longer || (longer === "chosen" ? p.chosen.tokens > p.rejected.tokens : p.rejected.tokens > p.chosen.tokens))
      && (!text || [p.prompt, p.chosen.text, p.rejected.text].some((t) => t.toLowerCase().includes(text))));
    const sort = by("f-sort").value;
    if (sort === "doubt") found.sort((a, b) => doubt(a) - doubt(b));
    if (sort === "margin") found.sort((a, b) => margin(b) - margin(a));
    at = 0;
    show();
  }

  function walk(step) {
    const heads = [...list.querySelectorAll("summary")], now = heads.indexOf(document.activeElement);
    heads[Math.min(Math.max(now + step, 0), heads.length - 1)]?.focus();
  }

  by("filters").addEventListener("input", filter);
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
  });
  filter();
})();
