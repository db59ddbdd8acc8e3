// What the page shows is what its address says, and nothing else: a link shows the same page, and
// back and forward do what they should. What a person prefers (the theme) is not part of it.

import { METRICS, PLATFORMS } from "./metrics.js";
import { visible } from "./outside.js";
import { HERE, INCREMENTS, RANGES, isZone } from "./time.js";

const VIEWS = ["overview", "alerts", "pipeline"];
const DAY = /^\d{4}-\d{2}-\d{2}$/;
const isDay = (text) => DAY.test(text) && !Number.isNaN(Date.parse(text)) && new Date(text).toISOString().startsWith(text);
/** An instant of UTC, to the second. */
const isInstant = (text) => /^\d{4}-\d{2}-\d{2}T\d{2}:\d{2}:\d{2}Z$/.test(text) && !Number.isNaN(Date.parse(text));
const isCampaign = (text) => /^[A-Za-z0-9_.:-]{1,64}$/.test(text);
const isText = (most) => (text) => text.length <= most && text === visible(text);
const oneOf = (names) => (text) => names.includes(text);

/** Each parameter: its name in the address, its value when absent, and which values it takes. */
const PARAMETERS = {
  view: { usual: "overview", valid: oneOf(VIEWS) },
  campaign: { usual: "", valid: isCampaign },
  range: { usual: "24h", valid: oneOf(Object.keys(RANGES)) },
  from: { usual: "", valid: isDay },
  to: { usual: "", valid: isDay },
  // Always written, so that a link means the same in another country.
  zone: { name: "tz", usual: null, valid: isZone },
  compare: { usual: "on", valid: oneOf(["on", "off"]) },
  metric: { usual: "revenue", valid: oneOf(Object.keys(METRICS)) },
  // That which all money is converted into; otherwise each account has its own.
  into: { name: "in", usual: "", valid: (text) => /^[A-Z]{3}$/.test(text) },
  // Of several, the one that the chart is of.
  currency: { usual: "", valid: (text) => /^([A-Z]{3}|none)$/.test(text) },
  by: { usual: "", valid: oneOf(Object.keys(INCREMENTS)) },
  platform: { usual: "", valid: oneOf(PLATFORMS) },
  search: { name: "q", usual: "", valid: isText(64) },
  filter: { usual: "", valid: isText(200) },
  sort: { usual: "profit", valid: oneOf(Object.keys(METRICS)) },
  order: { usual: "desc", valid: oneOf(["desc", "asc"]) },
  after: { usual: "", valid: isText(1024) },
  // Of one campaign: the day whose reports are listed, and the instant whose knowledge is compared with.
  day: { usual: "", valid: isDay },
  asOf: { name: "as_of", usual: "", valid: isInstant },
  reason: { usual: "", valid: (text) => /^[a-z_]{1,64}$/.test(text) },
};

/** Reads an address: the state, and what in it could not be understood. */
export function read(search) {
  const given = new URLSearchParams(search);
  const state = {};
  const complaints = [];
  const known = new Set();
  for (const [key, { name = key, usual, valid }] of Object.entries(PARAMETERS)) {
    known.add(name);
    const text = given.get(name);
    state[key] = usual === null ? HERE : usual;
    if (text === null || text === "") continue;
    if (valid(text)) state[key] = text;
    else complaints.push(visible(`“${name}=${text.slice(0, 60)}”`));
  }
  for (const name of new Set(given.keys())) if (!known.has(name)) complaints.push(visible(`“${name.slice(0, 60)}”`));
  if (state.from || state.to) {
    if (!state.from || !state.to || state.from > state.to) {
      complaints.push("the days “from” and “to”");
      state.from = state.to = "";
    } else state.range = "custom";
  }
  return { state, complaints };
}

/** Writes a state as an address, as short as it can be. */
export function write(state) {
  const out = new URLSearchParams();
  for (const [key, { name = key, usual }] of Object.entries(PARAMETERS)) {
    const value = key === "range" && state.from ? "" : state[key];
    if (value && value !== usual) out.set(name, value);
  }
  const text = out.toString().replaceAll("%2F", "/").replaceAll("%3C", "<").replaceAll("%3E", ">").replaceAll("%3A", ":");
  return text ? `?${text}` : "?";
}

const listeners = new Set();
let { state: current, complaints } = read(location.search);
history.replaceState(null, "", write(current) + location.hash);

/** The state. Not to be changed but by `go`. */
export const now = () => current;

/** What the address asked for that does not exist. */
export const misunderstood = () => complaints;

/** Calls `listener(state, before)` after each change. */
export const onChange = (listener) => listeners.add(listener);

/** Changes parts of the state. With `replace`, back does not return to what was before. */
export function go(changes, { replace = false } = {}) {
  const before = current;
  current = changed(changes);
  // Another question has other pages.
  if (!("after" in changes) && asked(before) !== asked(current)) current.after = "";
  complaints = [];
  const address = write(current);
  if (address === write(before)) return;
  history[replace ? "replaceState" : "pushState"](null, "", address);
  for (const listener of listeners) listener(current, before);
}

/** The state with these changes. What is about one campaign goes with it. */
const changed = (changes) => {
  const goes = "campaign" in changes && changes.campaign !== current.campaign;
  return { ...current, ...(goes ? { day: "", asOf: "" } : {}), ...changes };
};

const asked = (s) => JSON.stringify([s.range, s.from, s.to, s.zone, s.platform, s.into, s.search, s.filter, s.sort, s.order]);

addEventListener("popstate", () => {
  const before = current;
  ({ state: current, complaints } = read(location.search));
  for (const listener of listeners) listener(current, before);
});

/** The address of this page with other values: what links point to. */
export const link = (changes) => write(changed({ after: "", ...changes }));

/** Makes a link the one to a campaign, now and whenever the state changes. */
export function linkTo(a, campaign) {
  a.dataset.campaign = campaign;
  a.href = link({ view: "overview", campaign });
}

/** Brings the links on the page in step with the state. */
export function relink() {
  for (const a of document.querySelectorAll("a[data-campaign]")) linkTo(a, a.dataset.campaign);
}
