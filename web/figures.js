// The key figures, the chart and the platforms: of all campaigns, or of one.

import { LineChart, settled, spark } from "./chart.js";
import { compares } from "./data.js";
import { el, keep, say } from "./dom.js";
import { KEY_METRICS, METRICS, PLATFORMS, brief, changeOf, exact } from "./metrics.js";
import { Panel } from "./panel.js";
import { go, now } from "./state.js";
import { INCREMENTS, dayIn, incrementsFor, usualIncrement, windowLabel, windowOf } from "./time.js";

/** What figures depend on; those of one campaign on that as well. */
const figuresOf = (s) => [s.campaign, ...windowOf(s), s.compare];

/** A change in words, as an element that can be filled again. */
export function changeMark(className = "change") {
  const mark = el("span", { class: className });
  const amount = el("b");
  const word = el("span");
  mark.append(amount, word);
  mark.update = (metric, value, before) => {
    const c = changeOf(metric, value, before);
    mark.className = `${className} ${c.tone}`;
    say(amount, `${c.arrow} ${c.amount}`.trim());
    say(word, amount.textContent ? ` ${c.word}` : c.word);
  };
  return mark;
}

/** The row of key figures. A click shows one of them in the chart. */
export class KeyFigures {
  constructor() {
    this.root = el("section", { class: "card kpis", "aria-label": "Key figures" });
    this.panel = new Panel(this.root, (s) => [...figuresOf(s), s.platform]);
    this.figures = KEY_METRICS.map((metric) => {
      const value = el("span", { class: "value answer", text: "0,000.00" });
      const change = changeMark("change answer");
      const line = spark([]);
      line.classList.add("answer");
      const button = el("button", {
        class: "kpi", type: "button", title: METRICS[metric].about, "data-metric": metric,
        onclick: () => go({ metric }, { replace: true }),
      }, el("span", { class: "name", text: METRICS[metric].label }), value, change, line);
      this.root.append(button);
      return { metric, button, value, change, line };
    });
  }

  /** Shows what is chosen, before the answer is there. */
  prepare(state) {
    for (const { metric, button } of this.figures) button.setAttribute("aria-pressed", String(state.metric === metric));
  }

  /** Shows the sums and their trends. */
  update(state, answer) {
    for (const { metric, value, change, line } of this.figures) {
      const now = answer.values[metric] ?? null;
      say(value, brief(metric, now));
      value.title = exact(metric, now);
      change.hidden = !compares(state);
      if (!change.hidden) change.update(metric, now, answer.before?.[metric]);
      line.update(settled(answer.points, answer.increment).map((p) => p.values[metric] ?? null));
    }
    this.panel.answered(state);
  }
}

/** The chart with its choice of metric and increment. */
export class MainChart {
  constructor() {
    this.chart = new LineChart({
      canChoose: () => this.chart.data.increment === "day",
      choose: ({ since }) => {
        const day = dayIn(now().zone, since);
        go({ range: "custom", from: day, to: day, by: "" });
      },
    });
    this.metric = el("select", {
      class: "field as-title", "aria-label": "Metric of the chart",
      onchange: (e) => go({ metric: e.target.value }, { replace: true }),
    }, Object.entries(METRICS).map(([name, { label }]) => el("option", { value: name, text: label })));
    this.increment = el("select", {
      class: "field answer", "aria-label": "Increment of the chart", hidden: true,
      onchange: (e) => go({ by: e.target.value }, { replace: true }),
    });
    this.title = el("h2", { class: "visually-hidden" });
    this.period = el("span");
    this.before = el("span");
    this.legend = el("div", { class: "legend answer", hidden: true },
      el("span", {}, el("i", { class: "key" }), this.period),
      (this.behind = el("span", {}, el("i", { class: "key behind" }), this.before)));
    this.chart.root.classList.add("answer");
    this.root = el("section", { class: "card", "aria-label": "Chart" },
      el("div", { class: "card-head" }, this.title, this.metric, this.increment), this.legend, this.chart.root);
    this.panel = new Panel(this.root, (s) => [...figuresOf(s), s.platform, s.metric, s.by]);
  }

