// Draws a curve from JSON (data-plot = its address), zooms by asking the server for the range in view, so that a
// million points never travel, and adds what is new at the end when the page says "live".
//
//   GET <src>?from=<ms>&to=<ms>&points=<n>  →  { from, to,
//     series: [{ name, unit, kind: "line"|"step", points: [[ms, value|null], …],
//                samples: [[ms, value], …],
//                doubts: [{ from, to, value, y, quality: "bad"|"uncertain", reason: "stuck"|"clock"|null }] }],
//     limits: [{ label, value, severity }],  marks: [{ from, to|null, label, severity, href }] }
//
// The chart is told that all times are UTC and gets wall time: it knows no zone but the browser's.
import { fetchGlobal } from "./library.js";
import { fromWall, toWall } from "./zone.js";

const PALETTE = ["#2f6fb3", "#c2740a", "#2f855a", "#b23a48", "#6b4fbb", "#0f766e"];
const ZOOM_PAUSE_MS = 250;
const FEWEST_POINTS = 200;

const token = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
const severityColour = (severity) => token(`--fw-${severity === "minor" ? "minor-edge" : severity || "info"}`);

// A reading between two gaps is a line of no length: it is drawn as a dot, so that it is seen.
const withDots = (points) => points.map(([at, value], index) => {
  const alone = value !== null && (points[index - 1]?.[1] ?? null) === null && (points[index + 1]?.[1] ?? null) === null;
  return alone ? { value: [toWall(at), value], symbol: "circle" } : [toWall(at), value];
});

class Plot {
  constructor(figure, echarts) {
    this.figure = figure;
    this.echarts = echarts;
    this.words = JSON.parse(figure.dataset.plotWords);
    this.area = figure.querySelector(".fw-plot-area");
    this.asked = { from: Date.parse(figure.dataset.plotFrom), to: Date.parse(figure.dataset.plotTo) };
    this.zoomTimer = 0;
    this.turn = 0;
  }

  async load(range = this.asked) {
    const turn = ++this.turn;
    // What stands in the page is all there is: a draft has no address to ask for more.
    const standing = this.figure.querySelector("[data-plot-data]");
    if (standing) return JSON.parse(standing.textContent);
    const address = new URL(this.figure.dataset.plot, location.href);
    if (range.from) address.searchParams.set("from", Math.floor(range.from));
    if (range.to) address.searchParams.set("to", Math.ceil(range.to));
    address.searchParams.set("points", Math.max(FEWEST_POINTS, this.area.clientWidth));
    const answer = await fetch(address, { headers: { Accept: "application/json" } });
    if (!answer.ok) throw new Error(`${answer.status} from ${address.pathname}`);
    const data = await answer.json();
    // An answer that was overtaken by a later question is thrown away.
    return turn === this.turn ? data : null;
  }

  async start() {
    this.figure.classList.add("is-loading");
    this.say("");
    try {
      const data = await this.load();
      if (data) this.show(data);
    } catch (error) {
      console.error(error);
      this.say(this.words.failed, true);
    } finally {
      this.figure.classList.remove("is-loading");
    }
  }

  say(text, again = false) {
    this.figure.querySelector(".fw-plot-word")?.remove();
    if (!text) return;
    const word = Object.assign(document.createElement("div"), { className: "fw-plot-word" });
    word.append(Object.assign(document.createElement("span"), { textContent: text }));
    if (again) {
      const button = Object.assign(document.createElement("button"), { type: "button", className: "btn btn-sm", textContent: this.words.again });
      button.addEventListener("click", () => this.start());
      word.append(button);
    }
    this.figure.append(word);
  }

  show(data) {
    this.data = data;
    this.whole ??= { from: data.from, to: data.to };
    if (!data.series.some((one) => one.points.length)) {
      this.say(data.series.some((one) => one.doubts?.length) ? this.words.onlyBad : this.words.empty);
      return;
    }
    if (!this.chart) this.create();
    this.chart.setOption(this.option(data), { replaceMerge: ["series", "yAxis"] });
  }

  create() {
    this.area.replaceChildren();
    this.chart = this.echarts.init(this.area, null, { renderer: "canvas" });
    this.chart.on("datazoom", () => {
      clearTimeout(this.zoomTimer);
      this.zoomTimer = setTimeout(() => this.zoomed(), ZOOM_PAUSE_MS);
    });
    this.chart.on("click", ({ data }) => {
      const href = data?.href ?? data?.[0]?.href;
      if (href) location.assign(href);
    });
    this.resizing = new ResizeObserver(() => this.chart.resize());
    this.resizing.observe(this.area);
  }

