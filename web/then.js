// What was known then: a campaign's key figures as they stood at an instant, beside those of now.

import { Problem } from "./api.js";
import { figuresThen } from "./data.js";
import { el, say } from "./dom.js";
import { changeMark } from "./figures.js";
import { KEY_METRICS, METRICS, exact } from "./metrics.js";
import { Panel } from "./panel.js";
import { go, now } from "./state.js";
import { instantLabel, localIn, momentOf, windowOf } from "./time.js";

export class Then {
  constructor() {
    this.field = el("input", { class: "field", type: "datetime-local", required: true, name: "as_of" });
    this.end = el("button", { class: "button plain", type: "button", text: "Only now", onclick: () => go({ asOf: "" }) });
    this.form = el("form", {
      class: "then",
      onsubmit: (e) => {
        e.preventDefault();
        go({ asOf: new Date(momentOf(now().zone, this.field.value)).toISOString().replace(".000", "") });
      },
    }, el("label", {}, "Compare with what was known on", this.field), el("button", { class: "button" }, "Compare"), this.end);
    this.title = el("h2");
    this.problem = el("p", { class: "blank answer", hidden: true });
    this.figures = KEY_METRICS.map((metric) => {
      const value = el("span");
      const change = changeMark("change");
      const note = el("span", { class: "note" });
      const difference = el("span", { class: "note" });
      const root = el("div", { class: "stat", "data-metric": metric, title: METRICS[metric].about },
        el("dt", { text: METRICS[metric].label }), el("dd", {}, value, note, difference, change));
      return { metric, root, value, note, difference, change };
    });
    this.list = el("dl", { class: "stats answer" }, this.figures.map(({ root }) => root));
    this.card = el("section", { class: "card", id: "then", "aria-label": "What was known then" },
      el("div", { class: "card-head" }, this.title), this.list, this.problem);
    this.panel = new Panel(this.card, (s) => [s.campaign, ...windowOf(s), s.platform, s.asOf]);
    this.shown = el("div");
    this.root = el("div", {}, this.form, this.shown);
  }

  /** Shows what the state alone says. */
  prepare({ zone, asOf }) {
    this.shown.replaceChildren(...(asOf ? [this.card] : []));
    this.end.hidden = !asOf;
    this.field.max = localIn(zone, Date.now());
    if (document.activeElement !== this.field) this.field.value = asOf ? localIn(zone, Date.parse(asOf)) : "";
    if (asOf) say(this.title, `As known on ${instantLabel(zone, Date.parse(asOf))}`);
  }

  /** Asks about the window of these figures, which are those of now. */
  async load(state, figures, options) {
    if (!state.asOf) return;
    // What was known then does not change, and is dear to find out.
    const question = JSON.stringify([state.campaign, state.platform, state.asOf, figures.since, figures.until]);
    let then = this.known?.question === question ? this.known.then : null;
    if (!then) {
      try {
        then = await figuresThen(state, figures, options);
        this.known = { question, then };
      } catch (error) {
        // Nothing was known yet, the instant has not come, or the server is busy with another past: the rest of the page is answered.
        if (!(error instanceof Problem) || error.status === 401) throw error;
        say(this.problem, error.message);
      }
    }
    this.list.hidden = !then;
    this.problem.hidden = Boolean(then);
    if (then) this.show(figures, then);
    this.panel.answered(state);
  }

  /** Two instants are of two answers, none of which has the difference: it is that of the two numbers shown. */
  show({ values, currency }, then) {
    for (const { metric, value, note, difference, change } of this.figures) {
      const [was, is] = [then[metric] ?? null, values[metric] ?? null];
      say(value, exact(metric, was, currency));
      say(note, `now ${exact(metric, is, currency)}`);
      // Of a share a difference would read like a change in percent, which stands beside it.
      const has = was !== null && is !== null && !["share", "factor"].includes(METRICS[metric].kind);
      say(difference, has ? `${is < was ? "" : "+"}${exact(metric, is - was, currency)}` : "");
      change.update(metric, is, was);
    }
  }
}
