// The leaderboard: a page of campaigns, sorted, searched and filtered by the server, so that ten
// thousand of them cost no more than fifty.

import { settled, spark } from "./chart.js";
import { compares, saveCampaigns, trends } from "./data.js";
import { el, keep, say } from "./dom.js";
import { amountOf, changeMark } from "./figures.js";
import { METRICS, SORTED_BY_NUMBER, amounts, brief, exact, whole } from "./metrics.js";
import { visible } from "./outside.js";
import { Panel } from "./panel.js";
import { go, linkTo, now } from "./state.js";
import { tell } from "./status.js";
import { windowOf } from "./time.js";

/** The metrics of each row. */
export const COLUMNS = ["cost", "revenue", "profit", "roas", "ctr", "cpa", "conversions"];
/** Rows of a page. */
export const PAGE = 50;

/** Questions that are asked often. */
const OFTEN = [
  { label: "Burning money", filter: "roas<1", title: "Campaigns that earn less than they cost" },
  { label: "Spend, no conversions", filter: "conversions=0,cost>0", title: "Campaigns that cost money but had no conversion" },
  { label: "Earning 3×", filter: "roas>=3", title: "Campaigns that earn three times what they cost" },
];

const OPERATORS = { "<": "less than", "<=": "at most", ">": "more than", ">=": "at least", "=": "equal to" };
const SYMBOLS = { "<": "<", "<=": "≤", ">": ">", ">=": "≥", "=": "=", "!=": "≠" };

/** The conditions of a filter, one text each. */
export const conditions = (filter) => filter.split(",").filter(Boolean);

/** A condition as people write it: `CTR < 1.00%`. */
function inWords(condition) {
  const parts = /^\s*([a-z_]+)\s*(<=|>=|!=|<|>|=)\s*(.+)$/.exec(condition);
  if (!parts || !METRICS[parts[1]]) return condition;
  const [, metric, operator, value] = parts;
  return `${METRICS[metric].label} ${SYMBOLS[operator]} ${exact(metric, Number(value))}`;
}

/** For how long a trend is not asked for again. */
const KEPT = 60_000;

/** The small charts: asked for together, for those rows that are in view. */
class Trends {
  constructor() {
    this.known = new Map();
    this.waiting = new Set();
    this.observer = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        target.inView = isIntersecting;
        if (isIntersecting) this.want(target);
      }
    }, { rootMargin: "200px" });
  }

  /** What the trends in these rows are to be of, which is asked once the `increment` is known. Those of another question go. */
  about(state, rows, increment = null) {
    const question = JSON.stringify([...windowOf(state), state.platform, state.into, state.metric]);
    if (question !== this.question || (increment && this.increment && increment !== this.increment)) {
      Object.assign(this, { question, increment: null });
      this.known.clear();
      for (const row of rows) row.trend.update([]);
    }
    Object.assign(this, { state, increment: increment ?? this.increment });
  }

  want(row) {
    if (!this.increment || !row.inView) return;
    const kept = this.known.get(row.campaign);
    if (kept?.values) this.draw(row, kept.values);
    if (kept && Date.now() - kept.at < KEPT) return;
    this.waiting.add(row);
    this.timer ??= setTimeout(() => {
      this.timer = null;
      this.fetch();
    }, 30);
  }

  async fetch() {
    const rows = [...this.waiting];
    const { question, state, increment } = this;
    if (!increment) return this.waiting.clear();
    const isStill = () => question === this.question && increment === this.increment;
    this.waiting.clear();
    const ids = [...new Set(rows.map((row) => row.campaign))].slice(0, 100);
    for (const id of ids) this.known.set(id, { at: Date.now(), values: this.known.get(id)?.values });
    let found;
    try {
      found = await trends(state, state.metric, increment, ids);
    } catch {
      // A trend that is missing is an empty cell; what is wrong is said by the page's own questions.
      return;
    }
    if (!isStill()) return;
    for (const [id, points] of found) this.known.set(id, { at: Date.now(), values: settled(points, increment).map((p) => p.value) });
    for (const row of rows) if (found.has(row.campaign)) this.draw(row, this.known.get(row.campaign).values);
  }

  draw(row, values) {
    const { metric } = this.state;
    const numbers = values.filter((v) => v !== null);
    const text = (value) => exact(metric, value, row.currency);
    const words = numbers.length
      ? `${METRICS[metric].label} over time: from ${text(numbers[0])} to ${text(numbers.at(-1))}, at most ${text(Math.max(...numbers))}`
      : "no trend";
    row.trend.update(values, words);
  }
}

