// The newest counted changes: which campaign, how much more of what. A fixed number of rows of a
// fixed height, so nothing below it moves.

import { called } from "./data.js";
import { el, keep, say } from "./dom.js";
import { exact, whole } from "./metrics.js";
import { linkTo } from "./state.js";
import { ago } from "./time.js";

const ROWS = 5;
/** Totals that are remembered to tell what a change added. */
const REMEMBERED = 20_000;

export class Ticker {
  constructor() {
    this.items = [];
    this.totals = new Map();
    this.list = el("ol", { class: "ticker" });
    this.none = el("p", { class: "quiet", text: "Waiting for the next event …" });
    this.list.append(el("li", {}, this.none));
    this.root = el("section", { class: "card", "aria-label": "Counted just now" },
      el("div", { class: "card-head" }, el("h2", {}, "Counted just now")), this.list);
    setInterval(() => this.draw(), 1000);
  }

  /** Takes the new totals of a campaign, as the live feed tells them. */
  take({ campaign_id: id, totals }) {
    const before = this.totals.get(id);
    this.totals.delete(id);
    this.totals.set(id, totals);
    if (this.totals.size > REMEMBERED) this.totals.delete(this.totals.keys().next().value);
    this.items.unshift({ id, what: added(totals, before), at: Date.now(), key: `${id} ${totals.events}` });
    this.items.length = Math.min(this.items.length, ROWS);
    this.fresh = true;
    // Changes come in bursts, one burst a frame is drawn.
    this.frame ??= requestAnimationFrame(() => {
      this.frame = null;
      this.draw();
    });
  }

  draw() {
    if (!this.items.length || !this.root.isConnected) return;
    keep(this.list, this.items, (item) => item.key, (item) => {
      const time = el("time");
      const a = el("a", { text: called(item.id), title: item.id });
      linkTo(a, item.id);
      const row = el("li", { class: "new" }, a, el("span", { class: "what", text: item.what, title: item.what }), time);
      row.time = time;
      return row;
    }, (row, item) => say(row.time, ago(Date.now() - item.at)));
  }
}

function added(totals, before) {
  // How many is not known: what the campaign had before was not heard.
  if (!before) return "new events";
  const more = (name) => totals[name] - before[name];
  const parts = ["impressions", "clicks", "conversions"].filter((name) => more(name) > 0).map((name) => {
    const amount = exact(name, more(name));
    return `+${amount} ${amount === "1" ? name.slice(0, -1) : name}`;
  });
  if (more("revenue") > 0) parts.unshift(`+${exact("revenue", more("revenue"))} revenue`);
  return parts.join(", ") || `+${whole(more("events"))} events`;
}
