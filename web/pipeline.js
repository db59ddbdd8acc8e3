// How counting goes: is it keeping up, what does it refuse, how far has it come.

import { Letters } from "./letters.js";
import { pipeline } from "./data.js";
import { el, keep, say, svg } from "./dom.js";
import { whole } from "./metrics.js";
import { Panel } from "./panel.js";
import { now } from "./state.js";
import { ago, clock, offsetOf } from "./time.js";

/** Records behind that a busy, healthy processor may be. */
const KEEPING_UP = 1_000;
const SECONDS = 60;

const rate = new Intl.NumberFormat(undefined, { maximumFractionDigits: 1 });
const share = new Intl.NumberFormat(undefined, { style: "percent", maximumSignificantDigits: 2 });

/** A length of time in the unit that suits it. */
function length(seconds) {
  if (seconds === null) return "—";
  if (seconds < 1) return `${Math.round(seconds * 1000)} ms`;
  return seconds < 60 ? `${rate.format(seconds)} s` : ago(seconds * 1000);
}

/** One figure with its name and a word on what it means. */
function stat(name, title) {
  const value = el("span");
  const note = el("span", { class: "note" });
  const root = el("div", { class: "stat", title }, el("dt", { text: name }), el("dd", {}, value, note));
  return { root, show: (text, words = "") => { say(value, text); say(note, words); } };
}

/** A table that is kept in step: columns are `[title, text of a row, class, whether it is shown for these rows]`. */
function table(caption, columns) {
  const body = el("tbody");
  const heads = columns.map(([title, , kind]) => el("th", { scope: "col", class: kind, text: title }));
  const root = el("div", { class: "scroll", tabindex: 0, role: "region", "aria-label": caption },
    el("table", {}, el("caption", { class: "visually-hidden", text: caption }),
      el("thead", {}, el("tr", {}, heads)),
      body));
  const update = (rows, key) => {
    heads.forEach((head, i) => { head.hidden = !(columns[i][3]?.(rows) ?? true); });
    keep(body, rows, key, () => {
      const tr = el("tr");
      tr.append(...columns.map(([, , kind], i) => el(i ? "td" : "th", { scope: i ? null : "row", class: kind })));
      return tr;
    }, (tr, row) => columns.forEach(([, text], i) => {
      tr.children[i].hidden = heads[i].hidden;
      say(tr.children[i], text(row));
    }));
  };
  return { root, update };
}

/** Events counted in each of the last seconds, as the live feed told while this page was open. */
class Beat {
  constructor() {
    this.heard = [];
    this.bars = svg("g");
    this.picture = svg("svg", { class: "beat-bars", viewBox: `0 0 ${SECONDS * 10} 100`, preserveAspectRatio: "none", role: "img" }, this.bars);
    this.most = el("span", { class: "quiet" });
    this.table = table("Events counted in each second", [
      ["Second", ({ at }) => clock(now().zone, at)],
      ["Events counted", ({ n }) => whole(n)],
    ]);
    this.root = el("section", { class: "card", "aria-label": "Events counted" },
      el("div", { class: "card-head" }, el("h2", { text: "Events counted, second by second" })),
      el("div", { class: "beat-chart" }, this.picture, el("div", { class: "beat-axis", "aria-hidden": "true" },
        el("span", { text: "1 min ago" }), this.most, el("span", { text: "now" }))),
      el("details", { class: "twin" }, el("summary", {}, "Show as table"), this.table.root));
    setInterval(() => this.root.isConnected && this.draw(), 1000);
  }

  /** Hears how many events have been counted in all. */
  hear(events) {
    const at = Date.now();
    if (this.last !== undefined && events > this.last) this.heard.push({ at, events: events - this.last });
    this.last = events;
    while (this.heard.length && this.heard[0].at < at - SECONDS * 1000) this.heard.shift();
  }

