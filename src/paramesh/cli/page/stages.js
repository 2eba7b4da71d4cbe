// The heading.

const { stages } = data;
$("title").textContent = `${data.program}: ${data.name} on ${data.target}`;
$("about").textContent = `${counted(data.devices, "device")} (${data.device_kind}), ` +
  `${counted(stages.length, "stage")} of ${data.held_by}. Time is modelled with ` +
  `${data.calibrated ? "measured" : "published"} figures and the peak of ${data.dtype}; memory is what the compiler of ` +
  "this hardware says of each program, along the schedule.";
if (data.fits !== null) card(data.fits ? "fits" : "does not fit", `${bytes(data.total)} of ${bytes(data.limit)}`, data.fits ? "good" : "bad");
else card(bytes(data.total), "on a device, at most");
card(seconds(data.seconds), "a step, as modelled");
card(`${Math.round(100 * data.idle)} %`, "of it stages are idle");
card(String(data.micro_batches), `micro-batches, ${data.scheduler}`);
card(counted(data.rows.length, "Parameter"), "that are trained");

// Who works when: a row for each stage.

const SHADES = { forward: COLORS[0], backward: COLORS[1], update: COLORS[2] };
const shade = (kind) => SHADES[kind] || COLORS[5];
const WIDE = 960, HIGH = 26, LEFT = 58;
const lengths = data.seconds || 1;
const svg = drawn("svg", { viewBox: `0 0 ${WIDE} ${HIGH * stages.length}`, role: "img",
  "aria-label": "What each stage does along the step" });
for (const one of stages) {
  const y = HIGH * one.stage;
  svg.append(drawn("rect", { class: "rail", x: LEFT, y: y + 2, width: WIDE - LEFT, height: HIGH - 4, rx: 4 }),
    drawn("text", { class: "label", x: 0, y: y + 17 }, `stage ${one.stage}`));
}
for (const [stage, kind, micro, start, took] of data.spans) {
  const x = LEFT + (WIDE - LEFT) * start / lengths, width = (WIDE - LEFT) * took / lengths;
  const what = `stage ${stage}, ${kind}${micro < 0 ? "" : ` of micro-batch ${micro}`}: ${seconds(took)}, from ${seconds(start)}`;
  svg.append(drawn("rect", { class: "bar", x, y: HIGH * stage + 2, width: Math.max(width - 0.6, 0.4), height: HIGH - 4,
    rx: Math.min(3, width / 4), fill: shade(kind) }, drawn("title", {}, what)));
  if (micro >= 0 && width > 6 + 6 * String(micro).length) {
    svg.append(drawn("text", { class: "number", x: x + width / 2, y: HIGH * stage + 17 }, String(micro)));
  }
}
$("spans").append(make("div", { class: "along" }, svg, make("div", { class: "ends" },
  make("span", {}, "the step begins"), make("span", {}, `it ends after ${seconds(data.seconds)}`))));
$("spans-about").textContent = "Numbers are micro-batches; grey is idle, or waiting for another stage. " +
  "In the table, forward and backward are of one micro-batch, and the others of a step." +
  (data.spans.length < data.spans_in_all ? ` The first ${data.spans.length.toLocaleString("en")} of ` +
    `${data.spans_in_all.toLocaleString("en")} tasks are drawn.` : "");
const visible = data.spans.filter(([, , , , took]) => took > lengths / 1000);
$("kinds").append(...[...new Set(visible.map(([, kind]) => kind))].map((kind) => make("span", {},
  make("i", { "--color": shade(kind) }), kind)));
const right = (name) => [name, "right"];
function ofStages(node, names, text) {
  node.append(make("thead", {}, row("th", [["stage"], ...names.map(right)])),
    make("tbody", {}, ...stages.map((one) => row("td", [[String(one.stage)], ...names.map((name) => right(text(one[name])))]))));
}
ofStages($("times"), ["forward", "backward", "update", "waiting", "working"], seconds);

// Memory: all stages in one scale.

const sizes = ["parameters", "state", "gradients", "inputs", "activations", "workspace"];
const most = data.fits ? data.limit : data.total;
for (const one of stages) {
  $("memory").append(make("p", { class: "stage" }, `stage ${one.stage}: ${bytes(one.total)}`));
  stack($("memory"), sizes.map((name) => [name, one[name]]), bytes, most, false);
}
$("memory").append(make("div", { class: "legend" }, ...sizes.map((name, at) => make("span", {},
  make("i", { "--color": COLORS[at] }), name))));
if (data.fits) $("memory").append(make("p", {}, `${bytes(data.limit - data.total)} are left where it is most.`));
ofStages($("sizes"), [...sizes, "total"], bytes);

showHeld(true);
document.body.dataset.ready = "yes";
