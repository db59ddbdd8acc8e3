// Text from outside: what a producer, a link or a server wrote is shown as it is, and does nothing.

/** Characters that nobody sees: control characters, and marks that turn the order of what comes after them. */
const UNSEEN = /(?![\n\t])[\p{Cc}\p{Cf}\p{Zl}\p{Zp}]/gu;

/** The same text with such characters by their code, as the commands write them: `\u{202e}`. */
export const visible = (text) => text.replace(UNSEEN, (c) => `\\u{${c.codePointAt(0).toString(16)}}`);

/** Reads JSON, with every text in it made visible. */
export const read = (json) => JSON.parse(json, (_, value) => (typeof value === "string" ? visible(value) : value));
