// Alerts: which are open, which were, and what the rules are.

import { alertRules, alerts } from "./data.js";
import { el, keep, say } from "./dom.js";
import { METRICS, exact, whole } from "./metrics.js";
import { Panel } from "./panel.js";
import { linkTo } from "./state.js";
import { ago, clock, offsetOf } from "./time.js";

const NEWEST = 50;
const NEWEST_OF_ONE = 8;

/**
 * What a condition was measured at: `ROAS 0.73×`, money in the currency of the campaign. What it is compared with stands in it,
 * unless that is a share of something.
 */
function measured({ condition, value, threshold }, currency) {
  const [, expected, metric] = /^(expected )?([a-z]*)/.exec(condition);
  if (metric === "pipeline") return value === null ? "nothing counted" : `${whole(value)} min behind`;
  if (metric === "reports") return `newest report ${whole(value)} h old`;
  if (!METRICS[metric]) return `${whole(value)} events`;
  const against = threshold === null ? " (nothing to compare with yet)"
    : condition.includes("%") ? ` against ${exact(metric, threshold, currency)}` : "";
  return `${expected ? "Expected " : ""}${METRICS[metric].label} ${exact(metric, value, currency)}${against}`;
}

const inWords = (values, currency) => (values ?? []).map((value) => measured(value, currency)).join(", ");

/** Why an alert resolved whose condition may still hold. */
const ruleIsGone = (a) =>
  (a.campaign_id ? ", because the rule was changed or deleted" : ", because nobody is to be told of it any more");

/** Whom an alert is about that has no campaign. */
const account = ({ platform, account_id: id }) => (id ? `account ${id} of ${platform}` : "");

/** Whose calendar a condition goes by, where it goes by one. */
function calendar(condition) {
  const period = / per (hour|day|week|month)\b/.exec(condition)?.[1];
  if (period) return `in ${period}s of UTC`;
  return / settled\b|^expected | and expected /.test(condition) ? "in days of the account" : "";
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
    for (const part of [this.none, this.list, this.more]) part.classList.add("answer");
    this.panel = new Panel(this.root, (s) => [s.campaign, s.zone]);
  }

  update(state, { rows, next }) {
    this.none.hidden = rows.length > 0;
    this.list.hidden = !rows.length;
    keep(this.list, rows, (a) => a.alert_id, (a) => this.item(a), (item, a) => this.fill(state, item, a));
    this.more.hidden = !next;
    say(this.more, next ? `Showing the newest ${rows.length}. GET /alerts lists them all.` : "");
    this.panel.answered(state);
  }

  item(a) {
    const parts = {
      state: el("span"),
      campaign: this.campaigns && a.campaign_id ? el("a") : null,
      // As elsewhere, the id of a campaign stands beside its name.
      id: el("span", { class: "quiet" }),
      calendar: el("span", { class: "quiet", text: calendar(a.condition) }),
      values: el("span", { class: "quiet" }),
      current: el("span"),
      times: el("span", { class: "quiet" }),
    };
    const item = el("li", {}, el("p", {}, parts.state, el("b", { text: a.rule }), parts.campaign, parts.id),
      el("p", {}, el("code", { text: a.condition }), parts.calendar),
      el("p", {}, parts.values, parts.current), el("p", {}, parts.times));
    if (parts.campaign) linkTo(parts.campaign, a.campaign_id);
    return Object.assign(item, { parts });
  }

  fill({ zone }, { parts }, a) {
    const isOpen = a.state === "open";
    const opened = Date.parse(a.opened_at);
    parts.state.className = isOpen ? "state bad" : "state";
    say(parts.state, isOpen ? "open" : "resolved");
    if (parts.campaign) say(parts.campaign, a.campaign_name ?? a.campaign_id);
    say(parts.id, !a.campaign_id ? account(a) : parts.campaign && a.campaign_name ? a.campaign_id : "");
    say(parts.values, `${inWords(a.opened_values, a.currency)} when it opened`);
    say(parts.current, a.current_values ? `${inWords(a.current_values, a.currency)} now` : "");
    say(parts.times, isOpen
      ? `since ${clock(zone, opened)}, for ${ago(Date.now() - opened)}`
      : `${clock(zone, opened)} – ${clock(zone, Date.parse(a.resolved_at))}${
        a.resolved_because === "rule" ? ruleIsGone(a) : ""}`);
  }
}

/** The alerts of one campaign. */
export class CampaignAlerts {
  constructor() {
    this.list = new AlertList("Alerts", "No rule has opened an alert for this campaign.", { campaigns: false });
    this.root = this.list.root;
  }

  async load(state, options) {
    const of = (question) => alerts({ campaign: state.campaign, ...question }, options);
    // However many have resolved since: what is open comes first.
    const [open, past] = await Promise.all([
      of({ state: "open", measure: "now", limit: NEWEST }),
      of({ state: "resolved", limit: NEWEST_OF_ONE }),
    ]);
    const isOpen = new Set(open.rows.map((a) => a.alert_id));
    const rows = [...open.rows, ...past.rows.filter((a) => !isOpen.has(a.alert_id))];
    this.list.update(state, { rows, next: open.next ?? past.next });
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
        el("span", { class: "quiet", text:
          "checked after each commit, on the same totals as this page; the hours, days, weeks and months of budgets are those of UTC" })),
      el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Table of rules" },
        el("table", {}, el("caption", { class: "visually-hidden", text: "Alert rules" }),
          el("thead", {}, el("tr", {}, COLUMNS.map((text) => el("th", { scope: "col", class: "text", text })))),
          this.rules)));
    this.none = el("section", { class: "card blank", hidden: true }, el("h2", { text: "No rules yet" }),
      el("p", { text: "A rule tells you when a campaign burns money, goes quiet or outspends its budget. Write rules into a file and start the processor with it:" }),
      el("pre", { tabindex: 0, text: '# rules.toml\n[[rule]]\nname = "burning"\nwhen = "roas < 1 over 1h and cost > 50"\n\nadflux process --alert-rules rules.toml' }));
    this.lists = el("div", { class: "pair" }, this.open.root, this.past.root);
    this.zone = el("span", { class: "quiet" });
    this.root = el("div", { class: "stack" }, el("div", { class: "title" }, el("h1", { text: "Alerts" }), this.count, this.zone),
      this.none, this.lists, this.card);
  }

  prepare({ zone }) {
    say(this.zone, `times are those of ${zone.replaceAll("_", " ")} (${offsetOf(zone)})`);
  }

  async load(state, options) {
    const [open, past, rules] = await Promise.all([
      alerts({ state: "open", measure: "now", limit: NEWEST }, options),
      alerts({ state: "resolved", limit: NEWEST }, options),
      alertRules(options),
    ]);
    this.open.update(state, open);
    this.past.update(state, past);
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
        `${r.when}${r.for ? `, for ${r.for}` : ""}${r.understood_as === null ? " (ignored: this version does not understand it)" : ""}${
          calendar(r.when) && `, ${calendar(r.when)}`}`,
        r.platforms.length ? `${where} on ${r.platforms.join(", ")}` : where,
        r.to.length ? r.to.join(", ") : "log and page",
        r.source === "file" ? "file" : "API",
      ];
      cells.forEach((text, i) => say(tr.children[i], text));
      tr.title = r.understood_as ?? "";
    });
  }
}
