"use strict";
const $ = (id) => document.getElementById(id);
const EVERY = 1000;
const IDLE = 10;
const COLORS = { compute: "#66bb6a", data: "#ffa726", pull: "#26c6da", push: "#5c6bc0", wait: "#ec407a", save: "#8d6e63" };
let wanted = new URLSearchParams(location.hash.slice(1)).get("run");

function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("--")) node.style.setProperty(name, value);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}
const make = (tag, attributes = {}, ...children) => filled(document.createElement(tag), attributes, children);
const drawn = (tag, attributes = {}, ...children) =>
  filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);

function bytes(count) {
  let unit = 0;
  while (count >= 1024 && unit < 4) { count /= 1024; unit += 1; }
  return `${unit ? count.toFixed(1) : Math.round(count)} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
}
function number(value, digits = 4) {
  if (value === null || value === undefined) return "–";
  if (typeof value === "string") return value;
  if (value !== 0 && (Math.abs(value) >= 1e6 || Math.abs(value) < 1e-4)) return value.toExponential(digits - 2);
  return value.toLocaleString("en", { maximumSignificantDigits: digits });
}
const whole = (value) => (value === null || value === undefined ? "–" : Math.round(value).toLocaleString("en"));
const percent = (share) => `${Math.round(100 * share)} %`;
function lasting(seconds) {
  if (seconds < 60) return `${Math.round(seconds)} s`;
  const minutes = Math.floor(seconds / 60), rest = String(Math.round(seconds % 60)).padStart(2, "0");
  if (minutes < 60) return `${minutes}:${rest}`;
  const hours = Math.floor(minutes / 60);
  return hours < 48 ? `${hours}:${String(minutes % 60).padStart(2, "0")}:${rest}` : `${Math.floor(hours / 24)} d`;
}
const clock = (time) => new Date(1000 * time).toLocaleTimeString("en-GB");

// The parts of the page.

function cards(run) {
  const told = run.numbers, found = [];
  const epoch = told.epoch === undefined ? "" : `epoch ${whole(told.epoch)}${told.epochs === undefined ? "" : ` of ${whole(told.epochs)}`}`;
  if (run.step !== null) found.push([whole(run.step), epoch ? `step, ${epoch}` : "steps"]);
  if (run.loss !== null && run.loss !== undefined) found.push([number(run.loss), "loss", typeof run.loss === "string" ? "bad" : ""]);
  if (run.steps_per_second) found.push([number(run.steps_per_second, 3), "steps a second"]);
  if (run.examples_per_second) found.push([number(run.examples_per_second, 3), "examples a second"]);
  if (told.left !== undefined && !run.ended) found.push([lasting(told.left), "left"]);
  if (run.memory) found.push([bytes(run.memory), run.per_worker.length > 1 ? "memory of all" : "memory"]);
  const known = new Set(["epoch", "epochs", "step_in_epoch", "batches", "left", "memory"]);
  for (const [name, value] of Object.entries(told)) if (!known.has(name)) found.push([number(value), name]);
  $("cards").replaceChildren(...found.map(([value, label, kind]) =>
    make("div", { class: `card ${kind || ""}` }, make("b", {}, value), make("span", {}, label))));
}

function chart(name, steps, values) {
  const points = steps.map((step, at) => [step, values[at]]).filter(([, value]) => value !== null && value !== undefined);
  $(`${name}-panel`).hidden = points.length < 2;
  if (points.length < 2) return;
  const width = 640, height = 220, left = 56, right = 12, top = 22, bottom = 26;
  const ys = points.map(([, value]) => value);
  let low = Math.min(...ys), high = Math.max(...ys);
  if (name === "rate") low = 0;
  if (high === low) { high += Math.abs(high) * 0.05 || 1; low -= name === "rate" ? 0 : Math.abs(low) * 0.05 || 1; }
  const first = points[0][0], last = points[points.length - 1][0];
  const x = (step) => left + (width - left - right) * (last === first ? 1 : (step - first) / (last - first));
  const y = (value) => top + (height - top - bottom) * (1 - (value - low) / (high - low));
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `${name} from ${number(ys[0])} to ${number(ys[ys.length - 1])}` });
  for (const share of [0, 0.5, 1]) {
    const value = low + share * (high - low);
    svg.append(drawn("line", { class: "grid", x1: left, x2: width - right, y1: y(value), y2: y(value) }),
      drawn("text", { x: left - 8, y: y(value) + 4, "text-anchor": "end" }, number(value, 3)));
  }
  svg.append(drawn("text", { x: left, y: height - 6 }, `step ${whole(first)}`),
    drawn("text", { x: width - right, y: height - 6, "text-anchor": "end" }, whole(last)),
    drawn("path", { class: "curve", d: points.map(([step, value], at) => `${at ? "L" : "M"}${x(step).toFixed(1)} ${y(value).toFixed(1)}`).join("") }));
  const dot = drawn("circle", { class: "dot", r: 4, cx: x(last), cy: y(ys[ys.length - 1]) });
  const read = drawn("text", { class: "read", x: width - right, y: 14, "text-anchor": "end" }, number(ys[ys.length - 1]));
  svg.append(dot, read);
  svg.addEventListener("pointermove", (event) => {
    const box = svg.getBoundingClientRect(), at = width * (event.clientX - box.left) / box.width;
    const near = points.reduce((best, point) => (Math.abs(x(point[0]) - at) < Math.abs(x(best[0]) - at) ? point : best));
    dot.setAttribute("cx", x(near[0]));
    dot.setAttribute("cy", y(near[1]));
    read.textContent = `step ${whole(near[0])}: ${number(near[1])}`;
  });
  $(name).replaceChildren(svg);
}

function phases(run) {
  const parts = Object.entries(run.phases);
  $("phases-panel").hidden = !parts.length;
  $("phases").replaceChildren(
    make("div", { class: "stack", role: "img", "aria-label": parts.map(([name, share]) => `${name} ${percent(share)}`).join(", ") },
      ...parts.map(([name, share]) => make("i", { "--share": percent(share).replace(" ", ""), "--color": COLORS[name], title: `${name}: ${percent(share)}` }))),
    make("div", { class: "legend" }, ...parts.map(([name, share]) =>
      make("span", {}, make("i", { "--color": COLORS[name] }), `${name} `, make("b", {}, percent(share))))));
}

function table(node, columns, rows, silent) {
  const right = (kind) => (kind === "right" ? { class: "right" } : kind === "mono" ? { class: "mono" } : {});
  node.replaceChildren(make("thead", {}, make("tr", {}, ...columns.map(([title, kind]) => make("th", right(kind), title)))),
    make("tbody", {}, ...rows.map((row) => make("tr", silent(row) ? { class: "silent" } : {},
      ...columns.map(([, kind, text]) => make("td", right(kind), text(row)))))));
}

function workers(run) {
  $("workers-panel").hidden = !run.per_worker.length;
  const hits = run.per_worker.some((worker) => worker.cache_hits !== null);
  const ways = run.per_worker.some((worker) => worker.rows);
  table($("workers"), [
    ["worker", "right", (w) => String(w.rank)], ["host", "", (w) => w.host], ["process", "right", (w) => String(w.pid)],
    ["devices", "", (w) => w.devices], ["step", "right", (w) => whole(w.step)], ["loss", "right", (w) => number(w.loss)],
    ["steps/s", "right", (w) => number(w.steps_per_second, 3)], ["examples/s", "right", (w) => number(w.examples_per_second, 3)],
    ...(hits ? [["cache hits", "right", (w) => (w.cache_hits === null ? "–" : percent(w.cache_hits))]] : []),
    ...(ways ? [["rows", "", (w) => w.rows || "–"]] : []),
    ["last step", "right", (w) => `${lasting(w.idle)} ago`],
  ], run.per_worker, (w) => w.idle >= IDLE && !run.ended);
}

function placed(run) {
  if (!run.places || run.places.length <= run.per_worker.length) return "";  // all report their steps
  return `, workers ${run.places.map((host, rank) => `${rank} on ${host}`).join(", ")}`;
}

function servers(run) {
  $("servers-panel").hidden = !run.servers;
  $("servers-about").textContent = run.servers_error ||
    `${run.address || ""}${run.wal_dir ? `, wal_dir ${run.wal_dir}` : ""}${placed(run)}${run.per_server.length ? "" : " – asking the servers …"}`;
  const serves = (text) => (s) => (s.silent ? "no answer" : s.role === "standby" ? "" : text(s));
  const name = (s) => s.name.split("-").slice(0, 2).join("-") + (s.role === "standby" ? " (standby)" : "");
  const snapshot = (s) => {
    const last = s.last_snapshot;
    if (last.version === undefined) return last.failed === undefined ? "none" : "failed";
    return `at ${whole(last.version)}, ${lasting(run.time - last.time)} ago`;
  };
  table($("servers"), [
    ["server", "", name], ["host", "", (s) => s.host || ""], ["starts", "right", serves((s) => String(s.incarnation))],
    ["version", "right", (s) => (s.silent ? "no answer" : whole(s.version))], ["lag", "right", serves((s) => String(s.lag))],
    ["rows", "right", serves((s) => whole(s.rows))], ["held", "right", serves((s) => bytes(s.bytes))],
    ["log", "right", serves((s) => bytes(s.bytes_logged))], ["updates/s", "right", serves((s) => number(s.updates_per_second, 3))],
    ["pushed/s", "right", serves((s) => bytes(s.bytes_per_second))], ["pulled/s", "right", serves((s) => bytes(s.bytes_pulled_per_second))],
    ["last snapshot", "", serves(snapshot)],
  ], run.per_server, (s) => Boolean(s.silent));
}

function events(run) {
  $("events-panel").hidden = !run.events.length;
  $("events").replaceChildren(...run.events.map((event) => make("li", {},
    make("time", {}, clock(event.time)), make("b", {}, event.who), make("span", {}, event.text))));
}

// The whole.

function choose(state) {
  const list = $("runs");
  list.hidden = state.runs.length < 2;
  if (document.activeElement === list) return;
  list.replaceChildren(...state.runs.map((run) => make("option", { value: run.name }, `${run.program} (${run.name})`)));
  if (state.run) list.value = state.run.name;
}

function show(state) {
  choose(state);
  const run = state.run;
  if (!run) {
    $("about").textContent = state.error || "No training of this user runs on this host. This page shows it when it begins.";
    return;
  }
  document.title = `${run.loss === null || run.loss === undefined ? "" : `${number(run.loss)} – `}${run.program}`;
  $("title").textContent = run.program;
  const about = [`process ${run.name}`, `began ${lasting(run.time - run.started)} ago`];
  if (run.per_worker.length === 1) about.push(run.per_worker[0].host, run.per_worker[0].devices);
  $("about").replaceChildren(about.filter(Boolean).join(", "));
  if (run.ended) $("about").append(make("span", { class: "late" }, " – ended"));
  else if (run.idle !== null && run.idle >= IDLE) $("about").append(make("span", { class: "late" }, ` – no step for ${lasting(run.idle)}`));
  cards(run);
  chart("loss", run.curves.step || [], run.curves.loss || []);
  chart("rate", run.curves.step || [], run.curves.rate || []);
  phases(run);
  workers(run);
  servers(run);
  events(run);
}

async function update() {
  try {
    const answer = await fetch(`/state${wanted ? `?run=${encodeURIComponent(wanted)}` : ""}`);
    if (!answer.ok) throw new Error(await answer.text());
    show(await answer.json());
    document.body.dataset.updates = String(1 + Number(document.body.dataset.updates || 0));
  } catch (error) {
    $("about").replaceChildren(make("span", { class: "late" }, `paramesh watch does not answer: ${error.message}`));
  }
  setTimeout(update, EVERY);
}
$("runs").addEventListener("change", (event) => {
  wanted = event.target.value;
  location.hash = `run=${encodeURIComponent(wanted)}`;
  event.target.blur();
});
update();
