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

// The heading.

const { memory, step } = data;
const axes = Object.entries(data.axes).map(([name, size]) => `${name}=${size}`).join(", ");
$("title").textContent = `${data.program}: ${data.name} on ${data.target}`;
$("about").textContent = `${counted(data.devices, "device")} (${data.device_kind})` +
  `${axes ? `, mesh ${axes}` : ""}. Time is modelled with ${data.calibrated ? "measured" : "published"} ` +
  `figures and the peak of ${data.dtype}; memory is what the compiler of this hardware says.`;
const sent = data.collectives.reduce((total, one) => total + one.nbytes, 0);
function card(value, label, kind) {
  $("cards").append(make("div", { class: `card ${kind || ""}` }, make("b", {}, value), make("span", {}, label)));
}
if (memory.fits !== null) card(memory.fits ? "fits" : "does not fit", `${bytes(memory.total)} of ${bytes(memory.limit)}`, memory.fits ? "good" : "bad");
else card(bytes(memory.total), "on each device");
card(seconds(step.total), "a step, as modelled");
card(bytes(sent), "sent by each device in a step");
card(counted(data.rows.filter((row) => !row.state).length, "Parameter"), "that are trained");

// Stacks.

const COLORS = ["#5c6bc0", "#26a69a", "#ffa726", "#ec407a", "#8d6e63", "#78909c"];
function stack(node, parts, text, all) {
  const total = all || parts.reduce((sum, [, value]) => sum + value, 0) || 1;
  node.append(make("div", { class: "stack", role: "img",
    "aria-label": parts.map(([name, value]) => `${name} ${text(value)}`).join(", ") },
  ...parts.map(([name, value], at) => make("i", { "--share": `${100 * value / total}%`,
    "--color": COLORS[at], title: `${name}: ${text(value)}` }))),
  make("div", { class: "legend" }, ...parts.map(([name, value], at) => make("span", {},
    make("i", { "--color": COLORS[at] }), `${name} `, make("b", {}, text(value))))));
}
stack($("memory"), ["parameters", "state", "inputs", "activations", "workspace"]
  .map((name) => [name, memory[name]]), bytes, memory.fits ? memory.limit : 0);
if (memory.fits) $("memory").append(make("p", {}, `${bytes(memory.limit - memory.total)} are left.`));
stack($("parts"), ["compute", "memory", "network"].map((name) => [name, step[name]]), seconds);

// Collectives, along the step.

const kinds = [...new Set(data.collectives.map((one) => one.kind))];
function row(tag, cells) {
  return make("tr", {}, ...cells.map(([text, kind]) => make(tag, { class: kind || "" }, text)));
}
if (!data.collectives.length) {
  $("sent-about").textContent = "Nothing: no device needs anything of another one.";
} else {
  const made = data.compiled.reduce((total, one) => total + one.nbytes, 0);
  $("sent-about").textContent = `Each device sends ${bytes(sent)} as planned; the compiler has it send ` +
    `${bytes(made)}. From left to right: the operators of the step; height: modelled time.`;
  const width = 960, height = 150, foot = 3;
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height + foot}`, role: "img", "aria-label": "Collectives along the step" });
  const most = Math.max(...data.collectives.map((one) => one.seconds)) || 1;
  for (const one of data.collectives) {
    const tall = Math.max(2, (height - 8) * one.seconds / most);
    svg.append(drawn("rect", { class: "bar", x: 2 + (width - 10) * one.at, y: height - tall, width: 6, height: tall, rx: 2,
      fill: COLORS[kinds.indexOf(one.kind) % COLORS.length] },
    drawn("title", {}, `${one.kind} of ${one.tensor || one.maker}: ${bytes(one.nbytes)}, ${seconds(one.seconds)}`)));
  }
  svg.append(drawn("line", { class: "axis", x1: 0, x2: width, y1: height + 0.5, y2: height + 0.5 }));
  const ends = make("div", { class: "ends" }, make("span", {}, "the step begins"), make("span", {}, "Parameters are updated"));
  $("line").append(svg, ends, make("div", { class: "legend" }, ...kinds.map((kind, at) => make("span", {},
    make("i", { "--color": COLORS[at % COLORS.length] }), kind))));
  $("collectives").append(make("thead", {}, row("th", [["collective"], ["of"], ["from"], ["for"],
    ["times", "right"], ["sent", "right"], ["time", "right"]])),
  make("tbody", {}, ...data.collectives.slice(0, 60).map((one) => row("td", [[one.kind], [one.tensor, "wrap"],
    [one.maker, "wrap"], [one.users, "wrap"], [String(one.times), "right"], [bytes(one.nbytes), "right"],
    [seconds(one.seconds), "right"]]))));
}

// Remedies.

if (data.remedies.length) {
  $("remedies").hidden = false;
  $("remedy-rows").append(make("thead", {}, row("th", [["change"], ["bytes", "right"], ["step", "right"], [""], ["how"]])),
    make("tbody", {}, ...data.remedies.map((one) => row("td", [[one.name],
      [one.total === null ? "–" : bytes(one.total), "right"], [one.total === null ? "–" : seconds(one.seconds), "right"],
      [one.fits ? "fits" : "too much", one.fits ? "good" : "bad"], [one.how, "wrap"]]))));
}

// Devices x Parameters.

$("held-about").textContent = "A colour is a part: devices with the same colour in a row hold the same part; " +
  "grey is held whole." + (data.shown < data.devices ? ` The first ${data.shown} devices are drawn.` : "");
function cells(one) {
  const whole = one.parts === 1;
  const held = one.held.length ? one.held : Array(data.shown).fill(0);
  return make("div", { class: `cells ${whole ? "whole" : ""} ${data.shown > 16 ? "many" : ""}` },
    ...held.map((part, rank) => make("i", { "--color": color(part),
      title: `device ${rank}: ${whole || !one.bounds[part] ? "the whole"
        : `[${one.bounds[part].map(([low, high]) => `${low}:${high}`).join(", ")}]`}` },
    whole ? "" : String(part))));
}
function update() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const found = data.rows.filter((one) => (!one.state || $("states").checked) &&
    words.every((word) => one.name.toLowerCase().includes(word)));
  $("found").textContent = `${counted(found.length, "Parameter")}` +
    (found.length > MOST_ROWS ? `; the first ${MOST_ROWS} are shown` : "");
  $("rows").replaceChildren(make("thead", {}, row("th", [["name"], ["shape"], ["cut by"], ["devices"],
    ["copies", "right"], ["on each", "right"]])),
  make("tbody", {}, ...found.slice(0, MOST_ROWS).map((one) => make("tr", {},
    make("td", { class: "wrap mono" }, one.name), make("td", { class: "mono" }, shape(one.shape)),
    make("td", {}, one.cut), make("td", {}, cells(one)), make("td", { class: "right" }, String(one.copies)),
    make("td", { class: "right" }, bytes(one.bytes))))));
}
$("search").addEventListener("input", update);
$("states").addEventListener("change", update);
update();
document.body.dataset.ready = "yes";
