"use strict";
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const MOST_ROWS = 1000;

function make(tag, settings, ...children) {
  const node = settings && settings.svg ? document.createElementNS("http://www.w3.org/2000/svg", tag)
    : document.createElement(tag);
  for (const [key, value] of Object.entries(settings || {})) {
    if (key === "svg" || value === null || value === undefined) continue;
    if (key === "on") for (const [event, run] of Object.entries(value)) node.addEventListener(event, run);
    else if (key.startsWith("--")) node.style.setProperty(key, value);
    else node.setAttribute(key, value);
  }
  node.append(...children.filter((child) => child !== null));
  return node;
}
const drawn = (tag, settings, ...children) => make(tag, { svg: true, ...settings }, ...children);

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let size = count, unit = 0;
  while (size >= 1024 && unit < units.length - 1) { size /= 1024; unit += 1; }
  return unit ? `${size.toFixed(1)} ${units[unit]}` : `${count} B`;
}
const whole = (count) => count.toLocaleString("en-US");
const counted = (count, what) => `${whole(count)} ${what}${count === 1 ? "" : "s"}`;
function number(value) {
  if (value === null) return "–";
  if (typeof value !== "number") return String(value);
  if (Number.isInteger(value) && Math.abs(value) < 1e6) return whole(value);
  return String(Number(value.toPrecision(4)));
}
const shape = (parameter) => `[${parameter.shape.join(", ")}]`;
const isBad = (parameter) => parameter.stats.nans + parameter.stats.infinities > 0;
// The golden angle puts neighbours far apart, however many devices there are.
const color = (rank) => `hsl(${(rank * 137.508 + 225) % 360} 48% 50%)`;

// The heading.

$("title").textContent = data.title;
document.title = `${data.title} · paramesh`;
$("about").textContent = `${data.path} · ${data.format}` +
  (data.file_bytes === null ? "" : ` · ${bytes(data.file_bytes)} on the disk`);
const bad = data.parameters.filter(isBad);
function card(value, label, kind) {
  $("cards").append(make("div", { class: `card ${kind || ""}` }, make("b", {}, value), make("span", {}, label)));
}
const sum = (key) => data.parameters.reduce((total, parameter) => total + parameter[key], 0);
card(whole(data.parameters.length), "parameters");
card(whole(sum("elements")), "elements");
card(bytes(sum("bytes")), "in memory");
const kinds = [...new Set(data.parameters.map((parameter) => parameter.dtype))];
card(kinds.length > 2 ? String(kinds.length) : kinds.join(", ") || "–", kinds.length === 1 ? "element type" : "element types");
card(whole(bad.length), "with NaN or infinite elements", bad.length ? "bad" : "");

// The devices.

let pressed = null;
function slicesOf(parameter) { return data.placements[parameter.placement].slices; }
function share(index) { return index.reduce((size, [low, high]) => size * (high - low), 1); }
if (data.devices.length) {
  $("devices").hidden = false;
  const most = Math.max(...data.devices, 1);
  const total = data.devices.reduce((a, b) => a + b, 0);
  const least = bytes(Math.min(...data.devices)), largest = bytes(Math.max(...data.devices));
  if (data.device_kind !== "device") $("devices").querySelector("h2").textContent = "Files";
  $("devices-about").textContent = `${counted(data.devices.length, data.device_kind)}, ` +
    `${least === largest ? largest : `from ${least} to ${largest}`} each; ` +
    `${bytes(total)} together. Choose one to see what it holds.`;
  $("device-bars").classList.toggle("long", data.device_names.some((name) => name.length > 10));
  data.devices.forEach((size, rank) => {
    $("device-bars").append(make("button", {
      class: "device", type: "button", "aria-pressed": "false", "data-rank": rank,
      "--share": `${100 * size / most}%`, "--color": color(rank),
      on: { click: () => press(pressed === rank ? null : rank) },
    }, make("span", {}, data.device_names[rank]), make("i", {}), make("span", {}, bytes(size))));
  });
}
function press(rank) {
  pressed = rank;
  for (const button of document.querySelectorAll(".device")) {
    button.setAttribute("aria-pressed", String(Number(button.dataset.rank) === rank));
  }
  update();
  if (selected) show(selected);
}
const holds = (parameter, rank) =>
  slicesOf(parameter).some((slice) => slice.ranks.includes(rank));

// The tree.

