// The questions the page asks, and the answers in the shape it shows them in.

import { ask, save } from "./api.js";
import { KEY_METRICS } from "./metrics.js";
import { windowParameters } from "./time.js";

const moment = (text) => (text ? Date.parse(text) : null);

/** A comparison needs a window that has something before it. */
export const compares = (state) => state.compare === "on" && state.range !== "all";

const comparing = (state) => (compares(state) ? "previous_period" : undefined);

/** The metrics an answer is to have, each once. */
const fields = (...names) => [...new Set(names)].join(",");

/** Values, and what they were in the period before: null where there is nothing to compare with. */
const row = (r) => ({ values: r, before: r.comparison?.previous ?? null });

const span = (window) => ({ since: moment(window?.since), until: moment(window?.until) });

/**
 * The figures of all campaigns, or of one:
 *
 * - `values` and `before`, over the whole window
 * - `platforms`: `{ platform, values, before }`
 * - `points`: `{ since, until, values, before }`, one an increment
 * - `since`, `until` and `previous`, the windows; `firstEvent`, `lastEvent`, `countedAt`, `stale`
 */
export async function insights(state, increment, options) {
  const path = state.campaign ? `/campaign/${state.campaign}/insights` : "/insights";
  const question = {
    ...windowParameters(state), time_increment: increment, compare: comparing(state), limit: 1000,
    fields: fields(...KEY_METRICS, state.metric),
  };
  // The split shows all platforms, whichever is chosen.
  const [answer, whole] = await Promise.all([
    ask(path, { ...question, platform: state.platform }, options),
    state.platform ? ask(path, { ...question, time_increment: "all" }, options) : null,
  ]);
  const fresh = answer.freshness;
  return {
    ...row(answer.totals),
    platforms: (whole ?? answer).platforms.map((r) => ({ platform: r.platform, ...row(r) })),
    points: answer.data.map((r) => ({ ...span(r), ...row(r) })),
    ...span(answer.window),
    previous: answer.previous_window ? span(answer.previous_window) : null,
    firstEvent: moment(fresh?.first_event_time),
    lastEvent: moment(fresh?.last_event_time),
    countedAt: moment(fresh?.counted_at),
    stale: fresh?.stale ?? false,
    increment,
  };
}

/** One metric of several campaigns over time: a map from campaign to its points. */
export async function trends(state, metric, increment, ids, options) {
  const answer = await ask("/insights", {
    ...windowParameters(state), platform: state.platform, time_increment: increment, fields: metric,
    campaigns: ids.join(","), breakdown: "campaign", limit: 5000,
  }, options);
  const found = new Map(ids.map((id) => [id, []]));
  for (const r of answer.data) found.get(r.campaign_id)?.push({ ...span(r), value: r[metric] ?? null });
  return found;
}

const list = (state, question, at) => ({
  ...windowParameters(state, at), platform: state.platform, compare: comparing(state), ...question,
});

/**
 * A page of campaigns with these metrics: `{ rows: [{ id, values, before }], next, total, totals }`, `totals` being
 * the sums over all `total` campaigns of the list. `at` is the moment that a range such as the last hour ends at: all pages of a list have the same.
 */
export async function campaigns(state, { metrics, ...question }, options, at = Date.now()) {
  const answer = await ask("/campaigns", list(state, { ...question, fields: fields(...metrics) }, at), options);
  return {
    rows: answer.data.map((r) => ({ id: r.campaign_id, ...row(r) })),
    next: answer.paging.next_cursor,
    total: answer.paging.total,
    totals: row(answer.totals),
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

/** Alerts, the last happening first, and whether there are more. */
export async function alerts(question, options) {
  const { data, paging } = await ask("/alerts", question, options);
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
