// All campaigns: what is earned, what is spent, who does it.

import { Board, COLUMNS, PAGE, wanted } from "./board.js";
import { campaigns, insights } from "./data.js";
import { el, keep, say } from "./dom.js";
import { KeyFigures, MainChart, Platforms } from "./figures.js";
import { SORTED_BY_NUMBER, exact } from "./metrics.js";
import { Panel } from "./panel.js";
import { linkTo } from "./state.js";
import { spanOf, windowOf } from "./time.js";
import { Ticker } from "./ticker.js";

/** The three best and the three worst, by profit. */
class Ranked {
  constructor(title, kind, none) {
    this.none = none;
    this.list = el("ol", { class: `ranked answer ${kind}` });
    this.mixed = el("p", { class: "quiet answer", hidden: true, text: SORTED_BY_NUMBER });
    this.root = el("section", { class: "card", "aria-label": title },
      el("div", { class: "card-head" }, el("h2", { text: title }), this.mixed), this.list);
    this.panel = new Panel(this.root, (s) => [...windowOf(s), s.platform, s.into]);
  }

  update(state, rows, largest) {
    // Money of several currencies has no common measure.
    const isMixed = new Set(rows.map((r) => r.currency)).size > 1;
    this.mixed.hidden = !isMixed;
    keep(this.list, rows.length ? rows : [{ id: "" }], (r) => r.id, (r) => {
      if (!r.id) return el("li", {}, el("p", { class: "quiet", text: this.none }));
      const bar = el("i");
      const amount = el("b");
      const name = el("span");
      const a = el("a", { title: r.id }, name, el("span", { class: "track", "aria-hidden": "true" }, bar), amount);
      linkTo(a, r.id);
      return Object.assign(el("li", {}, a), { name, bar, amount });
    }, (item, r) => {
      if (!r.id) return;
      say(item.name, r.name ?? r.id);
      say(item.amount, exact("profit", r.values.profit, r.currency));
      item.bar.parentElement.classList.toggle("none", isMixed);
      item.bar.style.width = `${((Math.abs(r.values.profit) / largest) * 100).toFixed(1)}%`;
    });
    this.panel.answered(state);
  }
}

export class Overview {
  constructor() {
    this.figures = new KeyFigures();
    this.chart = new MainChart();
    this.platforms = new Platforms();
    this.ticker = new Ticker();
    this.earning = new Ranked("Earning most", "earn", "No campaign earns more than it costs in this range.");
    this.burning = new Ranked("Burning most", "burn", "No campaign costs more than it earns in this range.");
    this.board = new Board();
    this.narrowed = el("p", { class: "note", hidden: true, text:
      "Everything above the table is about all campaigns. Search and filters narrow the table only; its last row adds up what matches." });
    this.numbers = el("div", {}, this.narrowed, this.figures.root,
      el("div", { class: "split" }, this.chart.root, el("div", { class: "side" }, this.platforms.root, this.ticker.root)),
      el("div", { class: "pair" }, this.earning.root, this.burning.root), this.board.root);
    this.nothing = el("section", { class: "card blank", hidden: true },
      el("h2", { text: "No events yet" }),
      el("p", { text: "adflux is running, but has not counted an event yet. Send some simulated events, and this page fills up by itself:" }),
      el("pre", { text: "adflux simulate --backfill 7d" }),
      el("p", {}, "If your own producer is already running, ", el("code", { text: "adflux doctor" }), " tells you where its events are stuck."));
    this.root = el("div", {}, el("h1", { class: "visually-hidden", text: "Overview" }), this.nothing, this.numbers);
  }

  /** Shows at once what the state alone says. */
  prepare(state) {
    this.figures.prepare(state);
    this.chart.prepare(state);
    this.platforms.prepare(state);
    this.board.prepare(state);
    this.narrowed.hidden = !state.search && !state.filter;
  }

  /** Asks for everything and shows it as it comes. Returns the figures. */
  async load(state, { signal, quiet }) {
    const options = { signal };
    const list = (question) => campaigns(state, question, options);
    const figures = showFigures(state, this, options).then((answer) => {
      // No event at all, whatever the range.
      this.nothing.hidden = answer.countedAt !== null;
      this.numbers.hidden = answer.countedAt === null;
      this.board.trend(state, answer.increment);
      return answer;
    });
    if (!state.after) this.firstPageAt = Date.now();
    const page = campaigns(state, { ...wanted(state), metrics: [...COLUMNS, state.sort], limit: PAGE, cursor: state.after }, options, this.firstPageAt)
      .then((answer) => this.board.update(state, answer, { quiet }));
    const ranked = Promise.all(["desc", "asc"].map((order) => list({ sort: "profit", order, limit: 4, metrics: ["profit"] })))
      .then(([best, worst]) => {
        const earn = best.rows.filter((r) => r.values.profit > 0);
        const burn = worst.rows.filter((r) => r.values.profit < 0);
        const largest = Math.max(1, ...[...earn, ...burn].map((r) => Math.abs(r.values.profit)));
        this.earning.update(state, earn, largest);
        this.burning.update(state, burn, largest);
      });
    await Promise.all([figures, page, ranked]);
    return figures;
  }
}

/** The figures, the chart and the platforms, of all campaigns or of one. Returns the answer. */
export async function showFigures(state, { figures, chart, platforms }, options) {
  let increment = MainChart.incrementOf(state, spanOf(state));
  let answer = await insights(state, increment, options);
  // How long all time is, is known only now.
  const better = MainChart.incrementOf(state, answer.until - answer.since);
  if (state.range === "all" && answer.since && better !== increment) {
    answer = await insights(state, (increment = better), options);
  }
  figures.update(state, answer);
  chart.update(state, answer);
  platforms.update(state, answer);
  return answer;
}
