"use strict";
// Shows a slice at a time. All that it needs is in the page; nothing is fetched.
const scan = JSON.parse(document.getElementById("scan").textContent);
const at = id => document.getElementById(id);
const canvas = at("slice"), drawing = at("outlines");
const state = { series: 0, slice: 0, phase: 0, shown: true, playing: 0 };
const images = new Map();

function sheet(series, phase) {
  const key = series + "/" + phase;
  if (!images.has(key)) {
    const image = new Image();
    image.onload = draw;
    image.src = scan.series[series].sheets[phase];
    images.set(key, image);
  }
  return images.get(key);
}

function draw() {
  const series = scan.series[state.series], [width, height] = series.tile;
  const image = sheet(state.series, state.phase);
  canvas.width = width;
  canvas.height = height;
  if (image.complete && image.naturalWidth) {
    const left = state.slice % series.across * width, top = Math.floor(state.slice / series.across) * height;
    canvas.getContext("2d").drawImage(image, left, top, width, height, 0, 0, width, height);
  }
  drawing.setAttribute("viewBox", "0 0 " + series.size.join(" "));
  drawing.replaceChildren(...(state.shown ? series.outlines[state.phase][state.slice] : []).map(([number, path]) => {
    const line = document.createElementNS("http://www.w3.org/2000/svg", "path");
    line.setAttribute("d", path);
    line.setAttribute("stroke", series.structures[number].colour);
    line.setAttribute("fill", series.structures[number].colour);
    return line;
  }).reverse());
  at("stage").style.aspectRatio = series.size.join(" / ");
  ["left", "right", "top", "bottom"].forEach((side, number) => { at(side).textContent = series.sides[number]; });
  for (const [name, count, value] of [["slices", series.slices, state.slice], ["phases", series.phases.length, state.phase]]) {
    at(name).max = count;
    at(name).value = value + 1;
    at(name).disabled = count < 2;
  }
  const number = "phase " + (state.phase + 1), name = series.phases[state.phase];
  at("where").textContent = [
    "slice " + (state.slice + 1) + " of " + series.slices
      + (series.called.length ? " (" + series.called[state.slice] + " of the scanner)" : ""),
    series.phases.length > 1 ? number + " of " + series.phases.length : "",
    name === number ? "" : name,
    ...scan.marks.filter(mark => here(mark) && mark.name !== name).map(mark => mark.name),
    series.milliseconds.length ? Math.round(series.milliseconds[state.phase]) + " ms" : "",
  ].filter(part => part).join(", ");
  document.querySelectorAll(".controls [data-mark]").forEach(button => {
    button.setAttribute("aria-pressed", scan.marks.some(mark => mark.name === button.dataset.mark && here(mark)));
  });
  at("play").disabled = series.phases.length < 2;
  document.querySelectorAll(".curve").forEach((curve, number) => { curve.hidden = number !== state.series; });
  document.querySelectorAll(".curve .now").forEach(line => {
    const x = line.dataset.first * 1 + line.dataset.step * state.phase;
    line.setAttribute("x1", x);
    line.setAttribute("x2", x);
  });
}

function here(mark) {
  return mark.series === state.series && mark.phase === state.phase;
}

function jump(name) {
  for (const { series, phase } of scan.marks.filter(mark => mark.name === name)) {
    at("series").value = series;
    go({ series, phase });
  }
}

function go(change) {
  Object.assign(state, change);
  const series = scan.series[state.series];
  state.slice = Math.min(Math.max(state.slice, 0), series.slices - 1);
  state.phase = (state.phase + series.phases.length) % series.phases.length;
  draw();
}

function play() {
  clearInterval(state.playing);
  state.playing = state.playing ? 0 : setInterval(() => go({ phase: state.phase + 1 }), 60);
  at("play").setAttribute("aria-pressed", state.playing !== 0);
}

at("slices").addEventListener("input", event => go({ slice: event.target.value - 1 }));
at("phases").addEventListener("input", event => go({ phase: event.target.value - 1 }));
at("play").addEventListener("click", play);
document.querySelectorAll(".controls [data-mark]").forEach(button => {
  button.addEventListener("click", () => jump(button.dataset.mark));
});
at("show").addEventListener("change", event => go({ shown: event.target.checked }));
at("series").addEventListener("change", event => go({ series: event.target.value * 1, slice: 0, phase: 0 }));
at("stage").addEventListener("wheel", event => {
  event.preventDefault();
  go({ slice: state.slice + Math.sign(event.deltaY) });
}, { passive: false });
document.querySelectorAll("svg.curve").forEach(curve => curve.addEventListener("click", event => {
  const line = curve.querySelector(".now"), box = curve.getBoundingClientRect();
  const x = (event.clientX - box.left) / box.width * curve.viewBox.baseVal.width;
  const phase = Math.round((x - line.dataset.first) / line.dataset.step);
  go({ phase: Math.min(Math.max(phase, 0), scan.series[state.series].phases.length - 1) });
}));
document.addEventListener("keydown", event => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.target.tagName === "SELECT") return;
  const keys = {
    ArrowUp: () => go({ slice: state.slice + 1 }), ArrowDown: () => go({ slice: state.slice - 1 }),
    ArrowRight: () => go({ phase: state.phase + 1 }), ArrowLeft: () => go({ phase: state.phase - 1 }),
    " ": () => { if (!at("play").disabled) play(); },
    d: () => jump("ED"), s: () => jump("ES"),
    c: () => { at("show").checked = !state.shown; go({ shown: !state.shown }); },
  };
  if (keys[event.key]) {
    event.preventDefault();
    keys[event.key]();
  }
});
const start = scan.start;
go({ series: start.series, slice: start.slice, phase: start.phase });
