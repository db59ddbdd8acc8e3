// What each metric is called, how it is written, and whether more of it is good.
// The formulas are the server's; the page derives nothing.

/** `good`: 1 if more is better, -1 if less is, 0 if it is neither. */
export const METRICS = {
  cost: { label: "Spend", kind: "money", good: 0, about: "What the platforms charged" },
  revenue: { label: "Revenue", kind: "money", good: 1, about: "What conversions brought in" },
  profit: { label: "Profit", kind: "money", good: 1, about: "Revenue less spend" },
  roas: { label: "ROAS", kind: "factor", good: 1, about: "Return on ad spend: revenue ÷ spend" },
  ctr: { label: "CTR", kind: "share", good: 1, about: "Click-through rate: clicks ÷ impressions" },
  cvr: { label: "CVR", kind: "share", good: 1, about: "Conversion rate: conversions ÷ clicks" },
  cpa: { label: "CPA", kind: "money", good: -1, about: "Cost per acquisition: spend ÷ conversions" },
  cpc: { label: "CPC", kind: "money", good: -1, about: "Cost per click: spend ÷ clicks" },
  cpm: { label: "CPM", kind: "money", good: -1, about: "Spend for 1,000 impressions" },
  aov: { label: "AOV", kind: "money", good: 1, about: "Average order value: revenue ÷ conversions" },
  conversions: { label: "Conversions", kind: "parts", good: 1, about: "Purchases, sign-ups and the like" },
  clicks: { label: "Clicks", kind: "count", good: 1, about: "Clicks on ads" },
  impressions: { label: "Impressions", kind: "count", good: 0, about: "How often ads were shown" },
};

/** Those in the row of key figures. */
export const KEY_METRICS = ["cost", "revenue", "roas", "ctr", "cpa", "conversions"];

/** The platforms, in the order of the API. Their colours are in the style sheet. */
export const PLATFORMS = ["Meta", "Google", "LinkedIn", "TikTok"];

const DASH = "—";
const digits = (most, least = most) =>
  new Intl.NumberFormat(undefined, { minimumFractionDigits: least, maximumFractionDigits: most });
const percent = (most) =>
  new Intl.NumberFormat(undefined, { style: "percent", minimumFractionDigits: most, maximumFractionDigits: most });
const compact = new Intl.NumberFormat(undefined, { notation: "compact", maximumFractionDigits: 1 });
const compactPercent = new Intl.NumberFormat(undefined, { style: "percent", maximumFractionDigits: 1 });
const count = digits(0);
// Platforms report fractions of conversions: as many decimals as there are, up to two.
const parts = digits(2, 0);
const money = digits(2);
/** Formats of currencies, with their codes: signs are those of several. They are dear to make, so they are kept. */
const currencies = new Map();
const factor = digits(2);
const share = percent(2);
const change = percent(1);
const tenths = digits(1);

/** A count, with separators. */
export const whole = (value) => (value === null || value === undefined ? DASH : count.format(value));

/** Money with the code of its currency; without where none is known. `options` are those of a format. */
function inCurrency(currency, value, options = {}) {
  if (!currency) return (options.maximumFractionDigits === 0 ? count : money).format(value);
  const key = currency + JSON.stringify(options);
  let format = currencies.get(key);
  if (!format) {
    format = new Intl.NumberFormat(undefined, { style: "currency", currency, currencyDisplay: "code", ...options });
    currencies.set(key, format);
  }
  return format.format(value);
}

/** An exact value, to the digits its kind has; null is a dash. */
export function exact(metric, value, currency = null) {
  if (value === null || value === undefined) return DASH;
  switch (METRICS[metric].kind) {
    case "money":
      return inCurrency(currency, value);
    case "factor":
      return `${factor.format(value)}×`;
    case "share":
      return share.format(value);
    case "parts":
      return parts.format(value);
    default:
      return count.format(value);
  }
}

/** A value in few characters: large money without cents. */
export function brief(metric, value, currency = null) {
  const large = METRICS[metric].kind === "money" && value !== null && Math.abs(value) >= 10_000;
  return large ? inCurrency(currency, value, { minimumFractionDigits: 0, maximumFractionDigits: 0 }) : exact(metric, value, currency);
}

/** Whether there is one value a currency, where there are several: money, and what rests on it. */
export const isOfMoney = (metric) => ["money", "factor"].includes(METRICS[metric].kind);

/**
 * A metric of sums `{ values, before, currencies }` over campaigns: its values `{ currency, value, before }`, one for each currency where
 * money is of several, since those are never added up, and else one.
 */
export function amounts(metric, { values, before, currencies }) {
  const one = (of, currency) => ({ currency, value: of.values[metric] ?? null, before: of.before?.[metric] ?? null });
  if (currencies.length > 1 && isOfMoney(metric)) return currencies.map((of) => one(of, of.currency));
  const [only] = currencies.length === 1 ? currencies : [{ currency: null }];
  // Of a single one that is left of several its own: that of all is null.
  return [one(only.values?.[metric] === undefined ? { values, before } : only, only.currency)];
}

/** One of several such values, as text: which currency it is of is said in any case. */
export function ofCurrency(metric, { currency, value }, write = exact) {
  const text = write(metric, value, currency);
  if (METRICS[metric].kind === "money" && currency && value !== null) return text;
  return currency ? `${currency} ${text}` : `${text}, no currency`;
}

/** What is said of a list by money where that is of several currencies. */
export const SORTED_BY_NUMBER = "Amounts are in each account's own currency, and sorted by number.";

/** What each platform says for itself, so that two may say it of one purchase; and what rests on that. */
export const CLAIMED = ["revenue", "profit", "roas", "cvr", "cpa", "aov", "conversions"];

/** A label of an axis. */
export function tick(metric, value) {
  switch (METRICS[metric].kind) {
    case "factor":
      return `${compact.format(value)}×`;
    case "share":
      return compactPercent.format(value);
    default:
      return compact.format(value);
  }
}

/**
 * A change in words: `{ arrow, amount, word, tone }`, tone being good, bad or even. Never told by
 * colour alone.
 */
export function changeOf(metric, now, before) {
  if (now === null || now === undefined || before === null || before === undefined || before === 0) {
    return { arrow: "", amount: "", word: "nothing to compare", tone: "even" };
  }
  const relative = (now - before) / Math.abs(before);
  // 5,300 % says less than 54 times. (Of a loss there are no times.)
  const times = relative >= 10 && before > 0;
  const amount = now / before >= 1000 && times ? "over 1,000×" : times ? `${tenths.format(now / before)}×` : change.format(Math.abs(relative));
  if (amount === change.format(0)) return { arrow: "=", amount: "", word: "unchanged", tone: "even" };
  const up = relative > 0;
  const good = METRICS[metric].good * (up ? 1 : -1);
  const word = good > 0 ? "better" : good < 0 ? "worse" : up ? "more" : "less";
  return { arrow: up ? "↑" : "↓", amount, word, tone: good > 0 ? "good" : good < 0 ? "bad" : "even" };
}