  /** The increment to ask for: the chosen one if it suits the span. */
  static incrementOf(state, span) {
    return incrementsFor(span).includes(state.by) ? state.by : usualIncrement(span);
  }

  /** Shows what is chosen, before the answer is there. */
  prepare({ metric }) {
    this.metric.value = metric;
    this.metric.title = METRICS[metric].about;
    say(this.title, `${METRICS[metric].label} over time`);
  }

  update(state, answer) {
    const { metric, zone } = state;
    this.prepare(state);
    const { since, until, previous, points, increment } = answer;
    const choices = incrementsFor(until - since);
    keep(this.increment, choices, (c) => c, (c) => el("option", { value: c, text: INCREMENTS[c].label }), () => {});
    this.increment.value = increment;
    this.increment.hidden = choices.length < 2;
    this.legend.hidden = false;
    say(this.period, since ? windowLabel(zone, since, until) : "");
    this.behind.hidden = !previous;
    if (previous) say(this.before, `${windowLabel(zone, previous.since, previous.until)}, the previous period`);
    const shift = previous ? since - previous.since : 0;
    const of = (p, values, by) => ({ since: p.since - by, until: p.until - by, value: values?.[metric] ?? null });
    this.chart.update({
      metric, zone, increment, asOf: Date.now(),
      points: points.map((p) => of(p, p.values, 0)),
      previous: previous ? points.map((p) => of(p, p.before, shift)) : null,
    });
    this.panel.answered(state);
  }
}

/** Sums that can be shown as a part of the whole; others are compared with the largest. */
const ADDS_UP = ["cost", "revenue", "conversions", "clicks", "impressions"];

/** What each platform contributes. A click shows that platform alone. */
export class Platforms {
  constructor() {
    this.title = el("h2");
    this.list = el("div", { class: "platforms" });
    this.root = el("section", { class: "card", "aria-label": "Platforms" },
      el("div", { class: "card-head" }, this.title), this.list);
    this.panel = new Panel(this.root, (s) => [...figuresOf(s), s.metric]);
    this.rows = new Map(PLATFORMS.map((platform) => {
      const amount = el("span", { class: "amount answer" });
      const bar = el("i");
      const part = el("span", { class: "sub answer" });
      const change = changeMark("sub answer");
      const button = el("button", {
        class: `platform ${platform}`, type: "button", "data-platform": platform,
        onclick: () => go({ platform: now().platform === platform ? "" : platform }),
      }, el("span", { class: "who" }, el("i", { class: "swatch" }), platform), amount,
      el("span", { class: "track answer", "aria-hidden": "true" }, bar), part, change);
      this.list.append(button);
      return [platform, { button, amount, bar, part, change }];
    }));
  }

  /** Shows what is chosen, before the answer is there. */
  prepare({ metric, platform: chosen }) {
    say(this.title, `${METRICS[metric].label} by platform`);
    for (const [platform, { button }] of this.rows) {
      button.setAttribute("aria-pressed", String(chosen === platform));
      button.title = chosen === platform ? "Show all platforms" : `Show only ${platform}`;
    }
  }

  update(state, rows) {
    const { metric } = state;
    this.prepare(state);
    const values = new Map(rows.map((r) => [r.platform, r]));
    const all = rows.map((r) => r.values[metric]).filter((v) => v !== null && v !== undefined);
    const whole = ADDS_UP.includes(metric) ? all.reduce((a, b) => a + b, 0) : Math.max(0, ...all);
    for (const [platform, { amount, bar, part, change }] of this.rows) {
      const value = values.get(platform)?.values[metric] ?? null;
      say(amount, exact(metric, value));
      const share = value === null || whole <= 0 ? 0 : Math.max(0, value / whole);
      bar.style.width = `${(share * 100).toFixed(1)}%`;
      const text = values.has(platform) ? (ADDS_UP.includes(metric) ? `${(share * 100).toFixed(0)} % of all` : "") : "no events";
      say(part, text);
      change.hidden = !compares(state) || !values.has(platform);
      if (!change.hidden) change.update(metric, value, values.get(platform)?.before?.[metric]);
    }
    this.panel.answered(state);
  }
}
