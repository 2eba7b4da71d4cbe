// The heading.

const { memory, step } = data;
const axes = Object.entries(data.axes).map(([name, size]) => `${name}=${size}`).join(", ");
$("title").textContent = `${data.program}: ${data.name} on ${data.target}`;
$("about").textContent = `${counted(data.devices, "device")} (${data.device_kind})` +
  `${axes ? `, mesh ${axes}` : ""}. Time is modelled with ${data.calibrated ? "measured" : "published"} ` +
  `figures and the peak of ${data.dtype}; memory is what the compiler of this hardware says.`;
const sent = data.collectives.reduce((total, one) => total + one.nbytes, 0);
if (memory.fits !== null) card(memory.fits ? "fits" : "does not fit", `${bytes(memory.total)} of ${bytes(memory.limit)}`, memory.fits ? "good" : "bad");
else card(bytes(memory.total), "on each device");
card(seconds(step.total), "a step, as modelled");
card(bytes(sent), "sent by each device in a step");
card(counted(data.rows.filter((row) => !row.state).length, "Parameter"), "that are trained");

// Where bytes and time go.

stack($("memory"), ["parameters", "state", "inputs", "activations", "workspace"]
  .map((name) => [name, memory[name]]), bytes, memory.fits ? memory.limit : 0);
if (memory.fits) $("memory").append(make("p", {}, `${bytes(memory.limit - memory.total)} are left.`));
stack($("parts"), ["compute", "memory", "network"].map((name) => [name, step[name]]), seconds);

// Collectives, along the step.

const kinds = [...new Set(data.collectives.map((one) => one.kind))];
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

showHeld(false);
document.body.dataset.ready = "yes";
