// Ranges, days and labels in the time zone the page shows.

const DAY = 86_400_000;

/** The ranges to choose from: what the API is asked for each. */
export const RANGES = {
  "1h": { label: "Last hour", rolling: 3_600_000 },
  "24h": { label: "Last 24 hours", rolling: DAY },
  today: { label: "Today", preset: "today" },
  yesterday: { label: "Yesterday", preset: "yesterday" },
  "7d": { label: "Last 7 days", preset: "last_7d", days: 7 },
  "7d_today": { label: "7 days incl. today", preset: "last_7d_including_today", days: 7 },
  "30d": { label: "Last 30 days", preset: "last_30d", days: 30 },
  "30d_today": { label: "30 days incl. today", preset: "last_30d_including_today", days: 30 },
  "90d": { label: "Last 90 days", preset: "last_90d", days: 90 },
  "90d_today": { label: "90 days incl. today", preset: "last_90d_including_today", days: 90 },
  this_month: { label: "This month", preset: "this_month" },
  last_month: { label: "Last month", preset: "last_month" },
  all: { label: "All time", preset: "maximum" },
};

/** The increments a chart can have, and how long one is at least. */
export const INCREMENTS = {
  minute: { label: "Minutes", length: 60_000 },
  hour: { label: "Hours", length: 3_600_000 },
  day: { label: "Days", length: DAY },
  week: { label: "Weeks", length: 7 * DAY },
  month: { label: "Months", length: 28 * DAY },
};

/** More points than this are no longer a line but a smear; the API has a bound as well. */
const MOST_POINTS = 400;

/** The day a moment is in, as `2026-11-23`. */
export function dayIn(zone, moment = Date.now()) {
  const parts = new Intl.DateTimeFormat("en", {
    timeZone: zone, year: "numeric", month: "2-digit", day: "2-digit",
  }).formatToParts(moment);
  const part = (type) => parts.find((p) => p.type === type).value;
  return `${part("year")}-${part("month")}-${part("day")}`;
}

/** A moment as the clocks of a zone show it, as `2026-11-23T14:30`: what a field of date and time holds. */
export function localIn(zone, moment) {
  const parts = new Intl.DateTimeFormat("en", { timeZone: zone, hour: "2-digit", minute: "2-digit", hourCycle: "h23" }).formatToParts(moment);
  const part = (type) => parts.find((p) => p.type === type).value;
  return `${dayIn(zone, moment)}T${part("hour")}:${part("minute")}`;
}

/** The moment at which the clocks of a zone show this; where they skip it, one that is an hour off. */
export function momentOf(zone, local) {
  const shown = Date.parse(`${local}Z`);
  const ahead = (moment) => Date.parse(`${localIn(zone, moment)}Z`) - moment;
  return shown - ahead(shown - ahead(shown));
}

/** A day so many days later. Days of the calendar, so clock changes do not matter. */
export function dayAfter(day, days) {
  return new Date(Date.parse(`${day}T00:00:00Z`) + days * DAY).toISOString().slice(0, 10);
}

/** Everything that a window depends on, which moves on with the day. */
export const windowOf = ({ range, from, to, zone }) => [range, from, to, zone, dayIn(zone)];

/** The parameters that ask the API for a window. */
export function windowParameters({ range, from, to, zone }, now = Date.now()) {
  const chosen = RANGES[range];
  if (from) return { since: from, until: dayAfter(to, 1), time_zone: zone };
  if (chosen.preset) return { date_preset: chosen.preset, time_zone: zone };
  const minute = Math.floor(now / 60_000) * 60_000;
  return { since: new Date(minute - chosen.rolling).toISOString(), time_zone: zone };
}

/** About how long the window is; for all time a guess. */
export function spanOf({ range, from, to, zone }, now = Date.now()) {
  const chosen = RANGES[range];
  if (from) return Date.parse(dayAfter(to, 1)) - Date.parse(from);
  if (chosen.rolling) return chosen.rolling;
  if (range === "this_month") return Number(dayIn(zone, now).slice(8)) * DAY;
  return (chosen.days ?? { last_month: 30, all: 60 }[range] ?? 1) * DAY;
}

/** The increments that suit a span of milliseconds: not too many points, not too few. */
export function incrementsFor(span) {
  const fit = Object.keys(INCREMENTS).filter((name) => {
    const points = span / INCREMENTS[name].length;
    return points <= MOST_POINTS && points >= 1.5;
  });
  return fit.length ? fit : ["minute"];
}

