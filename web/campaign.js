// One campaign: whose it is, the same figures, what was known of them at another time, its alerts, how a day was restated, and the
// newest events behind them.

import { CampaignAlerts } from "./alerts.js";
import { newestEvents } from "./data.js";
import { el, keep, say } from "./dom.js";
import { KeyFigures, MainChart, Platforms } from "./figures.js";
import { exact, whole } from "./metrics.js";
import { showFigures } from "./overview.js";
import { Panel } from "./panel.js";
import { Restatements } from "./restatements.js";
import { link } from "./state.js";
import { Then } from "./then.js";
import { clock, windowOf } from "./time.js";

const EVENTS = 12;
const COLUMNS = [
  ["Platform", (e) => e.platform, "text"],
  ["Impressions", (e) => whole(e.impressions)],
  ["Clicks", (e) => whole(e.clicks)],
  ["Conversions", (e) => exact("conversions", e.conversions)],
  ["Spend", (e, currency) => exact("cost", e.cost, currency)],
  ["Revenue", (e, currency) => exact("revenue", e.revenue, currency)],
  ["Counted from", (e) => `partition ${e.partition}, offset ${whole(e.offset)}`],
];

export class CampaignPage {
  constructor() {
    this.figures = new KeyFigures();
    this.chart = new MainChart();
    this.platforms = new Platforms();
    this.name = el("h1");
    this.id = el("code", { class: "quiet", hidden: true });
    this.whose = el("span", { class: "quiet answer" });
    this.ownDays = el("a", { class: "answer", href: "?", hidden: true });
    this.seen = el("span", { class: "quiet answer" });
    this.title = el("div", { class: "title" }, this.name, this.id, this.whose, this.ownDays, this.seen);
    this.about = new Panel(this.title, (s) => [s.campaign, s.zone]);
    this.back = el("a", { class: "button plain", href: "?" }, "← All campaigns");
    this.alerts = new CampaignAlerts();
    this.then = new Then();
    this.restatements = new Restatements();
    this.body = el("tbody");
    this.none = el("p", { class: "blank", text: "No event of this range." });
    this.events = el("section", { class: "card", "aria-label": "Newest events" },
      el("div", { class: "tools" }, el("h2", {}, "Newest events"),
        el("span", { class: "quiet", text: "of this range: increments, and what reports changed" })),
      el("div", { class: "scroll answer", tabindex: 0, role: "region", "aria-label": "Table of the newest events" },
        el("table", {}, el("caption", { class: "visually-hidden", text: "The newest events of this campaign" }),
          el("thead", {}, el("tr", {}, el("th", { scope: "col", text: "Happened" }),
            COLUMNS.map(([title, , kind]) => el("th", { scope: "col", class: kind, text: title })))),
          this.body), this.none));
    this.newest = new Panel(this.events, (s) => [s.campaign, ...windowOf(s), s.platform]);
    this.root = el("div", {}, this.back, this.title, this.figures.root, this.then.root,
      el("div", { class: "split" }, this.chart.root, el("div", { class: "side" }, this.platforms.root, this.alerts.root)), this.restatements.root, this.events);
  }

  prepare(state) {
    this.call(state);
    this.back.href = link({ campaign: "" });
    this.then.prepare(state);
    this.restatements.prepare(state);
    this.figures.prepare(state);
    this.chart.prepare(state);
    this.platforms.prepare(state);
  }

  /** Shows what it is called: its name beside its id, where that name is known. */
  call({ campaign }) {
    const name = this.known?.campaign === campaign ? this.known.name : null;
    say(this.name, name ?? campaign);
    say(this.id, name === null ? "" : campaign);
    this.id.hidden = name === null;
  }

  /** Shows whose it is. Reports are of days of its account's zone: in another one, their days are not whole. */
  describe(state, { name, account, accountCurrency: currency, accountZone }) {
    this.known = { campaign: state.campaign, name };
    this.currency = currency;
    this.call(state);
    say(this.whose, account === null ? "" : `account ${account}, ${currency}, ${accountZone.replaceAll("_", " ")}`);
    this.ownDays.hidden = accountZone === null || accountZone === state.zone;
    if (this.ownDays.hidden) return;
    say(this.ownDays, "Show the days of its account");
    this.ownDays.href = link({ zone: accountZone });
  }

  async load(state, { signal }) {
    const options = { signal };
    const figures = showFigures(state, this, options).then((answer) => {
      this.describe(state, answer);
      say(this.seen, answer.lastEvent
        ? `first event ${clock(state.zone, answer.firstEvent)}, newest ${clock(state.zone, answer.lastEvent)}` : "");
      this.about.answered(state);
      return answer;
    });
    const events = Promise.all([newestEvents(state, EVENTS, options), figures]).then(([rows]) => this.list(state, rows));
    const then = figures.then((answer) => this.then.load(state, answer, options));
    await Promise.all([figures, events, then, this.restatements.load(state, options), this.alerts.load(state, options)]);
    return figures;
  }

  list(state, rows) {
    // Restatements of a day have the same id, and most the same time.
    keep(this.body, rows, (e) => `${e.topic} ${e.partition} ${e.offset}`, () => {
      const when = el("th", { scope: "row" });
      const cells = COLUMNS.map(([, , kind]) => el("td", { class: kind }));
      const tr = el("tr", {}, when, cells);
      return Object.assign(tr, { when, values: cells });
    }, (tr, e) => {
      say(tr.when, clock(state.zone, Date.parse(e.event_time)));
      tr.title = e.observed_at ? `restatement ${e.event_id}` : `event ${e.event_id}`;
      COLUMNS.forEach(([, value], i) => say(tr.values[i], value(e, this.currency)));
    });
    this.none.hidden = rows.length > 0;
    this.newest.answered(state);
  }
}
