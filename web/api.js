// Questions to the server this page came from, and the one way in which they fail.

import { read } from "./outside.js";

/** The server answered, with a problem document. */
export class Problem extends Error {
  constructor(document, status) {
    super(document.detail || document.title || `the server answered ${status}`);
    this.title = document.title || "The server could not answer";
    this.kind = (document.type || "").replace("urn:adflux:problem:", "");
    this.status = status;
    this.parameter = document.parameter;
  }
}

/** The server did not answer at all. */
export class Unreachable extends Error {}

const KEY = "adflux-key";
let key = sessionStorage.getItem(KEY) || "";

/** Sets the API key, kept until the browser's tab is closed. */
export function useKey(text) {
  key = text.trim();
  if (key) sessionStorage.setItem(KEY, key);
  else sessionStorage.removeItem(KEY);
}

/** What each request carries. */
export const headers = () => (key ? { Authorization: `Bearer ${key}` } : {});

const TIMEOUT = 15_000;

function address(path, parameters) {
  const query = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    for (const one of [value].flat()) if (one !== undefined && one !== "") query.append(name, one);
  }
  const text = query.toString();
  // Relative to the page, which may stand below a path of a proxy's.
  return text ? `.${path}?${text}` : `.${path}`;
}

/** Asks; `parameters` may hold lists, which are given once an entry. `send` is a body, for a POST. */
export async function ask(path, parameters = {}, { signal, method = "GET", send } = {}) {
  const late = AbortSignal.timeout(TIMEOUT);
  let response, document;
  try {
    response = await fetch(address(path, parameters), {
      method,
      headers: { ...headers(), ...(send ? { "Content-Type": "application/json" } : {}) },
      body: send ? JSON.stringify(send) : undefined,
      signal: signal ? AbortSignal.any([signal, late]) : late,
    });
    document = response.headers.get("content-type")?.includes("json") ? read(await response.text()) : {};
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new Unreachable(late.aborted ? "the server took too long to answer" : "the server cannot be reached");
  }
  if (!response.ok) throw new Problem(document, response.status);
  return document;
}

/** What an answer that is none says. */
export const problem = async (response) =>
  new Problem(await response.text().then(read).catch(() => ({})), response.status);

/** Saves what is answered as a file. A plain link could not carry the key. */
export async function save(path, parameters, name) {
  const response = await fetch(address(path, parameters), { headers: headers() });
  if (!response.ok) throw await problem(response);
  const url = URL.createObjectURL(await response.blob());
  const link = document.createElement("a");
  link.href = url;
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(url), 1_000);
}
