// How a day was restated: what its platform said of it each time that it said something else, and where that stands.

import { restatements } from "./data.js";
import { el, keep, say } from "./dom.js";
import { METRICS, exact, whole } from "./metrics.js";
import { Panel } from "./panel.js";
import { go, link } from "./state.js";
import { clock, dayLabel, instantLabel } from "./time.js";

/** The most answers of a day that are shown. */
const NEWEST = 100;
/** The values of a report: each metric, and how it is found in a row. */
const VALUES = [
  ["impressions", "impressions", 1],
  ["clicks", "clicks", 1],
  ["conversions", "conversions", 1],
  ["cost", "cost_micros", 1e6],
  ["revenue", "revenue_micros", 1e6],
];

/** The answers about the day that is chosen. There is nothing of it on the page while none is. */
export class Restatements {
  constructor() {
    this.title = el("h2");
    this.meaning = el("p", { class: "meaning quiet answer" });
    this.alone = el("a", { class: "button answer", href: "?", text: "Show only this day" });
    this.close = el("button", { class: "button", type: "button", text: "Close", onclick: () => go({ day: "" }) });
    this.sliceHead = el("th", { scope: "col", class: "text", text: "Of" });
    this.body = el("tbody");
    this.caption = el("caption", { class: "visually-hidden" });
    this.table = el("div", { class: "scroll answer", tabindex: 0, role: "region", "aria-label": "Table of what was said of the day" },
      el("table", { class: "restatements" }, this.caption,
        el("thead", {}, el("tr", {}, el("th", { scope: "col", text: "Asked" }), this.sliceHead,
          VALUES.map(([metric]) => el("th", { scope: "col", text: METRICS[metric].label })),
          el("th", { scope: "col", class: "text", text: "Said in" }), el("th", { scope: "col", text: "Counted" }))),
        this.body));
    this.none = el("p", { class: "blank answer", hidden: true, text: "No report is about this day." });
    this.more = el("p", { class: "pager answer", hidden: true });
    this.card = el("section", { class: "card", id: "restatements", tabindex: -1, "aria-label": "How the day was restated" },
      el("div", { class: "tools" }, this.title, el("span", { class: "push" }), this.alone, this.close), this.meaning, this.table, this.none, this.more);
    this.panel = new Panel(this.card, (s) => [s.campaign, s.zone, s.day]);
    this.root = el("div");
  }

  /** Shows what the state alone says. */
  prepare({ day }) {
    const opens = day && day !== this.day;
    this.day = day;
    this.root.replaceChildren(...(day ? [this.card] : []));
    if (!day) return;
    say(this.title, `How ${dayLabel(day)} was restated`);
    say(this.caption, this.title.textContent);
    // What was asked for is where one reads on.
    if (opens) this.card.focus({ preventScroll: true });
    if (opens) this.card.scrollIntoView({ block: "nearest" });
  }

  async load(state, options) {
    if (!state.day) return;
    const { rows, next } = await restatements(state.campaign, state.day, NEWEST, options);
    const [newest] = rows;
    this.table.hidden = !newest;
    this.none.hidden = Boolean(newest);
    say(this.meaning, newest ? meaning(newest.definition) : "");
    this.alone.hidden = !newest;
    if (newest) {
      this.alone.href = link({ range: "custom", from: state.day, to: state.day, zone: newest.definition.time_zone, by: "", day: "" });
    }
    this.sliceHead.hidden = rows.every((r) => !r.slice);
    keep(this.body, rows, (r) => `${r.event_id} ${r.observed_at}`, () => this.row(), (tr, r) => this.fill(state, tr, r));
    this.more.hidden = !next;
    say(this.more, next ? `Showing the newest ${whole(rows.length)}. GET /campaign/${state.campaign}/restatements lists them all.` : "");
    this.panel.answered(state);
  }

  row() {
    const asked = el("a", { href: "?" });
    const confirmed = el("span", { class: "id" });
    const slice = el("td", { class: "text" });
    const values = VALUES.map(() => el("td"));
    const said = el("span");
    const line = el("span", { class: "id" });
    const counted = el("td");
    return Object.assign(el("tr", {}, el("th", { scope: "row" }, asked, confirmed), slice, values, el("td", { class: "text" }, said, line), counted),
      { parts: { asked, confirmed, slice, values, said, line, counted } });
  }

  fill({ zone }, { parts }, r) {
    const { currency } = r.definition;
    const instant = Date.parse(r.observed_at);
    say(parts.asked, instantLabel(zone, instant));
    parts.asked.title = "Compare the figures with what was known then";
    // To the second: what was said within it was known at its end.
    parts.asked.href = link({ asOf: new Date(Math.ceil(instant / 1000) * 1000).toISOString().replace(".000", "") });
    say(parts.confirmed, [r.confirmed_at && `the same ${instantLabel(zone, Date.parse(r.confirmed_at))}`, r.newest && "what counts now"].filter(Boolean).join("; "));
    parts.slice.hidden = this.sliceHead.hidden;
    say(parts.slice, r.slice || "the campaign");
    VALUES.forEach(([metric, field, unit], i) => {
      const text = (value) => (value === null ? "unknown" : exact(metric, value / unit, currency));
      const change = r.changes[field];
      const cell = parts.values[i];
      // What was unknown before the first answer is no change.
      say(cell, change && change.from !== null ? `${text(change.from)} → ${text(change.to)}` : text(r[field]));
      cell.className = change ? "" : "none";
    });
    say(parts.said, r.file ? `file ${r.file.slice(0, 12)}` : "no file");
    parts.said.title = r.file ? `The file with the SHA-256 ${r.file}` : "It was sent, not read from a file";
    say(parts.line, r.line === null ? "" : `line ${whole(r.line)}`);
    say(parts.counted, clock(zone, Date.parse(r.counted_at)));
  }
}

/** What the values of a report mean, in words. */
function meaning({ platform, account_id: account, time_zone: zone, currency, conversions, revenue }) {
  return [
    `As ${platform} said of account ${account}: the day is one of ${zone.replaceAll("_", " ")}, money is in ${currency}`,
    conversions && `conversions are its “${conversions}”`,
    revenue && `revenue is its “${revenue}”`,
  ].filter(Boolean).join("; ");
}
