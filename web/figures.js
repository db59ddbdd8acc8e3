// The key figures, the chart and the platforms: of all campaigns, or of one.

import { LineChart, settled, spark } from "./chart.js";
import { compares } from "./data.js";
import { el, keep, say } from "./dom.js";
import { CLAIMED, KEY_METRICS, METRICS, PLATFORMS, amounts, brief, changeOf, exact, isOfMoney, ofCurrency } from "./metrics.js";
import { Panel } from "./panel.js";
import { go, now } from "./state.js";
import { INCREMENTS, clock, dayIn, incrementsFor, usualIncrement, windowLabel, windowOf } from "./time.js";

/** What figures depend on; those of one campaign on that as well. */
const figuresOf = (s) => [s.campaign, ...windowOf(s), s.compare, s.into];

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

/** A metric of sums as an element that can be filled again: a value, or one a line for each currency. */
export function amountOf(className = "") {
  const root = el("span", { class: className });
  root.update = (metric, all, write) => {
    root.classList.toggle("several", all.length > 1);
    keep(root, all, (a) => a.currency ?? "", () => el("span"),
      (line, a) => say(line, all.length > 1 ? ofCurrency(metric, a, write) : write(metric, a.value, a.currency)));
  };
  return root;
}

/** The row of key figures. A click shows one of them in the chart. */
export class KeyFigures {
  constructor() {
    this.root = el("section", { class: "card kpis", "aria-label": "Key figures" });
    this.panel = new Panel(this.root, (s) => [...figuresOf(s), s.platform]);
    this.figures = KEY_METRICS.map((metric) => {
      const value = amountOf("value answer");
      value.append(el("span", { text: "0,000.00" }));
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

  /** Shows the sums and their trends. A trend of several currencies is none. */
  update(state, answer) {
    for (const { metric, value, change, line } of this.figures) {
      const all = amounts(metric, answer);
      value.update(metric, all, brief);
      value.title = all.length > 1 ? all.map((a) => ofCurrency(metric, a)).join("; ") : exact(metric, all[0].value, all[0].currency);
      change.hidden = !compares(state) || all.length > 1;
      if (!change.hidden) change.update(metric, all[0].value, all[0].before);
      line.update(all.length > 1 ? [] : settled(answer.points, answer.increment).map((p) => p.values[metric] ?? null));
    }
    this.panel.answered(state);
  }
}

/** The chart with its choice of metric and increment. */
export class MainChart {
  constructor() {
    this.chart = new LineChart({
      canChoose: () => this.chart.data.increment === "day",
      choose: (point) => {
        if (point.reported) return go({ day: this.reportedDay(point) });
        const day = dayIn(now().zone, point.since);
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
    this.currency = el("select", {
      class: "field answer", "aria-label": "Currency of the chart", title: "Money of several currencies is never added up", hidden: true,
      onchange: (e) => go({ currency: e.target.value }, { replace: true }),
    });
    this.title = el("h2", { class: "visually-hidden" });
    this.period = el("span");
    this.before = el("span");
    this.legend = el("div", { class: "legend answer", hidden: true },
      el("span", {}, el("i", { class: "key" }), this.period),
      (this.behind = el("span", {}, el("i", { class: "key behind" }), this.before)),
      (this.provisional = el("span", { hidden: true }, el("i", { class: "key provisional" }), "provisional: the platform still restates this day")),
      (this.expected = el("span", { hidden: true }, el("i", { class: "key expected" }), "where four in five days end, as past days grew")));
    this.chart.root.classList.add("answer");
    this.root = el("section", { class: "card", "aria-label": "Chart" },
      el("div", { class: "card-head" }, this.title, this.metric, this.currency, this.increment), this.legend, this.chart.root);
    this.panel = new Panel(this.root, (s) => [...figuresOf(s), s.platform, s.metric, s.by, s.currency]);
  }

  /** The day of the account's calendar that a point is about: the one whose noon it has. */
  reportedDay({ since, until }) {
    return dayIn(this.accountZone, (since + until) / 2);
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
    const { since, until, previous, increment, currencies, line: { currency, points } } = answer;
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
    this.currency.hidden = currencies.length < 2 || !isOfMoney(metric);
    keep(this.currency, currencies.map((c) => c.currency ?? "none"), (c) => c, (c) => el("option", { value: c, text: c === "none" ? "no currency" : c }), () => {});
    this.currency.value = currency ?? "none";
    this.accountZone = answer.accountZone;
    const shown = points.map((p) => ({ ...of(p, p.values, 0), reported: p.reported && this.said(state, p) }));
    this.provisional.hidden = !shown.some((p) => p.reported?.provisional);
    this.expected.hidden = !shown.some((p) => p.reported?.expected);
    this.chart.update({
      metric, zone, increment, currency, asOf: Date.now(),
      points: shown,
      previous: previous ? points.map((p) => of(p, p.before, shift)) : null,
    });
    this.panel.answered(state);
  }

  /** What reports say of a day besides the value: with what is expected of the metric, and in words what is not known. */
  said({ metric, zone }, { values, reported }) {
    const unknown = reported.partial.map((name) =>
      `${METRICS[name].label.toLowerCase()} ${values[name] === null ? "unknown" : "partly unknown"}`);
    return {
      provisional: reported.provisional,
      expected: reported.expected[metric] ?? null,
      words: [`${reported.provisional ? "provisional, " : ""}reported ${clock(zone, reported.observedAt)}`, ...unknown],
    };
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
      el("div", { class: "card-head" }, this.title), this.list,
      (this.claims = el("p", { class: "claims quiet answer", hidden: true })));
    this.panel = new Panel(this.root, (s) => [...figuresOf(s), s.metric]);
    this.rows = new Map(PLATFORMS.map((platform) => {
      const amount = amountOf("amount answer");
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

  update(state, { platforms: rows, currencies, claimedBy }) {
    const { metric } = state;
    this.prepare(state);
    const isMixed = currencies.length > 1 && isOfMoney(metric);
    this.claims.hidden = claimedBy.length < 2 || !CLAIMED.includes(metric);
    say(this.claims, `As ${new Intl.ListFormat("en").format(claimedBy)} each claim it for themselves: two may claim one purchase.`);
    const values = new Map(rows.map((r) => [r.platform, r]));
    const all = rows.map((r) => r.values[metric]).filter((v) => v !== null && v !== undefined);
    const whole = ADDS_UP.includes(metric) ? all.reduce((a, b) => a + b, 0) : Math.max(0, ...all);
    for (const [platform, { amount, bar, part, change }] of this.rows) {
      const value = values.get(platform)?.values[metric] ?? null;
      amount.update(metric, values.has(platform) ? amounts(metric, values.get(platform)) : [{ currency: null, value: null }], exact);
      const share = value === null || whole <= 0 ? 0 : Math.max(0, value / whole);
      bar.parentElement.hidden = isMixed;
      bar.style.width = `${(share * 100).toFixed(1)}%`;
      say(part, !values.has(platform) ? "no events" : isMixed ? ""
        : ADDS_UP.includes(metric) && value !== null ? `${(share * 100).toFixed(0)} % of all` : "");
      change.hidden = !compares(state) || !values.has(platform) || isMixed;
      if (!change.hidden) change.update(metric, value, values.get(platform)?.before?.[metric]);
    }
    this.panel.answered(state);
  }
}