  async zoomed() {
    const [zoom] = this.chart.getOption().dataZoom;
    try {
      const data = await this.load({ from: fromWall(zoom.startValue), to: fromWall(zoom.endValue) });
      if (data) this.show({ ...data, limits: this.data.limits, marks: this.data.marks });
    } catch (error) {
      console.error(error); // What is drawn stays true, only coarser than it could be.
    }
  }

  // Adds what came since the last reading; the window moves along unless the reader has zoomed into the past.
  async extend() {
    if (!this.data) return;
    const last = Math.max(...this.data.series.map((one) => one.points.at(-1)?.[0] ?? 0)) || this.whole.from;
    const zoom = this.chart?.getOption().dataZoom[0];
    if (zoom && fromWall(zoom.endValue) < last) return;
    // From the last reading of each curve on, so that a gap before the first new one is seen.
    const from = Math.min(...this.data.series.map((one) => one.points.at(-1)?.[0] ?? last));
    const fresh = await this.load({ from, to: Date.now() }).catch(() => null);
    if (!fresh?.series.some((one) => one.points.some(([at]) => at > last) || one.doubts?.some((doubt) => doubt.to > last))) return;
    const shift = Math.max(0, Date.now() - this.whole.to);
    this.whole = { from: this.whole.from + shift, to: this.whole.to + shift };
    const known = new Map(this.data.series.map((one) => [one.name, one]));
    const joined = (before, after, at) => [...(before ?? []).filter((one) => at(one) < from), ...(after ?? [])].filter((one) => at(one) >= this.whole.from);
    const series = fresh.series.map((one) => ({
      ...one,
      points: joined(known.get(one.name)?.points, one.points, ([at]) => at),
      doubts: joined(known.get(one.name)?.doubts, one.doubts, (doubt) => doubt.from),
    }));
    this.say("");
    this.show({ ...this.data, series, limits: fresh.limits ?? this.data.limits, marks: this.data.marks });
  }

  option(data) {
    const ink = token("--fw-ink");
    const soft = token("--fw-soft");
    const line = token("--fw-line");
    const units = [...new Set(data.series.map((one) => one.unit ?? ""))].slice(0, 2);
    return {
      animation: false,
      useUTC: true,
      color: PALETTE,
      textStyle: { fontFamily: getComputedStyle(this.area).fontFamily, color: ink },
      aria: { enabled: true },
      grid: { left: 12, right: units.length > 1 ? 12 : 20, top: data.series.length > 1 ? 40 : 28, bottom: 46, containLabel: true },
      legend: { type: "scroll", show: data.series.length > 1, top: 0, icon: "roundRect", itemHeight: 3, textStyle: { color: ink } },
      // Drawn on the canvas, because the content policy forbids the style attributes of an HTML tooltip.
      tooltip: { trigger: "axis", renderMode: "richText", backgroundColor: token("--fw-surface"), borderColor: line, textStyle: { color: ink, fontSize: 12 } },
      xAxis: { type: "time", min: toWall(this.whole.from), max: toWall(this.whole.to), axisLabel: { color: soft, hideOverlap: true }, axisLine: { lineStyle: { color: line } } },
      yAxis: units.map((unit, index) => ({
        type: "value", scale: true, ...(index || !data.fit ? {} : this.fitting(data)), name: unit, position: index ? "right" : "left", nameTextStyle: { color: soft, align: index ? "right" : "left" },
        axisLabel: { color: soft }, splitLine: { show: !index, lineStyle: { color: line } },
      })),
      dataZoom: [
        { type: "inside", filterMode: "none", zoomOnMouseWheel: "ctrl", moveOnMouseWheel: false },
        { type: "slider", filterMode: "none", height: 18, bottom: 8, showDataShadow: false, showDetail: false, brushSelect: false, borderColor: line, fillerColor: token("--fw-press"), handleStyle: { color: soft } },
      ],
      series: data.series.map((one, index) => ({
        type: "line", name: one.name, data: withDots(one.points), yAxisIndex: Math.max(0, units.indexOf(one.unit ?? "")),
        step: one.kind === "step" ? "end" : false, showSymbol: true, showAllSymbol: true, symbol: "none", symbolSize: 5, lineStyle: { width: 1.6 }, connectNulls: false,
        ...this.notes(index ? { ...data, limits: [], marks: [] } : data, ink, one),
      })),
    };
  }

