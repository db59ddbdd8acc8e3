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
const factor = digits(2);
const share = percent(2);
const change = percent(1);
const tenths = digits(1);

/** A count, with separators. */
export const whole = (value) => (value === null || value === undefined ? DASH : count.format(value));

/** An exact value, to the digits its kind has; null is a dash. */
export function exact(metric, value) {
  if (value === null || value === undefined) return DASH;
  switch (METRICS[metric].kind) {
    case "money":
      return money.format(value);
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
export function brief(metric, value) {
  const large = METRICS[metric].kind === "money" && value !== null && Math.abs(value) >= 10_000;
  return large ? count.format(value) : exact(metric, value);
}

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
