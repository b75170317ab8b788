// SPDX-License-Identifier: Apache-2.0
// chart.js - a line chart of the last few minutes, as SVG.  Its sentence for screen readers is its label.

const WIDTH = 300, HEIGHT = 116, HEAD = 18; // of the drawing's own units; HEAD: room for the top's number

// A round number at least as large: 1, 2, 2.5 or 5 times a power of ten.
function roundUp(value) {
  if (!(value > 0)) return 1;
  const power = 10 ** Math.floor(Math.log10(value));
  return [1, 2, 2.5, 5, 10].map((m) => m * power).find((x) => x >= value * 0.999);
}

// Lines with gaps where a value is null.
function linePath(values, x, y) {
  let pen = "M";
  return values.map((v, i) => {
    if (v === null) {
      pen = "M";
      return "";
    }
    const point = pen + x(i).toFixed(1) + " " + y(v).toFixed(1);
    pen = "L";
    return point;
  }).join("");
}

// Colour and dashes, so that lines can be told apart without the one or the other.
function lineClass(series, i) {
  return `c${series.colour ?? i + 1}` + (i ? ` dash${i + 1}` : "");
}

// spec: {title, series: [{key, name, say}], extra?, now, top?, least?}
//   key: of a sample; name(): its legend; say(value): value as text; now(sample): the large number
//   extra: what is said beside the series and not drawn, as they are
//   top(sample): where the scale ends, else it follows the values; least: it never ends below this
class Chart {
  constructor(spec) {
    this.spec = spec;
    this.now = el("span", { class: "now" });
    this.title = el("h2", {});
    this.drawing = svg("svg", { viewBox: `0 0 ${WIDTH} ${HEIGHT}`, preserveAspectRatio: "none", role: "img" });
    this.top = el("span", { class: "top num", "aria-hidden": "true" });
    this.wait = el("span", { class: "wait" });
    this.plot = el("div", { class: "plot" }, this.drawing, this.top, this.wait);
    this.keys = el("div", { class: "keys" });
    this.node = el("section", { class: "card chart" },
      el("header", {}, this.title, this.now), this.plot, this.keys);
    this.at = null; // the sample that is pointed at
    this.plot.addEventListener("pointermove", (event) => {
      const box = this.plot.getBoundingClientRect();
      this.at = (event.clientX - box.left) / box.width;
      this.draw();
    });
    this.plot.addEventListener("pointerleave", () => {
      this.at = null;
      this.draw();
    });
  }

  show(samples, room) {
    this.samples = samples;
    this.room = room;
    this.draw();
  }

  // values of all series as text; a dash where there is nothing to say
  words(sample) {
    return [...this.spec.series, ...(this.spec.extra ?? [])]
      .map((s) => [s.name(), sample[s.key] === null ? "–" : s.say(sample[s.key])]);
  }

  draw() {
    const { spec, samples, room } = this;
    if (!samples) return;
    const latest = samples.at(-1), shift = room - samples.length;
    this.title.textContent = t(spec.title);
    this.wait.textContent = samples.length < 2 ? t("status.wait") : "";
    this.now.textContent = latest ? spec.now(latest) : "";
    if (!latest) return;
    const top = spec.top?.(latest) ?? roundUp(Math.max(spec.least ?? 0,
      ...samples.flatMap((s) => spec.series.map((one) => s[one.key] ?? 0))));
    const x = (i) => (shift + i) * WIDTH / (room - 1);
    const y = (v) => HEIGHT - 1 - Math.min(v / top, 1) * (HEIGHT - HEAD - 1);
    const marks = [HEAD, (HEAD + HEIGHT) / 2, HEIGHT - 1].map((h, i) =>
      svg("path", { class: i === 2 ? "zero" : "grid", d: `M0 ${h}H${WIDTH}` }));
    spec.series.forEach((s, i) => {
      const values = samples.map((sample) => sample[s.key]), d = linePath(values, x, y);
      if (i === 0 && spec.series.length < 3 && !values.includes(null) && values.length > 1)
        marks.push(svg("path", { class: "under c1", d: `${d}V${HEIGHT - 1}H${x(0).toFixed(1)}Z` }));
      marks.push(svg("path", { class: "series " + lineClass(s, i), d }));
    });
    const pointed = this.at === null ? latest : this.pick(x, marks);
    this.drawing.replaceChildren(...marks);
    this.top.textContent = spec.series[0].say(top);
    this.label(latest, pointed);
  }

  // The sample under the pointer, and a line there.
  pick(x, marks) {
    const { samples, room } = this;
    const i = Math.round(this.at * (room - 1)) - (room - samples.length);
    const k = Math.min(Math.max(i, 0), samples.length - 1);
    marks.push(svg("path", { class: "cursor", d: `M${x(k).toFixed(1)} ${HEAD}V${HEIGHT}` }));
    return samples[k];
  }

  label(latest, pointed) {
    const minutes = number(this.room * PERIOD / 60);
    this.drawing.setAttribute("aria-label", t("chart.latest", { title: t(this.spec.title), minutes,
      values: this.words(latest).map(([name, value]) => `${name} ${value}`).join(", ") }));
    this.keys.replaceChildren(...this.words(pointed).map(([name, value], i) => {
      const line = this.spec.series[i];
      const mark = line && svg("svg", { viewBox: "0 0 12 10", "aria-hidden": "true" },
        svg("path", { d: "M0 5H12", class: lineClass(line, i), "stroke-width": 2.5 }));
      return el("span", {}, mark, name + " ", el("b", {}, value));
    }));
  }
}
