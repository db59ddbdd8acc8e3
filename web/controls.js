// The controls over all pages: range, comparison, platform, time zone.

import { compares } from "./data.js";
import { el, keep, say, svg } from "./dom.js";
import { PLATFORMS } from "./metrics.js";
import { go, now } from "./state.js";
import { HERE, RANGES, dayIn, isZone, offsetOf, windowLabel } from "./time.js";

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
    this.root = el("div", { class: "controls", role: "group", "aria-label": "What is shown" },
      this.range, this.compare, this.platforms, el("span", { class: "push" }), this.zone, this.popover);
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
  }
}
