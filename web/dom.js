// Elements without a framework: one function to make them, one to keep a list of them in step.

const SVG = "http://www.w3.org/2000/svg";

/** Makes an element. `properties`: `class`, `text`, `on…` listeners; all else are attributes. */
export function el(name, properties = {}, ...children) {
  return fill(document.createElement(name), properties, children);
}

/** Makes an SVG element. */
export function svg(name, properties = {}, ...children) {
  return fill(document.createElementNS(SVG, name), properties, children);
}

function fill(element, properties, children) {
  for (const [name, value] of Object.entries(properties)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else if (name === "text") element.textContent = value;
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return element;
}

/** Sets the text only if it changes: selections and screen readers are left alone otherwise. */
export function say(element, text) {
  if (element.textContent !== text) element.textContent = text;
}

/**
 * Keeps the children of `parent` in step with `items`, by key: what stays is updated in place, so
 * focus, selection and scrolling survive. `make(item)` returns an element, `update(element, item)`
 * fills it.
 */
export function keep(parent, items, key, make, update) {
  const had = new Map([...parent.children].map((child) => [child.dataset.key, child]));
  let at = parent.firstElementChild;
  for (const item of items) {
    const id = String(key(item));
    let child = had.get(id);
    had.delete(id);
    if (!child) {
      child = make(item);
      child.dataset.key = id;
    }
    update(child, item);
    if (child === at) at = at.nextElementSibling;
    else parent.insertBefore(child, at);
  }
  for (const gone of had.values()) gone.remove();
}