/** What the list of campaigns is asked for. */
export const wanted = ({ sort, order, filter, search }) => ({ sort, order, filter: conditions(filter), search });

export class Board {
  constructor() {
    this.trends = new Trends();
    this.search = el("input", {
      class: "field", type: "search", placeholder: "Search names and ids", "aria-label": "Search campaigns by name or id", maxlength: 64,
      oninput: () => {
        clearTimeout(this.typing);
        this.typing = setTimeout(() => go({ search: visible(this.search.value.trim()) }, { replace: true }), 200);
      },
    });
    this.often = OFTEN.map(({ label, filter, title }) => el("button", {
      class: "chip", type: "button", title, "data-filter": filter, text: label,
      onclick: () => go({ filter: now().filter === filter ? "" : filter }),
    }));
    this.own = el("span", { class: "chips" });
    this.add = el("button", { class: "chip", type: "button", popovertarget: "filter-form", "aria-haspopup": "dialog", text: "+ Filter" });
    this.count = el("span", { class: "quiet answer" });
    this.csv = el("button", {
      class: "button plain", type: "button", text: "CSV", title: "Save all rows of this table as CSV",
      onclick: () => saveCampaigns(now(), wanted(now())).catch((error) => tell({ error })),
    });
    this.tools = el("div", { class: "tools" },
      el("h2", {}, "Campaigns"), this.search, el("span", { class: "chips" }, this.often), this.own, this.add,
      el("span", { class: "push" }), this.count, this.csv, this.form());

    this.headers = new Map();
    const header = (metric) => {
      const sort = el("button", {
        class: "sort", type: "button", "data-sort": metric, title: METRICS[metric].about, text: METRICS[metric].label,
        onclick: () => this.sortBy(metric),
      });
      const th = el("th", { scope: "col" }, sort);
      this.headers.set(metric, th);
      return th;
    };
    this.changeHead = el("th", { scope: "col", text: "Change" });
    this.body = el("tbody", { class: "answer" });
    this.totalOf = el("span");
    this.unknown = el("span", { class: "id", hidden: true });
    this.total = this.row(this.totalOf, this.unknown);
    this.trendHead = el("th", { scope: "col", class: "text" });
    this.table = el("table", { class: "board" },
      el("caption", { class: "visually-hidden", text: "Campaigns with their metrics" }),
      el("thead", {}, el("tr", {}, el("th", { scope: "col", text: "Campaign" }), this.trendHead,
        COLUMNS.map(header), this.changeHead)),
      this.body, el("tfoot", { class: "answer" }, this.total));
    this.mixed = el("p", { class: "note answer", hidden: true, text: SORTED_BY_NUMBER });
    this.blank = el("div", { class: "blank answer", hidden: true });
    this.range = el("span");
    this.first = el("button", { class: "button", type: "button", text: "First", onclick: () => go({ after: "" }) });
    this.back = el("button", { class: "button", type: "button", text: "Previous", onclick: () => history.back() });
    this.next = el("button", { class: "button", type: "button", text: "Next", onclick: () => go({ after: this.cursor }) });
    this.pager = el("div", { class: "pager answer", hidden: true }, this.range, el("span", { class: "push" }), this.first, this.back, this.next);
    this.root = el("section", { class: "card", id: "campaigns", "aria-label": "Campaigns" }, this.tools, this.mixed,
      el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": "Table of campaigns" }, this.table),
      this.blank, this.pager);
    this.panel = new Panel(this.root, (s) =>
      [...windowOf(s), s.platform, s.into, s.compare, s.search, s.filter, s.sort, s.order, s.after]);
  }