let selected = null;
const opened = new Set();
function grow(parameters) {
  const root = { name: "", path: "", branches: new Map(), leaves: [], count: 0, bytes: 0, elements: 0, bad: false };
  for (const parameter of parameters) {
    let branch = root;
    const path = parameter.name.split(".");
    const passed = [root];
    for (const part of path.slice(0, -1)) {
      if (!branch.branches.has(part)) {
        branch.branches.set(part, {
          name: part, path: branch.path ? `${branch.path}.${part}` : part,
          branches: new Map(), leaves: [], count: 0, bytes: 0, elements: 0, bad: false,
        });
      }
      branch = branch.branches.get(part);
      passed.push(branch);
    }
    branch.leaves.push(parameter);
    for (const one of passed) {
      one.count += 1; one.bytes += parameter.bytes; one.elements += parameter.elements;
      one.bad = one.bad || isBad(parameter);
    }
  }
  return root;
}
function wanted() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  return data.parameters.filter((parameter) => {
    if ($("bad").checked && !isBad(parameter)) return false;
    if (pressed !== null && !holds(parameter, pressed)) return false;
    const text = `${parameter.name} ${shape(parameter)} ${parameter.dtype}`.toLowerCase();
    return words.every((word) => text.includes(word));
  });
}
const orders = {
  name: (a, b) => a.name.localeCompare(b.name, "en", { numeric: true }),
  bytes: (a, b) => b.bytes - a.bytes,
  std: (a, b) => (b.stats.std ?? -1) - (a.stats.std ?? -1),
};
function update() {
  const tree = $("tree");
  tree.replaceChildren();
  const found = wanted();
  const filtered = found.length < data.parameters.length;
  const held = pressed === null ? "" : ` ${data.device_kind === "device" ? "on device" : "in file"} ${pressed}`;
  $("found").textContent = filtered || held
    ? `${whole(found.length)} of ${counted(data.parameters.length, "parameter")}${held}` : "";
  const order = orders[$("sort").value];
  let left = MOST_ROWS;
  const total = sum("bytes") || 1;
  const leaf = (parameter, level, name) => {
    if (left-- <= 0) return;
    tree.append(make("button", {
      class: `row leaf ${isBad(parameter) ? "bad-value" : ""}`, type: "button", role: "treeitem",
      "aria-level": level + 1, "aria-selected": String(parameter === selected), "--level": level,
      title: parameter.name, "data-name": parameter.name,
      on: { click: () => choose(parameter) },
    }, make("span", { class: "name" }, name), make("span", { class: "shape" }, shape(parameter)),
    make("span", { class: "dtype" }, parameter.dtype),
    make("span", { class: "bytes" }, bytes(parameter.bytes)), bars(parameter, 96, 20)));
  };
  if (order) {  // an order of parameters: a list
    for (const parameter of [...found].sort(order)) leaf(parameter, 0, parameter.name);
  } else {
    const searching = filtered && found.length <= 200;
    const walk = (branch, level) => {
      for (const child of branch.branches.values()) {
        let here = child, name = child.name;
        while (here.branches.size === 1 && !here.leaves.length) {
          [here] = here.branches.values();
          name += `.${here.name}`;
        }
        const open = searching || opened.has(here.path);
        if (left-- > 0) {
          tree.append(make("button", {
            class: `row branch ${here.bad ? "bad-value" : ""}`, type: "button", role: "treeitem",
            "aria-level": level + 1, "aria-expanded": String(open), "--level": level,
            "data-path": here.path, title: here.path,
            on: { click: () => { opened[opened.has(here.path) ? "delete" : "add"](here.path); update(); } },
          }, make("span", { class: "name" }, name),
          make("span", { class: "count" }, counted(here.count, "parameter")),
          make("span", { class: "count" }, whole(here.elements)),
          make("span", { class: "bytes" }, bytes(here.bytes)),
          make("span", { class: "share", "--share": `${100 * here.bytes / total}%`,
            title: `${(100 * here.bytes / total).toFixed(1)}% of all bytes` })));
        }
        if (open) walk(here, level + 1);
      }
      for (const parameter of branch.leaves) leaf(parameter, level, parameter.name.split(".").pop());
    };
    walk(grow(found), 0);
  }
  if (left < 0) tree.append(make("div", { class: "more" }, `and ${whole(-left)} more rows: search for them`));
  if (!found.length) tree.append(make("div", { class: "more" }, "No parameter is like that."));
}
function bars(parameter, width, height) {
  const counts = parameter.histogram;
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", "aria-hidden": "true" });
  if (!counts.length) return svg;
  const most = Math.max(...counts, 1), step = width / counts.length;
  const one = parameter.stats.low === parameter.stats.high;
  counts.forEach((count, at) => {
    if (!count) return;
    const tall = Math.max(1, (height - 1) * count / most);
    svg.append(drawn("rect", { class: "bin", x: (one ? (width - step) / 2 : at * step).toFixed(2), y: (height - tall).toFixed(2),
      width: Math.max(step - 0.3, 0.3).toFixed(2), height: tall.toFixed(2) }));
  });
  return svg;
}

