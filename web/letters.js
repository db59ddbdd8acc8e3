// Dead letters: why each record could not be counted, and what it holds.

import { deadLetters } from "./data.js";
import { Problem } from "./api.js";
import { el, keep, say } from "./dom.js";
import { whole } from "./metrics.js";
import { Panel } from "./panel.js";
import { go, now } from "./state.js";
import { clock } from "./time.js";

const PAGE = 20;

/** Bytes as text, those that are none as dots. */
function ascii(bytes) {
  const codes = bytes.map((b) => parseInt(b, 16));
  return codes.map((code) => (code >= 32 && code < 127 ? String.fromCharCode(code) : "·")).join("");
}

/** Bytes as people read them: place, hexadecimal, text. */
export function dump(hex) {
  const bytes = hex.match(/../g) ?? [];
  const lines = [];
  for (let at = 0; at < bytes.length; at += 16) {
    const line = bytes.slice(at, at + 16);
    lines.push(`${at.toString(16).padStart(6, "0")}  ${line.join(" ").padEnd(47)}  ${ascii(line)}`);
  }
  return lines.join("\n") || "(empty)";
}

/** A header: its name, and its value in hexadecimal and as text. */
const header = ({ key, value }) =>
  el("p", {}, el("bdi", { text: key }), ` = ${value === null ? "nothing" : `${value} (${ascii(value.match(/../g) ?? [])})`}`);

export class Letters {
  constructor() {
    this.chips = el("div", { class: "chips" });
    this.list = el("ul", { class: "letters answer" });
    this.blank = el("div", { class: "blank answer", hidden: true });
    this.more = el("p", { class: "pager answer" });
    this.root = el("section", { class: "card", id: "dead-letters", "aria-label": "Dead letters" },
      el("div", { class: "tools" }, el("h2", { text: "Dead letters" }), this.chips), this.list, this.blank, this.more);
    this.panel = new Panel(this.root, (s) => [s.reason, s.zone]);
  }

  prepare(state) {
    for (const chip of this.chips.children) chip.setAttribute("aria-pressed", String(chip.dataset.key === state.reason));
  }

  /** How many there are of each reason. */
  reasons(rows) {
    keep(this.chips, rows, (r) => r.reason, (r) => el("button", {
      class: "chip", type: "button",
      onclick: () => go({ reason: now().reason === r.reason ? "" : r.reason }),
    }), (chip, r) => say(chip, `${r.reason.replaceAll("_", " ")} ${whole(r.count)}`));
    this.prepare(now());
  }

  async load(state, options) {
    let page;
    try {
      page = await deadLetters({ reason: state.reason, limit: PAGE }, options);
    } catch (error) {
      // They may hold anything a producer sent, so reading them takes a stronger key.
      if (!(error instanceof Problem && error.status === 403)) throw error;
      this.nothing("This key may not read dead letters", "Use a key with the admin scope.");
      return this.panel.answered(state);
    }
    if (!page.rows.length) {
      this.nothing("No dead letters", state.reason ? "No dead letter has this reason." : "Every record so far could be counted.");
    } else this.blank.hidden = true;
    keep(this.list, page.rows, (l) => `${state.zone} ${l.topic} ${l.partition} ${l.offset} ${l.created_at}`, (l) => this.letter(state, l), () => {});
    say(this.more, page.next ? `Showing the newest ${whole(page.rows.length)}. “adflux dlq list” lists them all; “adflux dlq redrive” sends them back.` : "");
    this.more.hidden = !page.next;
    this.panel.answered(state);
  }

  nothing(title, words) {
    this.list.replaceChildren();
    this.more.hidden = true;
    this.blank.hidden = false;
    this.blank.replaceChildren(el("h3", { text: title }), el("p", { text: words }));
  }

  letter(state, l) {
    const content = el("div");
    const details = el("details", {
      ontoggle: () => {
        if (!details.open || content.childElementCount) return;
        content.append(
          el("p", { class: "letter-why", text: l.explanation ?? "" }),
          el("dl", { class: "letter-facts" },
            el("dt", { text: "Key" }), el("dd", { text: l.key ?? l.key_hex ?? "none" }),
            el("dt", { text: "Value" }), el("dd", { text: l.payload_hex === null ? "none" : `${whole(l.payload_bytes)} bytes` }),
            l.headers?.length ? [el("dt", { text: "Headers" }), el("dd", {}, l.headers.map(header))] : []),
          l.payload_hex ? el("pre", { class: "hex", tabindex: 0, "aria-label": "The record's value, in hexadecimal", text: dump(l.payload_hex) }) : "",
          l.more ? el("p", { class: "quiet", text: `This is the beginning; “adflux dlq show ${l.topic}:${l.partition}:${l.offset}” prints all of it.` }) : "");
      },
    },
    el("summary", {}, el("span", { class: "state bad", text: l.reason.replaceAll("_", " ") }),
      el("span", { text: `${l.topic} [${l.partition}], offset ${whole(l.offset)}` }),
      el("time", { class: "quiet", text: clock(state.zone, Date.parse(l.created_at)) })), content);
    return el("li", {}, details);
  }
}
