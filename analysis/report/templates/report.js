"use strict";
// Sorting, filtering and opening trials. Every text is set as text, never as HTML.
(() => {
  const data = JSON.parse(document.getElementById("data").textContent);
  const panel = document.getElementById("detail");
  const rows = new Map([...document.querySelectorAll("#list tbody tr")].map((row) => [row.dataset.trial, row]));

  function element(name, attributes = {}, ...children) {
    const made = document.createElement(name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children.filter((child) => child !== null));
    return made;
  }

  function drawing(name, attributes = {}, ...children) {
    const made = document.createElementNS("http://www.w3.org/2000/svg", name);
    for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
    made.append(...children);
    return made;
  }

  // The list.
  const columns = document.querySelectorAll("#list thead th").length;
  const numbers = [...document.querySelectorAll("#list thead th")].flatMap((head, i) =>
    head.classList.contains("number") ? [i] : []);
  const list = new DataTable("#list", {
    paging: false, info: false, autoWidth: false, order: [], layout: { topStart: null, topEnd: null, bottomStart: null, bottomEnd: null },
    columnDefs: [{ targets: numbers, type: "num" }],
  });
  const count = document.getElementById("count");
  const told = () => {
    const shown = list.rows({ search: "applied" }).count();
    count.textContent = `${shown} of ${rows.size} trials`;
  };
  document.getElementById("search").addEventListener("input", (event) => list.search(event.target.value).draw());
  for (const menu of document.querySelectorAll("select[data-column]")) {
    const at = Number(menu.dataset.column);
    const values = new Set([...rows.values()].map((row) => row.cells[at].textContent.trim()));
    if (at >= columns || values.size < 2) { menu.parentElement.hidden = true; continue; }
    for (const value of [...values].sort((a, b) => a.localeCompare(b, "en", { numeric: true }))) {
      menu.append(element("option", { value: value || "\u0000" }, value || "(none)"));
    }
    menu.addEventListener("change", () => {
      const wanted = menu.value;
      list.column(at).search(wanted === "" ? "" : (text) => text.trim() === (wanted === "\u0000" ? "" : wanted)).draw();
    });
  }
  list.on("draw", told);
  told();
  document.querySelector(".tools").hidden = false;

  // Plots.
  const W = 380, H = 250, LEFT = 46, RIGHT = 10, TOP = 10, BOTTOM = 34;

  function ticks(low, high) {
    const span = high - low || Math.abs(high) || 1;
    const step = 10 ** Math.floor(Math.log10(span / 4));
    const nice = [1, 2, 5, 10].map((k) => k * step).find((k) => span / k <= 5);
    const found = [];
    for (let value = Math.ceil(low / nice) * nice; value <= high + nice / 1e6; value += nice) found.push(value);
    return found;
  }

  function axes(xs, ys, xname, yname) {
    const range = (values) => {
      const low = Math.min(...values), high = Math.max(...values), pad = (high - low || Math.abs(high) || 1) * 0.05;
      return [low - pad, high + pad];
    };
    const [x0, x1] = range(xs), [y0, y1] = range(ys);
    const x = (v) => LEFT + ((v - x0) / (x1 - x0)) * (W - LEFT - RIGHT);
    const y = (v) => H - BOTTOM - ((v - y0) / (y1 - y0)) * (H - TOP - BOTTOM);
    const plot = drawing("svg", { viewBox: `0 0 ${W} ${H}`, role: "img" });
    const label = (v) => String(Number(v.toPrecision(3)));
    for (const v of ticks(x0, x1)) {
      plot.append(drawing("line", { x1: x(v), x2: x(v), y1: TOP, y2: H - BOTTOM, stroke: "#eee" }));
      plot.append(drawing("text", { x: x(v), y: H - BOTTOM + 13, "text-anchor": "middle" }, label(v)));
    }
    for (const v of ticks(y0, y1)) {
      plot.append(drawing("line", { x1: LEFT, x2: W - RIGHT, y1: y(v), y2: y(v), stroke: "#eee" }));
      plot.append(drawing("text", { x: LEFT - 5, y: y(v) + 4, "text-anchor": "end" }, label(v)));
    }
    plot.append(drawing("text", { x: (LEFT + W - RIGHT) / 2, y: H - 4, "text-anchor": "middle" }, xname));
    plot.append(drawing("text", { transform: `translate(11 ${(TOP + H - BOTTOM) / 2}) rotate(-90)`, "text-anchor": "middle" }, yname));
    return { plot, x, y };
  }

  const line = (xs, ys, scale, color, dashed) => drawing("polyline", {
    points: xs.map((v, i) => `${scale.x(v).toFixed(1)},${scale.y(ys[i]).toFixed(1)}`).join(" "),
    fill: "none", stroke: color, "stroke-width": 1.6, ...(dashed ? { "stroke-dasharray": "4 3" } : {}),
  });

  function curves(curve) {
    const xs = [...curve.step, ...curve.validation_step], ys = [...curve.loss, ...curve.validation_loss];
    if (!xs.length) return null;
    const scale = axes(xs, ys, "optimizer steps", "loss (nats per label token)");
    scale.plot.append(line(curve.step, curve.loss, scale, "#999999"));
    scale.plot.append(line(curve.validation_step, curve.validation_loss, scale, "#0072b2"));
    curve.validation_step.forEach((v, i) => scale.plot.append(
      drawing("circle", { cx: scale.x(v), cy: scale.y(curve.validation_loss[i]), r: 3, fill: "#0072b2" })));
    const thinned = curve.every > 1 ? ` Every ${curve.every}th step is drawn.` : "";
    return element("figure", {}, scale.plot, element("figcaption", {},
      `Loss: grey on each training batch, blue on validation; step 0 is the untrained sample.${thinned}`));
  }

  function mapped(found, plane) {
    const behind = found.plane === "vocabulary" && plane ? plane.points : [];
    const all = [...behind, ...found.paths.flat()];
    const percent = (value) => `${Math.round(100 * value)}%`;
    const scale = axes(all.map((p) => p[0]), all.map((p) => p[1]),
      `component 1 (${percent(found.share[0])} of variance)`, `component 2 (${percent(found.share[1])})`);
    const dot = (p, r, color) => drawing("circle", { cx: scale.x(p[0]).toFixed(1), cy: scale.y(p[1]).toFixed(1), r, fill: color });
    behind.forEach((p) => scale.plot.append(dot(p, 1.3, "#c8c8c8")));
    for (const path of found.paths) scale.plot.append(line(path.map((p) => p[0]), path.map((p) => p[1]), scale, "#777777"));
    for (const path of found.paths) scale.plot.append(dot(path[0], 3, "#0072b2"));
    for (const path of found.paths) scale.plot.append(dot(path[path.length - 1], 3.4, "#d55e00"));
    const whose = found.plane === "vocabulary"
      ? `the vocabulary's components, the same for all trials (grey: ${behind.length} tokens)` : "components of this trial's own vectors";
    return element("figure", {}, scale.plot, element("figcaption", {},
      `${found.name}: ${found.paths.length} vectors from the prior sample (blue) to the posterior (orange), over ${found.moments.length} moments, in ${whose}.`));
  }

  // Tables of one trial.
  const long = (cell) => (cell.textContent ?? cell).length > 24;
  const scrolled = (heads, lines) => element("div", { class: "box" }, element("table", {},
    element("thead", {}, element("tr", {}, ...heads.map((text) => element("th", { scope: "col" }, text)))),
    element("tbody", {}, ...lines.map((cells) => element("tr", {}, ...cells.map((cell) => element("td", long(cell) ? { class: "long" } : {}, cell)))))));

  const near = (found) => found.map(([text, distance]) => `${JSON.stringify(text)} (${distance})`).join(", ");

  function words(places) {
    return places.map((place) => element("section", {},
      element("h3", {}, `Nearest tokens at ${place.name} (Euclidean distance to embeddings)`),
      scrolled(["vector", "sample", "posterior"], place.vectors.map((v, i) => [String(i), near(v.start), near(v.end)]))));
  }

  function worth(set, i) {
    const text = set.answers[i], score = set.scores[i], loss = set.losses[i];
    if (text === null) return "";
    const kind = score === null ? "" : score >= 1 ? "right" : score <= 0 ? "wrong" : "";
    return element("span", {}, element("span", { class: kind }, text === "" ? "(empty)" : text),
      score === null || kind ? "" : ` (${score})`,
      loss === null ? "" : element("span", { class: "worth" }, ` ${loss}`));
  }

  function answered(trial, task) {
    const own = task.trials[trial];
    const sets = [...task.others, ...(own ? [{ name: "this trial", ...own }] : [])];
    if (!task.examples.length || !sets.some((set) => set.answers.some((text) => text !== null))) return [];
    const known = task.expected.some((text) => text !== "");
    const heads = ["example", ...(known ? ["input", "expected"] : []), ...sets.map((set) => set.name)];
    const lines = task.examples.map((id, i) => [id, ...(known ? [task.inputs[i], task.expected[i]] : []),
      ...sets.map((set) => worth(set, i))]);
    const of = task.generated > task.examples.length ? `the first ${task.examples.length} of ${task.generated}` : `${task.examples.length}`;
    const colours = known ? `; green is right, red wrong by ${task.headline.replaceAll("_", " ")}` : "";
    const losses = sets.some((set) => set.losses.some((loss) => loss !== null))
      ? "; in grey the loss of the right answer in nats per label token" : "";
    return [element("h3", {}, "Answers"),
      element("p", { class: "hint" }, `Generated on ${of} test examples, beside no prompt and the written instruction where the study has them${colours}${losses}.`),
      scrolled(heads, lines)];
  }

  function open(trial) {
    const found = data.trials[trial];
    rows.forEach((row, id) => row.classList.toggle("chosen", id === trial));
    if (!found) { panel.hidden = true; return; }
    const close = element("button", { type: "button" }, "Close");
    close.addEventListener("click", () => { history.pushState(null, "", "#trials"); open(""); });
    const facts = element("dl", {});
    const fact = (name, value) => facts.append(element("dt", {}, name), element("dd", {}, value));
    fact("trial", trial);
    fact("status", found.error ? `${found.status}: ${found.error}` : found.status);
    found.facts.forEach(([name, value]) => fact(name, value));
    fact("files", found.files.join(", "));
    const plots = element("div", { class: "plots" }, curves(found.curve), ...found.maps.map((one) => mapped(one, data.planes[found.model])));
    const task = data.tasks[found.task];
    panel.replaceChildren(element("div", { class: "head" }, element("h3", {}, found.label), close), facts, plots,
      ...words(found.tokens), ...(task ? answered(trial, task) : []));
    panel.hidden = false;
    panel.scrollIntoView({ block: "start" });
    panel.focus({ preventScroll: true });
  }

  const follow = () => open(location.hash.startsWith("#trial-") ? location.hash.slice(7) : "");
  window.addEventListener("hashchange", follow);
  document.querySelector("#list tbody").addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row && !event.target.closest("a")) location.hash = `trial-${row.dataset.trial}`;
  });
  follow();
})();
