// The controls over all pages: range, comparison, platform, currency, time zone.

import { compares, rates } from "./data.js";
import { el, keep, say, svg } from "./dom.js";
import { PLATFORMS } from "./metrics.js";
import { go, now } from "./state.js";
import { HERE, RANGES, dayIn, isZone, offsetOf, windowLabel } from "./time.js";

/** Who publishes exchange rates. */
const SOURCES = { ecb: "the European Central Bank" };

/** Zones in the choice: this browser's and UTC first, the others by continent. */
function zoneOptions() {
  const option = (zone, text = zone.replaceAll("_", " ")) => el("option", { value: zone, text });
  const known = Intl.supportedValuesOf("timeZone");
  const groups = new Map();
  for (const zone of known) {
    const continent = zone.split("/")[0];
    if (!zone.includes("/")) continue;
    if (!groups.has(continent)) groups.set(continent, []);
    groups.get(continent).push(zone);
  }
  const near = [...new Set([HERE, "UTC", now().zone])].filter(isZone);
  return [
    el("optgroup", { label: "Often used" }, near.map((z) => option(z, `${z.replaceAll("_", " ")} (${offsetOf(z)})`))),
    ...[...groups].map(([continent, zones]) =>
      el("optgroup", { label: continent }, zones.filter((z) => !near.includes(z)).map((z) => option(z)))),
  ];
}

/** Puts a popover under the button that opens it, inside of the window. */
function place(popover, button) {
  const box = button.getBoundingClientRect();
  const width = Math.min(320, innerWidth - 24);
  popover.style.left = `${Math.max(12, Math.min(box.left, innerWidth - width - 12)) + scrollX}px`;
  popover.style.top = `${box.bottom + scrollY}px`;
}

export class Controls {
  constructor() {
    this.rangeText = el("span");
    this.rangeDays = el("span", { class: "quiet long" });
    this.range = el("button", { class: "button", type: "button", popovertarget: "ranges", "aria-haspopup": "dialog", id: "range" },
      svg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" },
        svg("path", { d: "M4 7a2 2 0 0 1 2-2h12a2 2 0 0 1 2 2v11a2 2 0 0 1-2 2H6a2 2 0 0 1-2-2ZM8 3v4m8-4v4M4 10.5h16" })),
      this.rangeText, this.rangeDays);
    this.from = el("input", { class: "field", type: "date", required: true, name: "from" });
    this.to = el("input", { class: "field", type: "date", required: true, name: "to" });
    this.choices = Object.entries(RANGES).map(([range, { label }]) =>
      el("button", { type: "button", "data-range": range, text: label, onclick: () => this.choose({ range, from: "", to: "" }) }));
    this.popover = el("div", {
      id: "ranges", class: "popover", popover: "auto", role: "dialog", "aria-label": "Range of days",
      onbeforetoggle: (e) => e.newState === "open" && this.opening(),
    },
    el("ul", {}, this.choices.map((button) => el("li", {}, button))),
    el("form", {
      onsubmit: (e) => {
        e.preventDefault();
        const [from, to] = [this.from.value, this.to.value].sort();
        this.choose({ range: "custom", from, to });
      },
    },
    el("label", {}, "From", this.from), el("label", {}, "To (inclusive)", this.to),
    el("button", { class: "button main" }, "Show these days")));

    this.compare = el("button", {
      class: "button", type: "button", role: "switch", id: "compare",
      onclick: () => go({ compare: now().compare === "on" ? "off" : "on" }),
    }, el("i", { class: "switch", "aria-hidden": "true" }), "Compare", el("span", { class: "visually-hidden" }, " with the period before"));

    const platform = (name, text) => el("button", {
      type: "button", "data-platform": name, class: name, onclick: () => go({ platform: name }),
    }, name && el("i", { class: "swatch", "aria-hidden": "true" }), text);
    this.platforms = el("div", { class: "segment", role: "group", "aria-label": "Platform" },
      platform("", "All"), PLATFORMS.map((p) => platform(p, p)));

