// The live feed: server-sent events, read with fetch so that an API key can be a header. The
// format is https://html.spec.whatwg.org/multipage/server-sent-events.html.

import { headers, problem } from "./api.js";
import { read } from "./outside.js";

/** The server sends a heartbeat at least this often; silence means that the connection is gone. */
const SILENCE = 40_000;
const LONGEST_WAIT = 10_000;

/**
 * Follows a feed. `listener` has `event(name, data)`, `open()`, `lost(error, retryAt)`. A page that is
 * hidden lets go, since a browser has few connections to one server, and takes up where it was.
 */
export class Live {
  constructor(path, listener) {
    this.path = path;
    this.listener = listener;
    this.failures = 0;
    this.visible = () => (document.hidden ? this.pause() : this.start());
    document.addEventListener("visibilitychange", this.visible);
    if (!document.hidden) this.start();
  }

  start() {
    clearTimeout(this.timer);
    if (this.following) return;
    this.following = new AbortController();
    this.follow(this.following);
  }

  pause() {
    clearTimeout(this.timer);
    this.following?.abort();
    this.following = null;
  }

  end() {
    document.removeEventListener("visibilitychange", this.visible);
    this.pause();
  }

  async follow(controller) {
    let silent;
    const alive = () => {
      clearTimeout(silent);
      silent = setTimeout(() => controller.abort(new Error("silent")), SILENCE);
    };
    try {
      const resume = this.lastId ? { "Last-Event-ID": this.lastId } : {};
      alive();
      const response = await fetch(`.${this.path}`, {
        headers: { Accept: "text/event-stream", ...headers(), ...resume },
        signal: controller.signal,
        cache: "no-store",
      });
      if (!response.ok) throw await problem(response);
      this.failures = 0;
      this.listener.open();
      const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (;;) {
        const { value, done } = await reader.read();
        if (done) throw new Error("ended");
        alive();
        const blocks = (rest + value).split(/\r?\n\r?\n/);
        rest = blocks.pop();
        for (const block of blocks) this.dispatch(block);
      }
    } catch (error) {
      clearTimeout(silent);
      // Let go on purpose.
      if (this.following !== controller) return;
      this.following = null;
      this.failures += 1;
      // Some chance, so that not every page comes back in the same moment.
      const wait = Math.min(LONGEST_WAIT, 500 * 2 ** Math.min(this.failures, 5)) * (0.75 + Math.random() / 2);
      this.timer = setTimeout(() => this.start(), wait);
      this.listener.lost(error, Date.now() + wait);
    }
  }

  dispatch(block) {
    let name = "message";
    const data = [];
    for (const line of block.split(/\r?\n/)) {
      const colon = line.indexOf(":");
      if (colon === 0) continue;
      const field = colon < 0 ? line : line.slice(0, colon);
      const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
      if (field === "event") name = value;
      else if (field === "data") data.push(value);
      else if (field === "id") this.lastId = value;
    }
    if (!data.length) return;
    this.listener.event(name, read(data.join("\n")));
  }
}