// One parameter.

function choose(parameter) {
  selected = parameter;
  for (const row of document.querySelectorAll(".leaf")) {
    row.setAttribute("aria-selected", String(row.dataset.name === parameter.name));
  }
  history.replaceState(null, "", `#${encodeURIComponent(parameter.name)}`);
  show(parameter);
  // On narrow screens the details are above the tree.
  if (matchMedia("(max-width: 980px)").matches) $("detail").scrollIntoView({ block: "nearest" });
}
function show(parameter) {
  const { stats } = parameter;
  const row = (label, value, kind) => make("tr", {}, make("td", {}, label), make("td", { class: kind || "mono" }, value));
  const badCount = (count) => [whole(count), count ? "bad" : "mono"];
  const rows = [
    row("shape", shape(parameter)), row("element type", parameter.dtype),
    row("elements", whole(parameter.elements)), row("bytes", bytes(parameter.bytes)),
    row("min", number(stats.low)), row("max", number(stats.high)),
    row("mean", number(stats.mean)), row("std", number(stats.std)),
    row("zeros", `${whole(stats.zeros)}${stats.count ? ` (${(100 * stats.zeros / stats.count).toFixed(1)}%)` : ""}`),
    row("NaN", ...badCount(stats.nans)), row("infinite", ...badCount(stats.infinities)),
  ];
  const parts = [make("h2", { class: "mono" }, parameter.name)];
  if (parameter.note) parts.push(make("p", {}, parameter.note));
  parts.push(histogram(parameter), make("table", {}, make("tbody", {}, ...rows)));
  if (parameter.placement !== null) parts.push(...placement(parameter));
  $("detail").replaceChildren(...parts);
}
function histogram(parameter) {
  const counts = parameter.histogram, width = 400, height = 150, foot = 18;
  const svg = drawn("svg", { viewBox: `0 0 ${width} ${height + foot}`, role: "img",
    "aria-label": `Histogram of ${parameter.name}` });
  if (!counts.length) {
    svg.append(drawn("text", { x: width / 2, y: height / 2, "text-anchor": "middle" }, "no finite elements"));
    return svg;
  }
  const most = Math.max(...counts, 1), step = width / counts.length;
  const { low, high } = parameter.stats;
  const one = low === high;
  const at = (bin) => low + (high - low) * bin / counts.length;
  counts.forEach((count, bin) => {
    const tall = count ? Math.max(1.5, (height - 14) * count / most) : 0;
    const place = one ? width / 2 - step : bin * step;
    const interval = one ? number(low) : `${number(at(bin))} to ${number(at(bin + 1))}`;
    svg.append(drawn("rect", { class: "bin", x: place, y: height - tall,
      width: one ? 2 * step : Math.max(step - 1, 0.5), height: tall, rx: 1 },
    drawn("title", {}, `${interval}: ${counted(count, "element")}`)));
  });
  svg.append(drawn("line", { class: "axis", x1: 0, x2: width, y1: height + 0.5, y2: height + 0.5 }));
  const label = (x, anchor, text, y) => svg.append(drawn("text", { x, y: y || height + 14, "text-anchor": anchor }, text));
  if (one) label(width / 2, "middle", number(low));
  else {
    label(0, "start", number(low));
    label(width, "end", number(high));
    if (low < 0 && high > 0) {
      const zero = width * -low / (high - low);
      svg.append(drawn("line", { class: "axis", x1: zero, x2: zero, y1: 0, y2: height }));
      if (zero > 60 && zero < width - 60) label(zero, "middle", "0");
    }
  }
  label(width, "end", `most in one bin: ${whole(most)}`, 10);
  return svg;
}
function placement(parameter) {
  const { slices, axes, shape } = data.placements[parameter.placement];
  // Divided optimizer state is cut as if it had one axis.
  const sizes = shape || parameter.shape, kind = data.device_kind;
  const parts = [make("h2", { style: "margin-top:16px" }, `Which ${kind} holds what`),
    make("p", {}, axes)];
  // The two axes that are cut most are drawn; the others are in the text.
  const pieces = sizes.map((_, axis) => new Set(slices.map((s) => s.index[axis].join())).size);
  const cut = pieces.map((n, axis) => [n, axis]).filter(([n]) => n > 1).sort((a, b) => b[0] - a[0]);
  let [first, second] = cut.slice(0, 2).map(([, axis]) => axis).sort((a, b) => a - b);
  // Columns of a matrix lie side by side.
  if (second === undefined && first > 0) [first, second] = [undefined, first];
  const width = 400, height = first === undefined ? 80 : 190;
  const svg = drawn("svg", { class: "slices", viewBox: `0 0 ${width} ${height}`, role: "img",
    "aria-label": `Slices of ${parameter.name} in the ${kind}s` });
  const span = (index, axis, size) => {
    if (axis === undefined) return [0, size];
    const [low, high] = index[axis], all = sizes[axis] || 1;
    return [size * low / all, size * high / all];
  };
  for (const { index, ranks } of slices) {
    const [y1, y2] = span(index, first, height), [x1, x2] = span(index, second, width);
    const dim = pressed !== null && !ranks.includes(pressed);
    const text = `${index.map(([low, high]) => `${low}:${high}`).join(", ")} on ` +
      `${kind}${ranks.length === 1 ? "" : "s"} ${runs(ranks)}`;
    svg.append(drawn("rect", { class: `slice ${dim ? "dim" : ""}`, x: x1, y: y1, width: x2 - x1,
      height: y2 - y1, rx: 4, fill: color(ranks[0]) }, drawn("title", {}, text)));
    if (y2 - y1 >= 14 && x2 - x1 >= 30) {
      svg.append(drawn("text", { x: (x1 + x2) / 2, y: (y1 + y2) / 2 }, runs(ranks, x2 - x1)));
    }
  }
  parts.push(svg);
  const said = [[first, "downwards"], [second, "to the right"]]
    .filter(([axis]) => axis !== undefined).map(([axis, way]) => `axis ${axis} ${way}`);
  parts.push(make("p", {}, said.length ? `Drawn: ${said.join(", ")}; numbers are ${kind}s.`
    : slices.every(({ ranks }) => ranks.length === data.devices.length)
      ? `Every ${kind} holds the whole array.` : "The whole array is one slice."));
  const held = slices.filter((slice) => pressed === null || slice.ranks.includes(pressed)).slice(0, 64);
  parts.push(make("table", {}, make("tbody", {}, ...held.map(({ index, ranks }) => make("tr", {},
    make("td", {}, `${kind}${ranks.length === 1 ? "" : "s"} ${runs(ranks)}`),
    make("td", { class: "mono" }, `[${index.map(([low, high]) => `${low}:${high}`).join(", ")}] ` +
      bytes(share(index) * (parameter.elements ? parameter.bytes / parameter.elements : 0))))))));
  return parts;
}
function runs(ranks, width) {
  const found = [];
  for (const rank of ranks) {
    const last = found[found.length - 1];
    if (last && last[1] === rank - 1) last[1] = rank;
    else found.push([rank, rank]);
  }
  const text = found.map(([low, high]) => (low === high ? `${low}` : `${low}–${high}`)).join(", ");
  return width && text.length * 6.5 > width ? `${ranks[0]}…` : text;
}