    this.zone = el("select", { class: "field", id: "zone", "aria-label": "Time zone", onchange: (e) => go({ zone: e.target.value }) },
      zoneOptions());
    this.currency = el("select", {
      class: "field", id: "in", "aria-label": "Currency", title: "All money in one currency, or in that of each account", hidden: true,
      onchange: (e) => go({ into: e.target.value }),
    });
    this.converted = el("p", { class: "quiet converted", hidden: true });
    this.controls = el("div", { class: "controls", role: "group", "aria-label": "What is shown" },
      this.range, this.compare, this.platforms, el("span", { class: "push" }), this.currency, this.zone, this.popover);
    this.root = el("div", {}, this.controls, this.converted);
    this.offer(now(), [], []);
    this.learn();
  }

  /** Finds out into which currencies money can be converted. Where it cannot be, there is no choice. */
  async learn() {
    try {
      const { currencies, account_currencies: own } = await rates();
      this.offer(now(), currencies.map((c) => c.currency), own);
    } catch {
      // What is wrong is said by the page's own questions.
      setTimeout(() => this.learn(), 5_000);
    }
  }

  /** Offers these currencies, those of accounts first. */
  offer({ into }, all, own) {
    const option = (code) => el("option", { value: code, text: code });
    const near = all.filter((code) => own.includes(code));
    const others = all.filter((code) => !own.includes(code));
    const chosen = into && !all.includes(into) ? [option(into)] : [];
    this.currency.replaceChildren(
      el("option", { value: "", text: "Each its currency" }), ...chosen,
      ...(near.length ? [el("optgroup", { label: "Of accounts" }, near.map(option))] : []),
      ...(others.length ? [el("optgroup", { label: near.length ? "Others" : "All" }, others.map(option))] : []));
    this.currency.value = into;
    this.currency.hidden = all.length === 0 && !into;
  }

  choose(changes) {
    this.popover.hidePopover();
    this.range.focus();
    go(changes);
  }

  opening() {
    const state = now();
    const today = dayIn(state.zone);
    this.from.value = state.from || today;
    this.to.value = state.to || today;
    for (const input of [this.from, this.to]) input.max = today;
    for (const button of this.choices) {
      button.setAttribute("aria-pressed", String(!state.from && button.dataset.range === state.range));
    }
    place(this.popover, this.range);
  }

  /** Shows the state, and the days the answer is about once they are known. */
  update(state, summary) {
    say(this.rangeText, state.from ? "Custom" : RANGES[state.range].label);
    const known = summary?.since && summary?.until;
    say(this.rangeDays, known ? windowLabel(state.zone, summary.since, summary.until) : "");
    const on = compares(state);
    this.compare.setAttribute("aria-checked", String(on));
    this.compare.disabled = state.range === "all";
    this.compare.title = state.range === "all" ? "All time has no earlier period" : "Compare with the previous period";
    for (const button of this.platforms.children) {
      button.setAttribute("aria-pressed", String(button.dataset.platform === state.platform));
    }
    if (![...this.zone.options].some((o) => o.value === state.zone)) {
      this.zone.prepend(el("option", { value: state.zone, text: state.zone }));
    }
    this.zone.value = state.zone;
    if (![...this.currency.options].some((o) => o.value === state.into)) {
      this.currency.prepend(el("option", { value: state.into, text: state.into }));
      this.currency.hidden = false;
    }
    this.currency.value = state.into;
    if (!state.into || summary) this.explain(state, summary?.rates);
  }

  /** Says by which rates money was converted. */
  explain({ into }, used) {
    this.converted.hidden = !into || !used;
    if (this.converted.hidden) return;
    const { source, first_day: first, last_day: last } = used;
    const whose = SOURCES[source] ?? source;
    const days = first === last ? first : `${first} to ${last}`;
    say(this.converted, `All money in ${into}: each day is converted by the last rate of ${whose} on or before it (of ${days}).`);
  }
}
