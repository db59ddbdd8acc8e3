// How fresh what is shown is, and what is wrong: one line in the bar, one banner below it.

import { Problem, Unreachable } from "./api.js";
import { el, say, svg } from "./dom.js";
import { asOf } from "./panel.js";
import { now } from "./state.js";
import { ago, clock } from "./time.js";

const pulse = document.getElementById("pulse");
const banner = document.getElementById("banner");
const dot = el("i");
const words = el("span");
pulse.append(dot, words);

/** No event for so long is worth a word. */
const QUIET = 5 * 60_000;

const status = {
  /** When the newest event in them was counted. */
  countedAt: null,
  /** Whether the live feed is open. */
  live: false,
  /** Why the newest question was not answered; none if it was. */
  error: null,
  /** The answer came from a cache because the database did not answer. */
  stale: false,
  retry: () => {},
};

/** Changes what is known, and shows it. */
export function tell(changes) {
  const before = status.countedAt;
  Object.assign(status, changes);
  if (changes.countedAt && before && changes.countedAt > before) beat();
  show();
}

function beat() {
  pulse.classList.remove("beat");
  void pulse.offsetWidth; // So that the animation starts anew.
  pulse.classList.add("beat");
}

function show() {
  const { countedAt, live, error, stale } = status;
  const from = asOf();
  const since = countedAt === null ? null : Date.now() - countedAt;
  const [kind, text] =
    error instanceof Unreachable ? ["lost", "Disconnected"]
    : error ? ["lost", "Not responding"]
    : stale ? ["late", "Not up to date"]
    : since === null ? [live ? "live" : "", live ? "Live · no events yet" : "Connecting …"]
    : !live ? ["late", `Reconnecting · updated ${ago(since)} ago`]
    : since > QUIET ? ["late", `Quiet · updated ${ago(since)} ago`]
    : ["live", `Live · updated ${ago(since)} ago`];
  for (const name of ["live", "late", "lost"]) pulse.classList.toggle(name, name === kind);
  say(words, text);
  pulse.title = from ? `Numbers as of ${clock(now().zone, from)}` : "";
  document.getElementById("content").classList.toggle("dim", Boolean(error) && from !== null);
  alarm(from);
}

/** What is wrong, what that means for the numbers, and what to do. */
function trouble(from) {
  const { error, stale } = status;
  const numbers = from ? ` The numbers below are as of ${clock(now().zone, from)}.` : "";
  if (error instanceof Unreachable) {
    return {
      kind: "disconnected", bad: true, title: "No connection to adflux.",
      text: `${numbers} The page keeps trying. If this lasts, check whether the server is running.`,
    };
  }
  if (error instanceof Problem && error.status === 429) {
    return { kind: "failing", title: "Too many requests.", text: `${numbers} The page tries again in a moment.` };
  }
  if (error instanceof Problem && error.status >= 500) {
    return {
      kind: from ? "stale" : "failing", bad: !from, title: from ? "These numbers are not up to date." : "adflux cannot read its database.",
      text: `${numbers} The server says: ${error.message}. Run “adflux doctor” to see what is wrong; the page keeps trying.`,
    };
  }
  if (error) {
    return { kind: "failing", bad: true, title: `${error.title ?? "Something failed"}.`, text: ` ${error.message}.` };
  }
  if (stale) {
    return {
      kind: "stale", title: "These numbers are not up to date.",
      text: " The database does not answer; they are what was counted before. Run “adflux doctor” to see what is wrong.",
    };
  }
  return null;
}

let shown = "";

function alarm(from) {
  const what = trouble(from);
  const key = what ? what.kind + what.title + what.text : "";
  if (key === shown) return;
  shown = key;
  banner.replaceChildren();
  if (!what) return;
  banner.append(
    el("div", { class: what.bad ? "alarm bad" : "alarm", "data-state": what.kind },
      svg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" },
        svg("path", { d: "M12 8v5m0 3.5v.01M10.3 3.9 2.6 17.3A2 2 0 0 0 4.3 20.3h15.4a2 2 0 0 0 1.7-3L13.7 3.9a2 2 0 0 0-3.4 0Z" })),
      el("p", {}, el("b", { text: what.title }), what.text),
      el("button", { class: "button", type: "button", onclick: () => status.retry() }, "Try now")));
}

setInterval(show, 1000);
show();