// What else the file says.

function pairs(title, values) {
  const entries = Object.entries(values);
  if (!entries.length) return;
  $("extra").append(make("div", {}, make("h2", {}, title), make("table", {}, make("tbody", {},
    ...entries.map(([name, value]) => make("tr", {}, make("td", {}, name),
      make("td", { class: "mono" }, typeof value === "string" ? value : JSON.stringify(value))))))));
}
pairs("append_dict", data.append_dict);
pairs("metadata", data.metadata);

$("search").addEventListener("input", update);
$("bad").addEventListener("change", update);
$("sort").addEventListener("change", update);
$("close-all").addEventListener("click", () => { opened.clear(); update(); });
$("open-all").addEventListener("click", () => {
  for (const parameter of data.parameters) {
    const path = parameter.name.split(".");
    for (let n = 1; n < path.length; n += 1) opened.add(path.slice(0, n).join("."));
  }
  update();
});
document.addEventListener("keydown", (event) => {
  if (event.key === "/" && document.activeElement !== $("search")) {
    event.preventDefault();
    $("search").focus();
  }
  if (["ArrowDown", "ArrowUp"].includes(event.key) && document.activeElement.classList.contains("row")) {
    const next = document.activeElement[event.key === "ArrowDown" ? "nextElementSibling" : "previousElementSibling"];
    if (next && next.classList.contains("row")) { event.preventDefault(); next.focus(); }
  }
});

// What is open at first: everything if it is little, else the first level.
if (data.parameters.length <= 60) $("open-all").click();
else for (const parameter of data.parameters) opened.add(parameter.name.split(".")[0]);
update();
const asked = decodeURIComponent(location.hash.slice(1));
const start = data.parameters.find((parameter) => parameter.name === asked) || bad[0] || data.parameters[0];
if (start) { selected = start; update(); show(start); }
document.body.dataset.ready = "yes";
