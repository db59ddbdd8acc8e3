// Puts the parts together: the address says what is shown, the live feed says when to ask again.

import { Alerts } from "./alerts.js";
import { Problem, useKey } from "./api.js";
import { Controls } from "./controls.js";
import { el, svg } from "./dom.js";
import { Live } from "./live.js";
import { Overview } from "./overview.js";
import { ask, unanswered } from "./panel.js";
import { Pipeline } from "./pipeline.js";
import { CampaignPage } from "./campaign.js";
import { go, link, misunderstood, now, onChange, relink } from "./state.js";
import { tell } from "./status.js";

const content = document.getElementById("content");
const pages = document.getElementById("pages");

/** Between two questions that only bring what is shown up to date. */
const REST = 500;
/** A question that took long is paid for with a longer rest. */
const SHARE = 3;
/** Without a live feed the page asks by itself; with one too, lest it miss that the database is away. */
const POLL = 5_000;
const LOOK = 15_000;

const controls = new Controls();
const views = { overview: new Overview(), campaign: new CampaignPage(), alerts: new Alerts(), pipeline: new Pipeline() };
const frame = el("div");
content.append(frame);

const nameOf = (state) => (state.view === "overview" && state.campaign ? "campaign" : state.view);
const TITLES = { overview: "Overview", campaign: "Campaign", alerts: "Alerts", pipeline: "Pipeline" };

let loading = null;
let again = null;
let look = null;

/** Shows what the state asks for. */
function show(state) {
  const name = nameOf(state);
  const view = views[name];
  const complaints = misunderstood();
  const parts = [];
  if (complaints.length) {
    parts.push(el("p", { class: "note", role: "status", text:
      `This page does not understand ${complaints.join(", ")} in the link, and shows the rest.` }));
  }
  if (name === "overview" || name === "campaign") parts.push(controls.root);
  parts.push(view.root);
  if ([...frame.children].some((child, i) => child !== parts[i]) || frame.children.length !== parts.length) frame.replaceChildren(...parts);
  document.title = `${name === "campaign" ? state.campaign : TITLES[name]} · adflux`;
  for (const a of pages.children) {
    if (a.dataset.view === state.view) a.setAttribute("aria-current", state.campaign ? "true" : "page");
    else a.removeAttribute("aria-current");
    a.href = link({ view: a.dataset.view, campaign: "" });
  }
  relink();
  controls.update(state, null);
  view.prepare(state);
  load({ quiet: false });
}

async function load({ quiet }) {
  loading?.abort();
  clearTimeout(again);
  clearTimeout(look);
  again = null;
  const controller = (loading = new AbortController());
  if (!quiet) content.setAttribute("aria-busy", "true");
  const started = Date.now();
  const state = now();
  ask(state);
  let answer, error;
  try {
    answer = await views[nameOf(state)].load(state, { signal: controller.signal, quiet });
  } catch (caught) {
    error = caught;
  }
  // Something else is shown by now.
  if (loading !== controller) return;
  controller.abort();
  loading = null;
  content.setAttribute("aria-busy", "false");
  if (error) return failed(error);
  if (!performance.getEntriesByName("numbers").length) performance.mark("numbers");
  if (answer?.since) controls.update(state, answer);
  tell({ error: null, stale: answer?.stale ?? false, ...(answer?.countedAt ? { countedAt: answer.countedAt } : {}) });
  const took = Date.now() - started;
  rested = Date.now() + Math.max(REST - took, took * SHARE);
  look = setTimeout(() => load({ quiet: true }), following ? LOOK : POLL);
  if (wanted) soon();
}

function failed(error) {
  unanswered();
  if (error instanceof Problem && error.status === 401) return askForKey(error);
  if (error instanceof Problem && error.parameter === "cursor") return go({ after: "" }, { replace: true });
  tell({ error });
  again = setTimeout(() => load({ quiet: true }), 2_000);
}

let wanted = false;
let rested = 0;
let following = false;

