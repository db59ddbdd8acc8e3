// Alerts: which are open, which were, and what the rules are.

import { alertRules, alerts } from "./data.js";
import { el, keep, say } from "./dom.js";
import { METRICS, exact, whole } from "./metrics.js";
import { link, now } from "./state.js";
import { ago, clock } from "./time.js";

const NEWEST = 50;
const NEWEST_OF_ONE = 8;

/** What a condition was measured at: `ROAS 0.73×`. What it is compared with stands in it, unless that is a share of something. */
function measured({ condition, value, threshold }) {
  const metric = /^[a-z]+/.exec(condition)?.[0];
  if (!METRICS[metric]) return `${whole(value)} events`;
  const against = condition.includes("%") && threshold !== null ? ` against ${exact(metric, threshold)}` : "";
  return `${METRICS[metric].label} ${exact(metric, value)}${against}`;
}

/** A list of alerts, as a card. */
class AlertList {
  /** With `campaigns`, each says of which campaign it is. */
  constructor(title, none, { campaigns = true } = {}) {
    this.campaigns = campaigns;
    this.list = el("ul", { class: "alerts" });
    this.none = el("p", { class: "quiet alerts", text: none, hidden: true });
    this.more = el("p", { class: "pager", hidden: true });
    this.root = el("section", { class: "card", "aria-label": title },
      el("div", { class: "card-head" }, el("h2", { text: title })), this.none, this.list, this.more);
  }

  update({ rows, next }) {
    this.none.hidden = rows.length > 0;
    this.list.hidden = !rows.length;
    keep(this.list, rows, (a) => a.alert_id, (a) => this.item(a), (item, a) => this.fill(item, a));
    this.more.hidden = !next;
    say(this.more, next ? `Showing the newest ${rows.length}. GET /alerts lists them all.` : "");
  }

  item(a) {
    const parts = {
      state: el("span"),
      campaign: this.campaigns && a.campaign_id ? el("a", { text: a.campaign_id }) : null,
      values: el("span", { class: "quiet" }),
      times: el("span", { class: "quiet" }),
    };
    const item = el("li", {}, el("p", {}, parts.state, el("b", { text: a.rule }), parts.campaign),
      el("p", {}, el("code", { text: a.condition }), parts.values), el("p", {}, parts.times));
    return Object.assign(item, { parts });
  }

  fill({ parts }, a) {
    const { zone } = now();
    const isOpen = a.state === "open";
    const opened = Date.parse(a.opened_at);
    parts.state.className = isOpen ? "state bad" : "state";
    say(parts.state, isOpen ? "open" : "resolved");
    // The address may ask for other days by now.
    if (parts.campaign) parts.campaign.href = link({ view: "overview", campaign: a.campaign_id });
    say(parts.values, (a.opened_values ?? []).map(measured).join(", "));
    say(parts.times, isOpen
      ? `since ${clock(zone, opened)}, for ${ago(Date.now() - opened)}`
      : `${clock(zone, opened)} – ${clock(zone, Date.parse(a.resolved_at))}${
        a.resolved_because === "rule" ? ", because the rule was changed or deleted" : ""}`);
  }
}

/** The alerts of one campaign. */
export class CampaignAlerts {
  constructor() {
    this.list = new AlertList("Alerts", "No rule has opened an alert for this campaign.", { campaigns: false });
    this.root = this.list.root;
  }

  async load(state, options) {
    this.list.update(await alerts({ campaign: state.campaign, limit: NEWEST_OF_ONE }, options));
  }
}

const COLUMNS = ["Rule", "Opens when", "Campaigns", "Notifies", "Source"];

export class Alerts {
  constructor() {
    this.open = new AlertList("Open", "No alert is open.");
    this.past = new AlertList("Resolved", "No alert has resolved yet.");
    this.count = el("span", { class: "state", hidden: true });
    this.rules = el("tbody");
    this.card = el("section", { class: "card", "aria-label": "Rules", hidden: true },
      el("div", { class: "tools" }, el("h2", { text: "Rules" }),
        el("span", { class: "quiet", text: "checked after each commit, on the same totals as this page" })),
      el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Table of rules" },
        el("table", {}, el("caption", { class: "visually-hidden", text: "Alert rules" }),
          el("thead", {}, el("tr", {}, COLUMNS.map((text) => el("th", { scope: "col", class: "text", text })))),
          this.rules)));
    this.none = el("section", { class: "card blank", hidden: true }, el("h2", { text: "No rules yet" }),
      el("p", { text: "A rule tells you when a campaign burns money, goes quiet or outspends its budget. Write rules into a file and start the processor with it:" }),
      el("pre", { tabindex: 0, text: '# rules.toml\n[[rule]]\nname = "burning"\nwhen = "roas < 1 over 1h and cost > 50"\n\nadflux process --alert-rules rules.toml' }));
    this.lists = el("div", { class: "pair" }, this.open.root, this.past.root);
    this.root = el("div", { class: "stack" }, el("div", { class: "title" }, el("h1", { text: "Alerts" }), this.count),
      this.none, this.lists, this.card);
  }

  prepare() {}

  async load(state, options) {
    const [open, past, rules] = await Promise.all([
      alerts({ state: "open", limit: NEWEST }, options),
      alerts({ state: "resolved", limit: NEWEST }, options),
      alertRules(options),
    ]);
    this.open.update(open);
    this.past.update(past);
    const many = open.rows.length;
    this.count.hidden = false;
    this.count.className = `state ${many ? "bad" : "good"}`;
    say(this.count, many ? `${many}${open.next ? " or more" : ""} open` : "none open");
    this.none.hidden = rules.length + many + past.rows.length > 0;
    this.lists.hidden = !this.none.hidden;
    this.card.hidden = !rules.length;
    keep(this.rules, rules, (r) => r.name, () => el("tr", {}, el("th", { scope: "row" }),
      COLUMNS.slice(1).map(() => el("td", { class: "text" }))), (tr, r) => {
      const where = r.campaigns.length ? r.campaigns.join(", ") : "all";
      const cells = [
        r.name,
        `${r.when}${r.for ? `, for ${r.for}` : ""}${r.understood_as === null ? " (ignored: this version does not understand it)" : ""}`,
        r.platforms.length ? `${where} on ${r.platforms.join(", ")}` : where,
        r.to.length ? r.to.join(", ") : "log and page",
        r.source === "file" ? "file" : "API",
      ];
      cells.forEach((text, i) => say(tr.children[i], text));
      tr.title = r.understood_as ?? "";
    });
  }
}
