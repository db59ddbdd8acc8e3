// Figures belong to the question they answer. What a panel shows answers what is asked now; or it is dimmed, until
// that answer is there; or, if that does not come or is about another campaign, it is gone.

const panels = new Set();
/** When the newest question was asked, by our clock. */
let asked = null;

/** A panel of the page. Its elements of the class `answer` are its figures; all else says what is asked. */
export class Panel {
  /** `question(state)` is everything that its figures depend on. */
  constructor(root, question) {
    Object.assign(this, { root, question, answer: null });
    this.key = (state) => JSON.stringify(question(state));
    panels.add(this);
    this.show();
  }

  /** Its figures answer the question of this state from now on. */
  answered(state) {
    this.answer = { key: this.key(state), campaign: state.campaign, at: asked };
    this.waits = !this.isCurrent();
    this.show();
  }

  isCurrent() {
    return this.answer !== null && this.answer.key === this.asked;
  }

  show() {
    this.root.dataset.figures = !this.answer ? "none" : this.isCurrent() ? "current" : "earlier";
    this.root.setAttribute("aria-busy", String(Boolean(this.waits)));
  }
}

const shown = () => [...panels].filter((panel) => panel.root.isConnected);

/** All panels that are on the page are asked this. */
export function ask(state) {
  asked = Date.now();
  for (const panel of shown()) {
    panel.asked = panel.key(state);
    if (panel.answer?.campaign !== state.campaign) panel.answer = null;
    panel.waits = !panel.isCurrent();
    panel.show();
  }
}

/** The question was not answered: figures that answer another one go. */
export function unanswered() {
  for (const panel of shown()) {
    if (!panel.isCurrent()) panel.answer = null;
    panel.waits = false;
    panel.show();
  }
}

/** When the oldest of the figures on the page were asked for; null if there are none. */
export function asOf() {
  const times = shown().filter((panel) => panel.isCurrent()).map((panel) => panel.answer.at);
  return times.length ? Math.min(...times) : null;
}
