"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const MOST_ROWS = 400;

function make(tag, attributes, ...children) {
  const node = document.createElement(tag);
  return filled(node, attributes, children);
}
function drawn(tag, attributes, ...children) {
  return filled(document.createElementNS("http://www.w3.org/2000/svg", tag), attributes, children);
}
function filled(node, attributes, children) {
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("--")) node.style.setProperty(name, value);
    else node.setAttribute(name, value);
  }
  node.append(...children);
  return node;
}
function bytes(count) {
  let unit = 0;
  while (count >= 1024 && unit < 4) { count /= 1024; unit += 1; }
  return `${unit ? count.toFixed(1) : Math.round(count)} ${["B", "KiB", "MiB", "GiB", "TiB"][unit]}`;
}
function seconds(value) {
  if (value >= 1) return `${value.toFixed(2)} s`;
  return value >= 1e-3 ? `${(value * 1e3).toFixed(2)} ms` : `${(value * 1e6).toFixed(1)} µs`;
}
const counted = (count, noun) => `${count.toLocaleString("en")} ${noun}${count === 1 ? "" : "s"}`;
const color = (number) => `hsl(${(number * 137.5 + 222) % 360} 62% 68%)`;
const shape = (sizes) => `(${sizes.join(", ")}${sizes.length === 1 ? "," : ""})`;

// What several pages draw.

function card(value, label, kind) {
  $("cards").append(make("div", { class: `card ${kind || ""}` }, make("b", {}, value), make("span", {}, label)));
}
function row(tag, cells) {
  return make("tr", {}, ...cells.map(([text, kind]) => make(tag, { class: kind || "" }, text)));
}

// Stacks.

const COLORS = ["#5c6bc0", "#26a69a", "#ffa726", "#ec407a", "#8d6e63", "#78909c"];
function stack(node, parts, text, all, legend = true) {
  const total = all || parts.reduce((sum, [, value]) => sum + value, 0) || 1;
  node.append(make("div", { class: "stack", role: "img",
    "aria-label": parts.map(([name, value]) => `${name} ${text(value)}`).join(", ") },
  ...parts.map(([name, value], at) => make("i", { "--share": `${100 * value / total}%`,
    "--color": COLORS[at], title: `${name}: ${text(value)}` }))));
  if (!legend) return;
  node.append(make("div", { class: "legend" }, ...parts.map(([name, value], at) => make("span", {},
    make("i", { "--color": COLORS[at] }), `${name} `, make("b", {}, text(value))))));
}

// Devices x Parameters. With stages, a row has the devices of its stage, the first of which is its `first`.

function cells(one) {
  const whole = one.parts === 1;
  const held = one.held.length ? one.held : Array(data.shown).fill(0);
  return make("div", { class: `cells ${whole ? "whole" : ""} ${data.shown > 16 ? "many" : ""}` },
    ...held.map((part, rank) => make("i", { "--color": color(part),
      title: `device ${(one.first || 0) + rank}: ${whole || !one.bounds[part] ? "the whole"
        : `[${one.bounds[part].map(([low, high]) => `${low}:${high}`).join(", ")}]`}` },
    whole ? "" : String(part))));
}
function showHeld(staged) {
  $("held-about").textContent = "A colour is a part: devices with the same colour in a row hold the same part; " +
    "grey is held whole." + (data.shown < data.held_by ? ` The first ${data.shown} devices are drawn.` : "");
  const columns = [["name"], ["shape"], ["cut by"], ["devices"], ["copies", "right"], ["on each", "right"]];
  if (staged) columns.splice(1, 0, ["stage", "right"]);
  const update = () => {
    const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = data.rows.filter((one) => (!one.state || $("states").checked) &&
      words.every((word) => one.name.toLowerCase().includes(word)));
    $("found").textContent = `${counted(found.length, "Parameter")}` +
      (found.length > MOST_ROWS ? `; the first ${MOST_ROWS} are shown` : "");
    $("rows").replaceChildren(make("thead", {}, row("th", columns)),
      make("tbody", {}, ...found.slice(0, MOST_ROWS).map((one) => make("tr", {},
        make("td", { class: "wrap mono" }, one.name),
        ...(staged ? [make("td", { class: "right" }, String(one.stage))] : []),
        make("td", { class: "mono" }, shape(one.shape)),
        make("td", {}, one.cut), make("td", {}, cells(one)), make("td", { class: "right" }, String(one.copies)),
        make("td", { class: "right" }, bytes(one.bytes))))));
  };
  $("search").addEventListener("input", update);
  if ($("states")) $("states").addEventListener("change", update);
  update();
}