  form() {
    const metric = el("select", { class: "field", name: "metric", "aria-label": "Metric" },
      Object.entries(METRICS).map(([name, { label }]) => el("option", { value: name, text: label })));
    const operator = el("select", { class: "field", name: "operator", "aria-label": "Condition" },
      Object.entries(OPERATORS).map(([name, label]) => el("option", { value: name, text: label })));
    const value = el("input", { class: "field", type: "number", step: "any", required: true, name: "value" });
    const unit = el("span");
    const units = () => say(unit, METRICS[metric.value].kind === "share" ? "Value, in %" : "Value");
    metric.addEventListener("change", units);
    units();
    const form = el("form", {
      onsubmit: (e) => {
        e.preventDefault();
        const number = METRICS[metric.value].kind === "share" ? Number(value.value) / 100 : Number(value.value);
        this.popover.hidePopover();
        const all = [...conditions(now().filter), `${metric.value}${operator.value}${number}`];
        go({ filter: [...new Set(all)].join(",") });
      },
    }, el("label", {}, "Metric", metric), el("label", {}, "is", operator), el("label", {}, unit, value),
    el("button", { class: "button main" }, "Add filter"));
    this.popover = el("div", {
      id: "filter-form", class: "popover", popover: "auto", role: "dialog", "aria-label": "Filter campaigns",
      onbeforetoggle: (e) => {
        if (e.newState !== "open") return;
        const box = this.add.getBoundingClientRect();
        this.popover.style.left = `${Math.max(12, Math.min(box.left, innerWidth - 332)) + scrollX}px`;
        this.popover.style.top = `${box.bottom + scrollY}px`;
      },
      ontoggle: (e) => e.newState === "open" && metric.focus(),
    }, form);
    return this.popover;
  }

  sortBy(metric) {
    const state = now();
    // What costs is best when small, so that comes first.
    const usual = METRICS[metric].good < 0 ? "asc" : "desc";
    const order = state.sort === metric ? (state.order === "desc" ? "asc" : "desc") : usual;
    go({ sort: metric, order }, { replace: true });
  }

  /** Shows the state of the controls, before the answer is there. */
  prepare(state) {
    if (document.activeElement !== this.search) this.search.value = state.search;
    for (const chip of this.often) chip.setAttribute("aria-pressed", String(chip.dataset.filter === state.filter));
    const isOften = OFTEN.some((o) => o.filter === state.filter);
    keep(this.own, isOften ? [] : conditions(state.filter), (c) => c, (c) => el("button", {
      class: "chip", type: "button", "aria-pressed": "true", title: "Remove this filter",
      onclick: () => go({ filter: conditions(now().filter).filter((other) => other !== c).join(",") }),
    }), (chip, c) => say(chip, `${inWords(c)} ×`));
    for (const [metric, th] of this.headers) {
      if (metric === state.sort) th.setAttribute("aria-sort", state.order === "desc" ? "descending" : "ascending");
      else th.removeAttribute("aria-sort");
    }
    say(this.trendHead, `${METRICS[state.metric].label} trend`);
    this.changeHead.hidden = !compares(state);
    say(this.changeHead, `${METRICS[state.sort].label} change`);
    this.trends.about(state, this.body.children);
  }

  /** Draws the small charts with this increment. */
  trend(state, increment) {
    this.trends.about(state, this.body.children, increment);
    for (const row of this.body.children) this.trends.want(row);
  }

