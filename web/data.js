// The questions the page asks, and the answers in the shape it shows them in.

import { ask, save } from "./api.js";
import { KEY_METRICS, isOfMoney } from "./metrics.js";
import { windowParameters } from "./time.js";

const moment = (text) => (text ? Date.parse(text) : null);

/** A comparison needs a window that has something before it. */
export const compares = (state) => state.compare === "on" && state.range !== "all";

const comparing = (state) => (compares(state) ? "previous_period" : undefined);

/** The metrics an answer is to have, each once. */
const fields = (...names) => [...new Set(names)].join(",");

/** Values, and what they were in the period before: null where there is nothing to compare with. */
const row = (r) => ({ values: r, before: r.comparison?.previous ?? null });

/** Sums over campaigns, what is unknown of some of these, and those of each currency that their money is of: that of several is never added up. */
const sums = (totals, byCurrency) => ({ ...row(totals), partial: totals.partial ?? [], currencies: byCurrency.map((r) => ({ currency: r.currency, ...row(r) })) });

/** What campaigns were called in the answers so far: the live feed tells their ids alone. */
const names = new Map();
/** The name of a campaign, or its id where no name is known. */
export const called = (id) => names.get(id) ?? id;

/** What a campaign is called and whose it is, each null where that is not known. */
function described(r) {
  if (r.campaign_id && r.campaign_name) names.set(r.campaign_id, r.campaign_name);
  return {
    name: r.campaign_name ?? null, account: r.account_id ?? null, currency: r.currency ?? null, accountZone: r.account_time_zone ?? null,
    accountCurrency: (r.account_currency === undefined ? r.currency : r.account_currency) ?? null,
  };
}

/** What reports say of a day besides its numbers; null of what no report is about. */
const reported = (r) => (r.observed_at
  ? { provisional: r.provisional, observedAt: moment(r.observed_at), partial: r.partial, expected: r.expected ?? {} } : null);

const span = (window) => ({ since: moment(window?.since), until: moment(window?.until) });

/**
 * The figures of all campaigns, or of one:
 *
 * - `values` and `before`, over the whole window, and `currencies`: `{ currency, values, before }` of each
 * - `claimedBy`, the platforms whose conversions and revenue are in them
 * - of one campaign, `name`, `account`, `currency`, `accountCurrency` and `accountZone`
 * - `rates`, by which money was converted: `{ source, first_day, last_day }`, null where none was
 * - `platforms`: `{ platform, values, before, currencies }`
 * - `line`, the points that a line can be drawn through, and the `currency` that they are of
 * - `points`: `{ since, until, values, before, reported }`, one an increment
 * - `since`, `until` and `previous`, the windows; `firstEvent`, `lastEvent`, `countedAt`, `stale`
 */
export async function insights(state, increment, options) {
  const path = state.campaign ? `/campaign/${state.campaign}/insights` : "/insights";
  const question = {
    ...windowParameters(state), time_increment: increment, compare: comparing(state), currency: state.into, limit: 1000,
    // Of a campaign's day it is said which of the numbers that platforms report are not known.
    fields: fields(...KEY_METRICS, state.metric, ...(state.campaign ? ["impressions", "clicks"] : [])),
  };
  // The split shows all platforms, whichever is chosen.
  const [answer, whole] = await Promise.all([
    ask(path, { ...question, platform: state.platform }, options),
    state.platform ? ask(path, { ...question, time_increment: "all" }, options) : null,
  ]);
  const fresh = answer.freshness;
  const { totals } = answer;
  const byCurrency = answer.totals_by_currency ?? [{ ...totals, currency: answer.currency ?? null }];
  const split = byCurrency.length > 1 && isOfMoney(state.metric)
    ? await ofEachCurrency(state, question, byCurrency.map((r) => r.currency), options) : null;
  const currenciesOf = (platform) => split?.platforms.filter((r) => r.platform === platform)
    ?? byCurrency.map((r) => ({ currency: r.currency }));
  const points = answer.data.map((r) => ({ ...span(r), ...row(r), reported: reported(r) }));
  return {
    ...described(answer),
    ...sums(totals, byCurrency),
    claimedBy: totals.claimed_by ?? [],
    rates: answer.rates ?? null,
    platforms: (whole ?? answer).platforms.map((r) => ({ platform: r.platform, ...row(r), currencies: currenciesOf(r.platform) })),
    points,
    line: split?.line ?? { currency: byCurrency.length === 1 ? byCurrency[0].currency : null, points },
    ...span(answer.window),
    previous: answer.previous_window ? span(answer.previous_window) : null,
    firstEvent: moment(fresh?.first_event_time),
    lastEvent: moment(fresh?.last_event_time),
    countedAt: moment(fresh?.counted_at),
    stale: fresh?.stale ?? false,
    increment,
  };
}