/** The increment a chart has unless another is chosen. */
export function usualIncrement(span) {
  const hours = span / 3_600_000;
  const usual = hours <= 3 ? "minute" : hours <= 75 ? "hour" : hours <= 92 * 24 ? "day" : hours <= 760 * 24 ? "week" : "month";
  const fit = incrementsFor(span);
  return fit.includes(usual) ? usual : fit.at(-1);
}

/** Formats moments in a zone. Formatters are dear to make, so they are kept. */
const formatters = new Map();
function format(zone, options, moment) {
  const key = zone + JSON.stringify(options);
  let formatter = formatters.get(key);
  if (!formatter) formatters.set(key, (formatter = new Intl.DateTimeFormat(undefined, { timeZone: zone, ...options })));
  return formatter.format(moment);
}

const TIME = { hour: "numeric", minute: "2-digit" };

/** The label of a point under the axis. */
export function axisLabel(zone, increment, moment, span) {
  if (increment === "month") return format(zone, { month: "short", year: "2-digit" }, moment);
  if (increment === "day" || increment === "week" || span > 2 * DAY) {
    return format(zone, { month: "short", day: "numeric" }, moment);
  }
  return format(zone, TIME, moment);
}

/** What a point is about, in full. */
export function pointLabel(zone, increment, since, until) {
  switch (increment) {
    case "month":
      return format(zone, { month: "long", year: "numeric" }, since);
    case "week":
      return `${format(zone, { month: "short", day: "numeric" }, since)} – ${format(zone, { month: "short", day: "numeric" }, until - 1)}`;
    case "day":
      return format(zone, { weekday: "short", month: "short", day: "numeric" }, since);
    case "hour":
      return `${format(zone, { weekday: "short", month: "short", day: "numeric" }, since)}, ${format(zone, TIME, since)} – ${format(zone, TIME, until)}`;
    default:
      return `${format(zone, { month: "short", day: "numeric" }, since)}, ${format(zone, TIME, since)}`;
  }
}

/** A window in words: the days it has, or the minutes if it is short. */
export function windowLabel(zone, since, until) {
  const day = { month: "short", day: "numeric" };
  if (until - since < 2 * DAY) {
    const both = { ...day, ...TIME };
    return `${format(zone, both, since)} – ${format(zone, both, until)}`;
  }
  return `${format(zone, day, since)} – ${format(zone, day, until - 1)}`;
}

/** A moment to the second, with its day if that is not today. */
export function clock(zone, moment) {
  const time = { hour: "numeric", minute: "2-digit", second: "2-digit" };
  const today = dayIn(zone, moment) === dayIn(zone);
  return format(zone, today ? time : { month: "short", day: "numeric", ...time }, moment);
}

/** A day of a calendar, in full. */
export const dayLabel = (day) => format("UTC", { weekday: "short", month: "short", day: "numeric", year: "numeric" }, Date.parse(day));

/** A moment to the minute, with its day and year. */
export const instantLabel = (zone, moment) => format(zone, { month: "short", day: "numeric", year: "numeric", ...TIME }, moment);

/** How long ago, in the one unit that matters: `3 s`, `5 min`, `2 h`, `4 d`. */
export function ago(milliseconds) {
  const seconds = Math.max(0, Math.round(milliseconds / 1000));
  if (seconds < 60) return `${seconds} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min`;
  if (seconds < 172_800) return `${Math.floor(seconds / 3600)} h`;
  return `${Math.floor(seconds / 86_400)} d`;
}

/** The zone of this browser. */
export const HERE = Intl.DateTimeFormat().resolvedOptions().timeZone || "UTC";

/** Whether this browser knows a zone. */
export function isZone(zone) {
  try {
    new Intl.DateTimeFormat("en", { timeZone: zone });
    return true;
  } catch {
    return false;
  }
}

/** How far a zone is from UTC now: `UTC+1`. */
export function offsetOf(zone) {
  const parts = new Intl.DateTimeFormat("en", { timeZone: zone, timeZoneName: "shortOffset" }).formatToParts(Date.now());
  const name = parts.find((p) => p.type === "timeZoneName").value;
  return name.replace("GMT", "UTC").replace("-", "−");
}