  /** Shows a page. Quietly, rows stay where they are while somebody points at them. */
  update(state, page, { quiet = false } = {}) {
    this.prepare(state);
    this.cursor = page.next;
    let rows = page.rows;
    if (quiet && this.panel.isCurrent() && this.body.matches(":hover, :focus-within")) {
      const fresh = new Map(rows.map((r) => [r.id, r]));
      rows = this.rows.map((r) => fresh.get(r.id) ?? { ...r, gone: true });
    }
    this.rows = rows;
    keep(this.body, rows, (r) => r.id, () => this.campaign(), (tr, r) => tr.update(state, r));
    const campaigns = `${whole(page.total)} ${page.total === 1 ? "campaign" : "campaigns"}`;
    this.total.fill(state, page.totals);
    this.mixed.hidden = page.totals.currencies.length < 2 || METRICS[state.sort].kind !== "money";
    const narrowed = state.search || state.filter;
    const nothing = rows.length === 0;
    this.table.hidden = nothing;
    this.blank.hidden = !nothing;
    if (nothing) {
      this.blank.replaceChildren(
        el("h3", { text: narrowed ? "No campaign matches" : "No campaign has events in this range" }),
        el("p", { text: narrowed ? "No campaign matches the search and filters." : "Choose a longer range, or look at all time." }),
        narrowed
          ? el("button", { class: "button", type: "button", text: "Clear search and filters", onclick: () => go({ search: "", filter: "" }) })
          : el("button", { class: "button", type: "button", text: "Show all time", onclick: () => go({ range: "all", from: "", to: "" }) }));
    }
    say(this.count, campaigns);
    const unknown = page.totals.partial.map((name) => METRICS[name].label.toLowerCase());
    say(this.totalOf, `Total of ${campaigns}`);
    say(this.unknown, `${unknown.join(", ")} of some unknown`);
    this.unknown.hidden = unknown.length === 0;
    this.first.disabled = this.back.disabled = !state.after;
    this.next.disabled = !page.next;
    this.pager.hidden = !state.after && !page.next;
    say(this.range, `${whole(rows.length)} on this page`);
    this.panel.answered(state);
  }

  /** The row of a campaign. */
  campaign() {
    const a = el("a");
    const id = el("span", { class: "id" });
    const tr = this.row(a, id);
    tr.trend = spark([]);
    tr.children[1].append(tr.trend);
    this.trends.observer.observe(tr);
    tr.update = (state, row) => {
      Object.assign(tr, { campaign: row.id, currency: row.currency });
      this.trends.want(tr);
      say(a, row.name ?? row.id);
      a.title = a.textContent;
      say(id, row.name === null ? "" : row.id);
      id.hidden = row.name === null;
      linkTo(a, row.id);
      // What it holds is from before it left this page.
      tr.classList.toggle("dim", Boolean(row.gone));
      tr.fill(state, { ...row, currencies: [{ ...row }] });
    };
    return tr;
  }

  /** A row of figures; `name` is what its first cell holds. */
  row(...name) {
    const texts = COLUMNS.map(() => amountOf());
    const cells = texts.map((text) => el("td", {}, text));
    const change = changeMark();
    const changeCell = el("td", {}, change);
    const head = el("th", { scope: "row" }, name);
    const tr = el("tr", {}, head, el("td", { class: "text" }), cells, changeCell);
    tr.fill = (state, sums) => {
      COLUMNS.forEach((metric, i) => {
        const all = amounts(metric, sums);
        const [{ value }] = all;
        const cell = cells[i];
        const isOne = all.length === 1;
        const sign = metric === "profit" && isOne && value < 0 ? "bad" : "";
        cell.className = isOne && value === null ? "none" : sign;
        texts[i].update(metric, all, brief);
        cell.title = isOne && value === null ? `No ${METRICS[metric].label}: the denominator is zero, or something is not known` : "";
      });
      changeCell.hidden = !compares(state);
      if (changeCell.hidden) return;
      const all = amounts(state.sort, sums);
      change.hidden = all.length > 1;
      change.update(state.sort, all[0].value, all[0].before);
    };
    return tr;
  }
}