/** The metric where money is of several currencies: the points of the chosen one, or of the first that is known, and what platforms have of each. */
async function ofEachCurrency(state, question, currencies, options) {
  const chosen = state.currency === "none" ? null : state.currency;
  const currency = currencies.includes(chosen) ? chosen : currencies.find((c) => c !== null);
  const parts = { ...question, platform: state.platform, fields: state.metric, limit: 5000 };
  const [times, platforms] = await Promise.all([
    ask("/insights", { ...parts, breakdown: "currency" }, options),
    ask("/insights", { ...parts, platform: undefined, breakdown: "platform,currency", time_increment: "all" }, options),
  ]);
  const points = times.data.filter((r) => r.currency === currency);
  return {
    line: { currency, points: points.map((r) => ({ ...span(r), ...row(r), reported: null })) },
    // A platform without campaigns of a currency has a row of nothing.
    platforms: platforms.data.filter((r) => r[state.metric]).map((r) => ({ platform: r.platform, currency: r.currency, ...row(r) })),
  };
}

/** One metric of several campaigns over time: a map from campaign to its points. */
export async function trends(state, metric, increment, ids, options) {
  const answer = await ask("/insights", {
    ...windowParameters(state), platform: state.platform, currency: state.into, time_increment: increment, fields: metric,
    campaigns: ids.join(","), breakdown: "campaign", limit: 5000,
  }, options);
  const found = new Map(ids.map((id) => [id, []]));
  for (const r of answer.data) found.get(r.campaign_id)?.push({ ...span(r), value: r[metric] ?? null });
  return found;
}

const list = (state, question, at) => ({
  ...windowParameters(state, at), platform: state.platform, currency: state.into, compare: comparing(state), ...question,
});

/**
 * A page of campaigns with these metrics: `{ rows: [{ id, name, currency, values, before }], next, total, totals }`, `totals` being
 * the sums over all `total` campaigns of the list, in all and of each currency. `at` is the moment that a range such as the last hour ends at: all pages of a list have the same.
 */
export async function campaigns(state, { metrics, ...question }, options, at = Date.now()) {
  const answer = await ask("/campaigns", list(state, { ...question, fields: fields(...metrics) }, at), options);
  return {
    rows: answer.data.map((r) => ({ id: r.campaign_id, ...described(r), ...row(r) })),
    next: answer.paging.next_cursor,
    total: answer.paging.total,
    totals: sums(answer.totals, answer.totals_by_currency),
  };
}

/** Saves all campaigns of a list as CSV. */
export const saveCampaigns = (state, question) =>
  save("/campaigns", { ...list(state, question), format: "csv" }, "campaigns.csv");

/** The newest events of a campaign in the window, on the platform that is chosen. */
export async function newestEvents(state, limit, options) {
  const question = { ...windowParameters(state), platform: state.platform, limit };
  const answer = await ask(`/campaign/${state.campaign}/events`, question, options);
  return answer.data;
}

/** What was known at an instant of the figures of a campaign over a window: their values. */
export async function figuresThen(state, { since, until }, options) {
  const window = since === null ? { date_preset: "maximum" }
    : { since: new Date(since).toISOString(), until: new Date(until).toISOString() };
  const answer = await ask(`/campaign/${state.campaign}/insights`,
    { ...window, platform: state.platform, currency: state.into, as_of: state.asOf, fields: fields(...KEY_METRICS) }, options);
  return answer.totals;
}

/** The exchange rates that are known: `{ source, currencies, account_currencies }`. */
export const rates = (options) => ask("/rates", {}, options);

/** What was said of a campaign's day, the last first: `{ rows, next }`. */
export async function restatements(campaign, day, limit, options) {
  const { data, paging } = await ask(`/campaign/${campaign}/restatements`, { day, limit }, options);
  return { rows: data, next: paging.next_cursor };
}

/** Alerts, the last happening first, and whether there are more. */
export async function alerts(question, options) {
  const { data, paging } = await ask("/alerts", question, options);
  data.forEach(described);
  return { rows: data, next: paging.next_cursor };
}

/** The alert rules. */
export const alertRules = async (options) => (await ask("/alerts/rules", {}, options)).data;

/** How counting goes, as the server tells it. */
export const pipeline = (options) => ask("/pipeline", {}, options);

/** The newest dead letters: `{ rows, next }`. */
export async function deadLetters(question, options) {
  const answer = await ask("/dead-letters", question, options);
  return { rows: answer.data, next: answer.paging.next_cursor };
}