/** Asks again when it is time: something was counted. */
function soon() {
  wanted = true;
  if (loading || again) return;
  again = setTimeout(() => {
    again = null;
    wanted = false;
    load({ quiet: true });
  }, Math.max(0, rested - Date.now()));
}

const live = {
  open() {
    following = true;
    views.pipeline.listen();
    tell({ live: true });
  },
  lost(error) {
    following = false;
    tell({ live: false });
    if (error instanceof Problem && error.status === 401) return;
    soon();
  },
  event(name, data) {
    if (name === "totals") views.overview.ticker.take(data);
    if (name === "progress") {
      views.pipeline.progress(data);
      if (data.counted_at) tell({ countedAt: Date.parse(data.counted_at) });
    }
    if (["progress", "alert", "reset"].includes(name)) soon();
  },
};

/* The theme */

const SUN = "M12 4V2m0 20v-2m8-8h2M2 12h2m13.7-5.7 1.4-1.4M4.9 19.1l1.4-1.4m0-11.4L4.9 4.9m14.2 14.2-1.4-1.4M12 16a4 4 0 1 0 0-8 4 4 0 0 0 0 8Z";
const MOON = "M20.5 14.5A8.5 8.5 0 0 1 9.5 3.5a8.5 8.5 0 1 0 11 11Z";
const dark = matchMedia("(prefers-color-scheme: dark)");
const isDark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen === "auto" ? dark.matches : chosen === "dark";
};
const themeButton = document.getElementById("theme");

function showTheme() {
  const label = isDark() ? "Switch to light mode" : "Switch to dark mode";
  themeButton.setAttribute("aria-label", label);
  themeButton.title = label;
  themeButton.replaceChildren(svg("svg", { viewBox: "0 0 24 24", "aria-hidden": "true" }, svg("path", { d: isDark() ? SUN : MOON })));
}
themeButton.addEventListener("click", () => {
  const next = isDark() ? "light" : "dark";
  // What the system says as well is not kept: the page goes on following it.
  const chosen = (next === "dark") === dark.matches ? "auto" : next;
  document.documentElement.dataset.theme = chosen;
  if (chosen === "auto") localStorage.removeItem("adflux-theme");
  else localStorage.setItem("adflux-theme", chosen);
  showTheme();
});
dark.addEventListener("change", showTheme);
showTheme();

/* The key */

function askForKey(problem) {
  const dialog = document.getElementById("key");
  if (dialog.open) return;
  const input = el("input", { class: "field", type: "password", required: true, autocomplete: "off", name: "key" });
  dialog.replaceChildren(el("form", {
    method: "dialog",
    onsubmit: () => {
      useKey(input.value);
      load({ quiet: false });
      start();
    },
  },
  el("h2", { id: "key-title", text: "This server asks for an API key" }),
  el("p", { class: "quiet", text: `${problem.message}. A key with the read scope is enough; “adflux keys create” makes one. The page keeps it until you close this tab.` }),
  el("label", {}, "API key", input),
  el("button", { class: "button main" }, "Use this key")));
  dialog.showModal();
}

/* Links within the page do not load it anew */

document.addEventListener("click", (e) => {
  const a = e.target.closest("a[href^='?']");
  if (!a || e.defaultPrevented || e.button || e.metaKey || e.ctrlKey || e.shiftKey || e.altKey) return;
  e.preventDefault();
  history.pushState(null, "", a.getAttribute("href"));
  dispatchEvent(new PopStateEvent("popstate"));
  scrollTo(0, 0);
});

for (const view of ["overview", "alerts", "pipeline"]) {
  pages.append(el("a", { "data-view": view, href: link({ view, campaign: "" }), text: TITLES[view] }));
}

let feed = null;
function start() {
  feed?.end();
  feed = new Live("/live", live);
}

onChange((state, before) => {
  show(state);
  if (state.campaign !== before.campaign || state.view !== before.view) content.focus({ preventScroll: true });
});
tell({ retry: () => { load({ quiet: true }); start(); } });
show(now());
start();
