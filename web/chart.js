// The line chart: a period, the one before it behind, exact values on hover and by keyboard, and
// a table that says the same.

import { el, keep, say, svg } from "./dom.js";
import { METRICS, changeOf, exact, tick } from "./metrics.js";
import { INCREMENTS, axisLabel, dayIn, pointLabel } from "./time.js";

const MARGIN = { top: 12, right: 14, bottom: 26, left: 54 };

/** Steps of 1, 2, 2.5 or 5 that cover a range with about four lines. */
export function scale(low, high) {
  if (low === high) high = low === 0 ? 1 : low + Math.abs(low);
  const rough = (high - low) / 4;
  const power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].find((s) => s * power >= rough * 0.999) * power;
  const from = Math.floor(low / step + 1e-9);
  const to = Math.ceil(high / step - 1e-9);
  return Array.from({ length: to - from + 1 }, (_, i) => (from + i) * step);
}

/** Lines through values; a value that is null leaves a gap, one that stands alone a dash so wide. */
function path(values, x, y, alone = 8) {
  let out = "";
  values.forEach((value, i) => {
    if (value === null) return;
    const before = i > 0 ? values[i - 1] : null;
    const after = i + 1 < values.length ? values[i + 1] : null;
    const place = `${x(i).toFixed(1)} ${y(value).toFixed(1)}`;
    out += before === null ? `M${place}` : `L${place}`;
    if (before === null && after === null) out += `m${-alone / 2} 0h${alone}`;
  });
  return out;
}

function area(values, x, y, floor) {
  let out = "";
  let start = null;
  values.forEach((value, i) => {
    if (value !== null) {
      out += `${start === null ? "M" : "L"}${x(i).toFixed(1)} ${y(value).toFixed(1)}`;
      start ??= i;
    }
    if (start !== null && (value === null || i === values.length - 1)) {
      const end = value === null ? i - 1 : i;
      if (end > start) out += `L${x(end).toFixed(1)} ${floor}L${x(start).toFixed(1)} ${floor}Z`;
      start = null;
    }
  });
  return out;
}

/** The space between two lines, wherever both are known; of a point that stands alone a bar so wide. */
function between(spans, x, y, alone = 10) {
  const place = (i, value, by = 0) => `${(x(i) + by).toFixed(1)} ${y(value).toFixed(1)}`;
  let out = "";
  for (let start = 0; start < spans.length; start += 1) {
    if (!spans[start]) continue;
    let end = start;
    while (spans[end + 1]) end += 1;
    const run = spans.slice(start, end + 1).map((span, n) => ({ ...span, i: start + n }));
    const wide = run.length > 1 ? 0 : alone / 2;
    const upper = run.map(({ i, high }) => place(i, high, -wide)).concat(wide ? place(start, run[0].high, wide) : []);
    const lower = run.map(({ i, low }) => place(i, low, -wide)).concat(wide ? place(start, run[0].low, wide) : []);
    out += `M${[...upper, ...lower.reverse()].join("L")}Z`;
    start = end;
  }
  return out;
}

/** The points but for the last if it is not over: a small line has no dots to say so. */
export const settled = (points, increment) => {
  const last = points.at(-1);
  return points.length > 2 && last.until - last.since < INCREMENTS[increment].length ? points.slice(0, -1) : points;
};

/** A change as a text. */
const changeText = ({ arrow, amount, word }) => `${arrow} ${amount} ${word}`.trim();

/** What past days say a day will come to, in words. */
const expectation = (metric, { expected, low, high, days }, currency) =>
  `${exact(metric, expected, currency)}, between ${exact(metric, low, currency)} and ${exact(metric, high, currency)}; rests on ${days} past days`;

/** Charts there have been: each has a pattern of its own. */
let charts = 0;

/**
 * A chart in `root`. `update` takes `{ metric, points, previous, zone, increment, currency }`: points are
 * `{ since, until, value, reported }` in milliseconds, `previous` those before them in the same order or
 * none. What is `reported` of a day is null or `{ provisional, expected, words }`.
 */
