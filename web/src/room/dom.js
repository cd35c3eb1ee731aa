// The few ways in which this page's modules reach into the document.

/** @param {Document} document @param {string} id @returns {HTMLElement} */
export function element(document, id) {
  const found = document.getElementById(id);
  if (!found) throw new Error(`the page has no #${id}`);
  return found;
}

/** @param {Document} document @param {string} id */
export const button = (document, id) => /** @type {HTMLButtonElement} */ (element(document, id));

/** @param {Document} document @param {string} id */
export const input = (document, id) => /** @type {HTMLInputElement} */ (element(document, id));

/** What a template of the page holds, anew. @param {Document} document @param {string} id @returns {DocumentFragment} */
export function stamp(document, id) {
  return /** @type {DocumentFragment} */ (/** @type {HTMLTemplateElement} */ (element(document, id)).content.cloneNode(true));
}

/**
 * @template {Element} T
 * @param {ParentNode} root
 * @param {string} selector
 */
export function part(root, selector) {
  const found = root.querySelector(selector);
  if (!found) throw new Error(`there is no ${selector}`);
  return /** @type {T} */ (found);
}

/** Writes only what changed: a live region must not speak twice. @param {Element} place @param {string} text */
export function say(place, text) {
  if (place.textContent !== text) place.textContent = text;
}

/**
 * While an input method composes, keys are its own: Enter chooses a word, Escape gives it up. Safari says before such a key that it composes
 * no more; its code still tells.
 * @param {KeyboardEvent} event
 */
export const composes = ({ isComposing, keyCode }) => isComposing || keyCode === 229;

/** @param {Document} document @param {string} tag @param {string} name of the class @param {string} [text] */
export function make(document, tag, name, text = "") {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text) made.textContent = text;
  return made;
}
