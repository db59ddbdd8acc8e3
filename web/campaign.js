// One campaign: the same figures, its alerts, and the newest events behind them.

import { CampaignAlerts } from "./alerts.js";
import { newestEvents } from "./data.js";
import { el, keep, say } from "./dom.js";
import { KeyFigures, MainChart, Platforms } from "./figures.js";
import { exact, whole } from "./metrics.js";
import { showFigures } from "./overview.js";
import { Panel } from "./panel.js";
import { link } from "./state.js";
import { clock, windowOf } from "./time.js";

const EVENTS = 12;
const COLUMNS = [
  ["Platform", (e) => e.platform, "text"],
  ["Impressions", (e) => whole(e.impressions)],
  ["Clicks", (e) => whole(e.clicks)],
  ["Conversions", (e) => exact("conversions", e.conversions)],
  ["Spend", (e) => exact("cost", e.cost_micros / 1e6)],
  ["Revenue", (e) => exact("revenue", e.revenue_micros / 1e6)],
  ["Counted from", (e) => `partition ${e.partition}, offset ${whole(e.offset)}`],
];

export class CampaignPage {
  constructor() {
    this.figures = new KeyFigures();
    this.chart = new MainChart();
    this.platforms = new Platforms();
    this.name = el("h1");
    this.seen = el("span", { class: "quiet answer" });
    this.title = el("div", { class: "title" }, this.name, this.seen);
    this.about = new Panel(this.title, (s) => [s.campaign, s.zone]);
    this.back = el("a", { class: "button plain", href: "?" }, "← All campaigns");
    this.alerts = new CampaignAlerts();
    this.body = el("tbody");
    this.none = el("p", { class: "blank", text: "No event of this range." });
    this.events = el("section", { class: "card", "aria-label": "Newest events" },
      el("div", { class: "tools" }, el("h2", {}, "Newest events"),
        el("span", { class: "quiet", text: "of this range: increments, as the platforms reported them" })),
      el("div", { class: "scroll answer", tabindex: 0, role: "region", "aria-label": "Table of the newest events" },
        el("table", {}, el("caption", { class: "visually-hidden", text: "The newest events of this campaign" }),
          el("thead", {}, el("tr", {}, el("th", { scope: "col", text: "Happened" }),
            COLUMNS.map(([title, , kind]) => el("th", { scope: "col", class: kind, text: title })))),
          this.body), this.none));
    this.newest = new Panel(this.events, (s) => [s.campaign, ...windowOf(s), s.platform]);
    this.root = el("div", {}, this.back, this.title, this.figures.root,
      el("div", { class: "split" }, this.chart.root, el("div", { class: "side" }, this.platforms.root, this.alerts.root)), this.events);
  }

  prepare(state) {
    say(this.name, state.campaign);
    this.back.href = link({ campaign: "" });
    this.figures.prepare(state);
    this.chart.prepare(state);
    this.platforms.prepare(state);
  }

  async load(state, { signal }) {
    const options = { signal };
    const figures = showFigures(state, this, options).then((answer) => {
      say(this.seen, answer.lastEvent
        ? `first event ${clock(state.zone, answer.firstEvent)}, newest ${clock(state.zone, answer.lastEvent)}` : "");
      this.about.answered(state);
      return answer;
    });
    const events = newestEvents(state, EVENTS, options).then((rows) => this.list(state, rows));
    await Promise.all([figures, events, this.alerts.load(state, options)]);
    return figures;
  }

  list(state, rows) {
    keep(this.body, rows, (e) => `${e.event_id} ${e.event_time}`, () => {
      const when = el("th", { scope: "row" });
      const cells = COLUMNS.map(([, , kind]) => el("td", { class: kind }));
      const tr = el("tr", {}, when, cells);
      return Object.assign(tr, { when, values: cells });
    }, (tr, e) => {
      say(tr.when, clock(state.zone, Date.parse(e.event_time)));
      tr.title = `event ${e.event_id}`;
      COLUMNS.forEach(([, value], i) => say(tr.values[i], value(e)));
    });
    this.none.hidden = rows.length > 0;
    this.newest.answered(state);
  }
}