export class LineChart {
  /** A click on a point, or Enter, calls `choose(point)` if `canChoose(point)`. */
  constructor({ choose, canChoose = () => false } = {}) {
    Object.assign(this, { choose, canChoose });
    this.hatch = `hatch-${(charts += 1)}`;
    const pattern = svg("pattern", { id: this.hatch, width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" },
      svg("line", { class: "hatch", y2: 6 }));
    this.provisional = svg("g");
    this.band = svg("path", { class: "band" });
    this.middle = svg("path", { class: "line expected" });
    this.grid = svg("g", { class: "grid" });
    this.labels = svg("g", { class: "axis" });
    this.area = svg("path", { class: "area" });
    this.behind = svg("path", { class: "line behind" });
    this.line = svg("path", { class: "line" });
    this.open = svg("path", { class: "line open" });
    this.cross = svg("line", { class: "cross" });
    this.dot = svg("circle", { class: "dot", r: 4 });
    this.dotBehind = svg("circle", { class: "dot behind", r: 3.5 });
    this.marks = svg("g", { class: "marks", visibility: "hidden" }, this.cross, this.dotBehind, this.dot);
    this.picture = svg("svg", { "aria-hidden": "true" },
      svg("defs", {}, pattern), this.provisional, this.grid, this.labels, this.band, this.area, this.behind, this.middle, this.line, this.open, this.marks);
    this.tip = el("div", { class: "tip", hidden: true, "aria-hidden": "true" });
    this.plot = el("div", {
      class: "plot", role: "slider", tabindex: 0, "aria-orientation": "horizontal", "aria-valuemin": 0,
      onpointermove: (e) => this.point(this.nearest(e)),
      onpointerdown: (e) => this.point(this.nearest(e)),
      onpointerleave: () => this.point(null),
      onclick: (e) => e.pointerType === "mouse" && this.chosen(this.nearest(e)),
      onfocus: () => this.point(this.at ?? this.data?.points.length - 1),
      onblur: () => this.point(null),
      onkeydown: (e) => this.key(e),
    }, this.picture, this.tip);
    this.body = el("tbody");
    this.head = el("tr");
    this.caption = el("caption", { class: "visually-hidden" });
    this.twin = el("details", { class: "twin", ontoggle: () => this.table() },
      el("summary", {}, "Show as table"),
      el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "The chart as a table" },
        el("table", {}, this.caption, el("thead", {}, this.head), this.body)));
    this.root = el("div", { class: "chart" }, this.plot, this.twin);
    this.width = 0;
    new ResizeObserver(() => {
      if (this.plot.clientWidth !== this.width || this.plot.clientHeight !== this.height) this.draw();
    }).observe(this.plot);
  }

  update(data) {
    this.data = data;
    this.draw();
    this.table();
  }

  draw() {
    if (!this.data) return;
    const { metric, points, previous, zone, increment } = this.data;
    const width = (this.width = this.plot.clientWidth);
    const height = (this.height = this.plot.clientHeight);
    if (!width || !height) return;
    this.picture.setAttribute("viewBox", `0 0 ${width} ${height}`);
    const values = points.map((p) => p.value);
    const before = points.map((_, i) => previous?.[i]?.value ?? null);
    const expected = points.map((p) => p.reported?.expected ?? null);
    const all = [...values, ...before, ...expected.flatMap((e) => (e ? [e.low, e.high] : []))].filter((v) => v !== null);
    const ticks = scale(Math.min(0, ...all), Math.max(0, ...all));
    const [low, high] = [ticks[0], ticks.at(-1)];
    const inner = { w: width - MARGIN.left - MARGIN.right, h: height - MARGIN.top - MARGIN.bottom };
    const x = (this.x = (i) => MARGIN.left + (points.length > 1 ? (i / (points.length - 1)) * inner.w : inner.w / 2));
    const y = (this.y = (v) => MARGIN.top + (1 - (v - low) / (high - low)) * inner.h);

    const half = points.length > 1 ? inner.w / (points.length - 1) / 2 : inner.w / 2;
    const inside = (at) => Math.max(MARGIN.left, Math.min(width - MARGIN.right, at));
    keep(this.provisional, points.map((p, i) => ({ p, i })).filter(({ p }) => p.reported?.provisional), ({ p }) => p.since,
      () => svg("rect", { fill: `url(#${this.hatch})` }), (rect, { i }) => {
        const from = inside(x(i) - half);
        for (const [name, at] of [["x", from], ["width", inside(x(i) + half) - from], ["y", MARGIN.top], ["height", inner.h]]) {
          rect.setAttribute(name, at);
        }
      });
    this.band.setAttribute("d", between(expected, x, y));
    this.middle.setAttribute("d", path(expected.map((e) => e?.expected ?? null), x, y, 10));

    keep(this.grid, ticks, (t) => t, () => svg("line"), (line, t) => {
      line.setAttribute("class", t === 0 ? "zero" : "");
      for (const [name, at] of [["x1", MARGIN.left], ["x2", width - MARGIN.right], ["y1", y(t)], ["y2", y(t)]]) {
        line.setAttribute(name, at);
      }
    });
    const span = points.length ? points.at(-1).until - points[0].since : 0;
    const room = Math.max(2, Math.floor(inner.w / 84));
    // Hours of several days are labelled where a day begins.
    const days = increment === "hour" && span > 2 * 86_400_000;
    const places = points.map((p, i) => ({ p, i }))
      .filter(({ p, i }) => !days || (i > 0 && dayIn(zone, p.since) !== dayIn(zone, points[i - 1].since)));
    const every = Math.max(1, Math.ceil(places.length / room));
    const under = places.filter((_, n) => n % every === 0);
    const labels = [
      ...ticks.map((t) => ({ key: `y${t}`, text: tick(metric, t), x: MARGIN.left - 10, y: y(t) + 4, anchor: "end" })),
      ...under.map(({ p, i }) => ({
        key: `x${p.since}`, text: axisLabel(zone, increment, p.since, span), x: x(i), y: height - 6,
        anchor: points.length > 1 && i === 0 ? "start" : x(i) > width - 40 ? "end" : "middle",
      })),
    ];
    keep(this.labels, labels, (l) => l.key, () => svg("text"), (text, l) => {
      say(text, l.text);
      text.setAttribute("x", l.x);
      text.setAttribute("y", l.y);
      text.setAttribute("text-anchor", l.anchor);
    });

    // What is cut by the window, or is not over yet, is dotted: its end is no fall and its start no rise.
    const last = values.length - 1;
    const cut = (i) => points[i].until - points[i].since < INCREMENTS[increment].length || points[i].until > this.data.asOf;
    const open = last > 0 && cut(last);
    const begun = last > 1 && cut(0);
    const whole = (from, to) => values.map((v, i) => (i < from || i > to ? null : v));
    this.line.setAttribute("d", path(whole(begun ? 1 : 0, open ? last - 1 : last), x, y));
    this.open.setAttribute("d", (begun ? path(whole(0, 1), x, y) : "") + (open ? path(whole(last - 1, last), x, y) : ""));
    this.area.setAttribute("d", area(values, x, y, y(Math.max(low, 0)).toFixed(1)));
    this.behind.setAttribute("d", previous ? path(before, x, y) : "");
    this.plot.setAttribute("aria-label", `${METRICS[metric].label} over time`);
    this.plot.setAttribute("aria-valuemax", Math.max(0, last));
    const at = Math.min(this.at ?? last, last);
    this.plot.setAttribute("aria-valuenow", Math.max(0, at));
    this.plot.setAttribute("aria-valuetext", points.length ? this.words(at) : "no data");
    if (this.at !== null && this.at !== undefined) this.point(at);
  }

  nearest(event) {
    const n = this.data?.points.length ?? 0;
    if (!n || !this.x) return null;
    const at = event.clientX - this.plot.getBoundingClientRect().left - MARGIN.left;
    const inner = this.width - MARGIN.left - MARGIN.right;
    return Math.max(0, Math.min(n - 1, Math.round((at / inner) * (n - 1))));
  }

  key(event) {
    const last = (this.data?.points.length ?? 0) - 1;
    if (last < 0) return;
    const at = this.at ?? last;
    const to = {
      ArrowLeft: at - 1, ArrowDown: at - 1, ArrowRight: at + 1, ArrowUp: at + 1,
      PageUp: at + 7, PageDown: at - 7, Home: 0, End: last,
    }[event.key];
    if (event.key === "Escape") this.point(null);
    if (event.key === "Enter") this.chosen(at);
    if (to === undefined) return;
    event.preventDefault();
    this.point(Math.max(0, Math.min(last, to)));
  }

  chosen(i) {
    const p = this.data?.points[i];
    if (p && this.canChoose(p)) this.choose(p);
  }

  words(i) {
    const { metric, points, previous, zone, increment, currency } = this.data;
    const p = points[i];
    const before = previous?.[i];
    const parts = [`${pointLabel(zone, increment, p.since, p.until)}: ${exact(metric, p.value, currency)}`];
    if (before) {
      const c = changeOf(metric, p.value, before.value);
      parts.push(`before: ${exact(metric, before.value, currency)}`, `${c.amount} ${c.word}`.trim());
    }
    if (p.reported) parts.push(...p.reported.words);
    if (p.reported?.expected) parts.push(`expected ${expectation(metric, p.reported.expected, currency)}`);
    return parts.join(", ");
  }

  /** Shows the values of one point; null hides them. */
  point(i) {
    this.at = i;
    const p = i === null || i === undefined ? null : this.data?.points[i];
    this.tip.hidden = !p;
    this.marks.setAttribute("visibility", p ? "visible" : "hidden");
    if (!p) return;
    const { metric, previous, zone, increment, currency } = this.data;
    const before = previous?.[i];
    const x = this.x(i);
    this.cross.setAttribute("x1", x);
    this.cross.setAttribute("x2", x);
    this.cross.setAttribute("y1", MARGIN.top);
    this.cross.setAttribute("y2", this.plot.clientHeight - MARGIN.bottom);
    for (const [dot, value] of [[this.dot, p.value], [this.dotBehind, before?.value ?? null]]) {
      dot.setAttribute("visibility", value === null ? "hidden" : "inherit");
      if (value === null) continue;
      dot.setAttribute("cx", x);
      dot.setAttribute("cy", this.y(value));
    }
    const rows = [el("p", { class: "tip-title" }, METRICS[metric].label,
      p.until > this.data.asOf && el("span", { class: "quiet" }, " so far"))];
    rows.push(el("p", { class: "tip-row" }, el("i", { class: "key" }),
      el("span", { text: pointLabel(zone, increment, p.since, p.until) }), el("b", { text: exact(metric, p.value, currency) })));
    if (before) {
      rows.push(el("p", { class: "tip-row quiet" }, el("i", { class: "key behind" }),
        el("span", { text: pointLabel(zone, increment, before.since, before.until) }),
        el("b", { text: exact(metric, before.value, currency) })));
      const c = changeOf(metric, p.value, before.value);
      rows.push(el("p", { class: `tip-change ${c.tone}`, text: changeText(c) }));
    }
    if (p.reported?.expected) {
      rows.push(el("p", { class: "tip-note", text: `expected ${expectation(metric, p.reported.expected, currency)}` }));
    }
    for (const words of p.reported?.words ?? []) rows.push(el("p", { class: "tip-note", text: words }));
    if (this.canChoose(p)) {
      rows.push(el("p", { class: "tip-hint", text: p.reported ? "Click for how this day was restated" : "Click to show only this day" }));
    }
    this.tip.replaceChildren(...rows);
    const left = x + 14 + this.tip.offsetWidth > this.width ? x - 14 - this.tip.offsetWidth : x + 14;
    this.tip.style.transform = `translate(${Math.max(0, left)}px, ${MARGIN.top}px)`;
    this.plot.setAttribute("aria-valuenow", i);
    this.plot.setAttribute("aria-valuetext", this.words(i));
  }

  table() {
    if (!this.twin.open || !this.data) return;
    const { metric, points, previous, zone, increment, currency } = this.data;
    say(this.caption, `${METRICS[metric].label} over time`);
    const has = (what) => points.some((p) => p.reported?.[what]);
    const columns = [
      [METRICS[metric].label, (p) => exact(metric, p.value, currency)],
      ...(previous ? [
        ["Before", (p) => exact(metric, p.before?.value, currency)],
        ["Change", (p) => changeText(changeOf(metric, p.value, p.before?.value))],
      ] : []),
      ...(has("expected") ? [["Expected", (p) => (p.reported?.expected ? expectation(metric, p.reported.expected, currency) : ""), "text"]] : []),
      ...(has("words") ? [["Reports", (p) => p.reported?.words.join(", ") ?? "", "text"]] : []),
    ];
    keep(this.head, [["When"], ...columns], ([title]) => title, ([, , kind]) => el("th", { scope: "col", class: kind }), (th, [title]) => say(th, title));
    keep(this.body, points.map((p, i) => ({ ...p, before: previous?.[i] })), (p) => `${p.since} ${Boolean(p.reported)}`,
      (p) => this.row(p), (row, p) => {
        row.point = p;
        say(row.when, pointLabel(zone, increment, p.since, p.until));
        keep(row, [["When"], ...columns], ([title]) => title, ([title, , kind]) => (title === "When" ? row.head : el("td", { class: kind })),
          (cell, [, text]) => text && say(cell, text(p)));
      });
  }

  /** A row of the table. A day that has a history opens it. */
  row({ reported }) {
    const when = reported ? el("button", { class: "day", type: "button", onclick: () => this.choose(row.point) }) : el("span");
    const row = el("tr");
    return Object.assign(row, { when, head: el("th", { scope: "row" }, when) });
  }
}

/** A small trend line without axes. What it shows is said elsewhere, in words or in a table. */
export function spark(values, label) {
  const shape = svg("path");
  const fill = svg("path", { class: "spark-area" });
  const picture = svg("svg", { class: "spark", viewBox: "0 0 100 28", preserveAspectRatio: "none" }, fill, shape);
  picture.update = (values, label) => {
    const numbers = values.filter((v) => v !== null);
    const [low, high] = [Math.min(0, ...numbers), Math.max(0, ...numbers)];
    const x = (i) => (values.length > 1 ? (i / (values.length - 1)) * 100 : 50);
    const y = (v) => 26 - ((v - low) / (high - low || 1)) * 24;
    shape.setAttribute("d", path(values, x, y, values.length > 1 ? 2 : 100));
    fill.setAttribute("d", area(values, x, y, y(0).toFixed(1)));
    if (label) {
      picture.setAttribute("role", "img");
      picture.setAttribute("aria-label", label);
    } else picture.setAttribute("aria-hidden", "true");
  };
  picture.update(values, label);
  return picture;
}