  // A draft is judged by how near its limits are, so they are always in sight.
  fitting(data) {
    const limits = (data.limits ?? []).map((limit) => limit.value);
    return { min: ({ min }) => Math.floor(Math.min(min, ...limits)), max: ({ max }) => Math.ceil(Math.max(max, ...limits)) };
  }

  // Only the newest alarm and the newest order are named where they stand; names of all would lie upon each other.
  notes(data, ink, series) {
    const doubts = series.doubts ?? [];
    const colour = (doubt) => token(doubt.quality === "bad" ? "--fw-critical" : "--fw-minor-edge");
    const word = (doubt) => this.words[doubt.reason] ?? this.words[doubt.quality];
    const newestFirst = (data.marks ?? []).toSorted((one, other) => other.from - one.from);
    const spans = newestFirst.filter((mark) => mark.to);
    const instants = newestFirst.filter((mark) => !mark.to);
    const [left, right] = [this.whole.from, this.whole.to];
    const name = (mark, index) => ({
      show: !index, formatter: mark.label, color: ink, fontSize: 11, align: mark.from > left + 0.85 * (right - left) ? "right" : "left",
    });
    return {
      markLine: {
        symbol: "none", silent: false,
        data: [
          ...(data.limits ?? []).map((limit) => ({
            yAxis: limit.value, lineStyle: { color: severityColour(limit.severity), type: "dashed", width: 1.2 },
            label: { formatter: limit.label, position: "insideStartTop", color: ink, fontSize: 11 },
          })),
          ...instants.map((mark, index) => ({
            xAxis: toWall(mark.from), href: mark.href, lineStyle: { color: severityColour(mark.severity), type: "solid", width: 1.2 },
            label: name(mark, index), emphasis: { label: { show: true } },
          })),
        ],
      },
      // What is not good is marked on its curve; a value far outside stands at the edge and is named when touched.
      markPoint: {
        data: doubts.filter((one) => one.to === one.from).map((one) => ({
          coord: [toWall(one.from), one.y], symbol: one.quality === "bad" ? "diamond" : "circle", symbolSize: 9,
          itemStyle: { color: colour(one), borderColor: token("--fw-surface"), borderWidth: 1 }, label: { show: false },
          emphasis: { label: { show: true, formatter: `${one.value} · ${word(one)}`, color: ink, position: "top", fontSize: 11 } },
        })).concat((series.samples ?? []).map(([at, value]) => ({
          // The very reading an alarm was raised upon.
          coord: [toWall(at), value], symbol: "circle", symbolSize: 10,
          itemStyle: { color: "transparent", borderColor: ink, borderWidth: 2 }, label: { show: true, formatter: String(value), color: ink, position: "top", fontSize: 11 },
        }))),
      },
      markArea: {
        data: doubts.filter((one) => one.to > one.from).map((one) => [
          { xAxis: toWall(one.from), name: word(one), itemStyle: { color: colour(one), opacity: 0.14 }, label: { show: true, formatter: word(one), color: ink, fontSize: 11, position: "insideBottom" } },
          { xAxis: toWall(one.to) },
        ]).concat(spans.map((mark, index) => [
          { xAxis: toWall(mark.from), name: mark.label, href: mark.href, itemStyle: { color: severityColour(mark.severity), opacity: 0.12 }, label: { ...name(mark, index), position: "insideTopLeft" }, emphasis: { label: { show: true } } },
          { xAxis: toWall(mark.to) },
        ])),
      },
    };
  }

  dispose() {
    clearTimeout(this.zoomTimer);
    this.turn += 1;
    this.resizing?.disconnect();
    this.chart?.dispose();
  }
}

export function attach(figure) {
  let plot = null;
  fetchGlobal(figure, "echarts").then((echarts) => {
    if (!figure.isConnected) return;
    plot = new Plot(figure, echarts);
    plot.start();
  }, (error) => console.error(error));
  figure.addEventListener("live", () => plot?.extend());
  const repaint = () => plot?.chart && plot.show(plot.data);
  document.addEventListener("theme", repaint);
  return () => {
    document.removeEventListener("theme", repaint);
    plot?.dispose();
  };
}