  draw() {
    const second = Math.floor(Date.now() / 1000);
    const counts = Array.from({ length: SECONDS }, (_, i) => ({ at: (second - SECONDS + 1 + i) * 1000, n: 0, i }));
    for (const { at, events } of this.heard) {
      const place = counts[Math.floor(at / 1000) - (second - SECONDS + 1)];
      if (place) place.n += events;
    }
    const most = Math.max(1, ...counts.map((c) => c.n));
    keep(this.bars, counts, (c) => c.i, () => svg("rect", { width: 7, rx: 1 }), (bar, { n, i }) => {
      const height = (n / most) * 100;
      bar.setAttribute("x", i * 10 + 1);
      bar.setAttribute("y", 100 - height);
      bar.setAttribute("height", height);
    });
    const total = counts.reduce((sum, c) => sum + c.n, 0);
    const span = this.since < (second - SECONDS) * 1000 ? "in the last minute" : "since this page listens";
    say(this.most, total ? `peak: ${whole(most)} in a second` : `no events ${span}`);
    this.picture.setAttribute("aria-label", `${whole(total)} events counted ${span}, at most ${whole(most)} in a second`);
    this.table.update(counts.filter((c) => c.n).reverse(), (c) => c.at);
  }
}

/** What a partition is doing, in words. */
const STATES = { counting: "counting", catching_up: "catching up", idle: "idle", waiting: "waiting", stopped: "stopped" };

export class Pipeline {
  constructor() {
    this.lag = stat("Lag", "Records in the log that are not counted yet");
    this.rate = stat("Events per second", "Events counted, over the last minute");
    this.fresh = stat("Newest commit", "When an event was last counted");
    this.delay = stat("Delay", "Median time from an event to its commit, over the newest events");
    this.batch = stat("Batches", "Events in one transaction, and how long it takes");
    this.sums = stat("Sums", "Parts that the sums are in, and how many of a commit each are not carried to longer intervals yet");
    this.duplicates = stat("Duplicates", "Records whose event was already counted; they change no number");
    this.unchanged = stat("Unchanged", "Reports that said of a day what was known already");
    this.superseded = stat("Superseded", "Reports that came after a newer one of the same day: kept in its history, counted in no sum");
    this.dead = stat("Dead letters", "Records that could not be counted");
    this.beat = new Beat();
    this.partitions = table("Partitions and their positions", [
      ["Partition", (p) => `${p.topic} [${p.partition}]`],
      ["Next offset", (p) => whole(p.next_offset)],
      ["Lag", (p) => whole(p.lag)],
      ["State", (p) => (p.state ? STATES[p.state] + (p.cause ? ` (${p.cause})` : "") : "not reported"), "text"],
      ["Events", (p) => whole(p.events)],
      ["Duplicates", (p) => whole(p.duplicates)],
      ["Unchanged", (p) => whole(p.unchanged), null, (rows) => rows.some((p) => p.unchanged)],
      ["Superseded", (p) => whole(p.superseded), null, (rows) => rows.some((p) => p.superseded)],
      ["Dead letters", (p) => whole(p.dead_letters)],
      ["Newest commit", (p) => (p.counted_at ? clock(this.zone, Date.parse(p.counted_at)) : "never")],
      ["Owner", (p) => p.owner, "text"],
    ]);
    this.word = el("span");
    this.topic = el("span", { class: "quiet answer" });
    this.times = el("span", { class: "quiet" });
    this.letters = new Letters();
    this.numbers = el("div", { class: "stack" },
      el("div", { class: "title" }, el("h1", { text: "Pipeline" }), this.word, this.topic, this.times),
      el("dl", { class: "card stats answer" }, [this.lag, this.rate, this.fresh, this.delay, this.batch, this.sums, this.duplicates, this.unchanged, this.superseded,
        this.dead].map((s) => s.root)),
      this.beat.root,
      el("section", { class: "card", "aria-label": "Partitions" },
        el("div", { class: "tools" }, el("h2", { text: "Partitions" }), (this.kinds = el("span", { class: "quiet" }))),
        this.partitions.root));
    this.partitions.root.classList.add("answer");
    this.panel = new Panel(this.numbers, (s) => [s.zone]);
    this.root = el("div", { class: "stack" }, this.numbers, this.letters.root);
  }

  prepare(state) {
    this.zone = state.zone;
    say(this.times, `times are those of ${state.zone.replaceAll("_", " ")} (${offsetOf(state.zone)})`);
    this.letters.prepare(state);
  }

  async load(state, options) {
    const [answer] = await Promise.all([pipeline(options), this.letters.load(state, options)]);
    this.show(answer);
    this.panel.answered(state);
    return { countedAt: answer.counted_at ? Date.parse(answer.counted_at) : null };
  }

  /** The live feed begins, or goes on: what was counted before was not counted just now. */
  listen() {
    Object.assign(this.beat, { last: undefined, since: Date.now() });
  }

  /** The live feed's news of how much has been counted. */
  progress(data) {
    this.beat.hear(data.events);
  }

  show(answer) {
    const { lag, totals, batches, events_per_second: pace } = answer;
    const topics = [...new Set(answer.partitions.map((p) => p.topic))];
    const [still] = answer.standstills;
    const [word, tone] = still ? [`${still.topic} [${still.partition}] ${STATES[still.state]} (${still.cause})`, "bad"]
      : !answer.partitions.length ? ["nothing read yet", "warn"]
      : lag === null ? (pace > 0 ? ["counting", "good"] : ["quiet", "warn"])
      : lag <= KEEPING_UP ? ["keeping up", "good"]
      : pace > 0 ? ["catching up", "warn"]
      : ["standing still", "bad"];
    say(this.word, word);
    this.word.className = `state answer ${tone}`;
    say(this.topic, topics.length ? `topic ${topics.join(", ")}` : "");
    this.lag.show(whole(lag), lag === null ? "no processor has reported how long the log is"
      : lag <= KEEPING_UP ? "records not counted yet"
      : pace > 0 ? `about ${ago((lag / pace) * 1000)} at this rate`
      : still ? still.message : "no processor is counting: start “adflux process”");
    this.rate.show(rate.format(pace), `${whole(totals.events)} events in all`);
    const since = answer.seconds_since_commit;
    this.fresh.show(since === null ? "—" : `${length(since)} ago`, answer.counted_at ? clock(this.zone, Date.parse(answer.counted_at)) : "nothing counted yet");
    this.delay.show(length(answer.delay_seconds), "from event to commit, median");
    this.batch.show(batches.mean_events === null ? "—" : rate.format(batches.mean_events),
      [batches.mean_events === null ? "none recently" : `events each, ${rate.format(batches.per_second)} a second`,
        batches.mean_seconds !== null && `${length(batches.mean_seconds)} a transaction`].filter(Boolean).join(", "));
    const { sums } = answer;
    this.sums.show(`${whole(sums.parts)} parts`, sums.is_behind ? `${whole(sums.waiting)} wait: PostgreSQL is too slow for what comes`
      : `${whole(sums.waiting)} not carried yet`);
    const part = (n) => (totals.records ? `${share.format(n / totals.records)} of all records` : "");
    this.duplicates.show(whole(totals.duplicates), part(totals.duplicates));
    for (const [stat, n] of [[this.unchanged, totals.unchanged], [this.superseded, totals.superseded]]) {
      stat.show(whole(n), part(n));
      stat.root.hidden = n === 0;
    }
    say(this.kinds, `every record before the next offset is an event, a duplicate${
      totals.unchanged + totals.superseded ? ", an unchanged or superseded report" : ""}${totals.erased ? ", erased" : ""} or a dead letter`);
    this.dead.show(whole(totals.dead_letters), part(totals.dead_letters));
    this.beat.draw();
    this.partitions.update(answer.partitions, (p) => `${p.cluster_id} ${p.topic} ${p.partition}`);
    this.letters.reasons(answer.dead_letters);
  }
}
