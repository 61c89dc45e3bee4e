/** The documents that the page has, and who wants to know when one changes. */

import { get } from "./api.js";
import { mergedDrift, mergedPerformance } from "./merging.js";

const MERGES = { drift: mergedDrift, performance: mergedPerformance };
const documents = new Map();
const faults = new Map();
const listeners = new Set();
const asking = new Map();

/** @param {string} name @returns {any} the section's document, or undefined */
export const held = (name) => documents.get(name);

/** @param {string} name @returns {Error|undefined} why there is no document */
export const faultOf = (name) => faults.get(name);

/** @param {(name: string) => void} listener is told the section that changed */
export function onChange(listener) {
  listeners.add(listener);
}

/** Take a document, whole or in part. */
export function put(name, document) {
  const merge = MERGES[name];
  documents.set(name, merge ? merge(documents.get(name), document) : document);
  faults.delete(name);
  for (const listener of listeners) listener(name);
}

/** Ask for a section where nothing is known of it yet; once at a time. @returns {Promise<void>} */
export function want(name) {
  if (documents.has(name)) return Promise.resolve();
  return ask(name);
}

/** Ask for a section anew. @returns {Promise<void>} */
export function ask(name) {
  if (!asking.has(name)) {
    const asked = get(name)
      .then((document) => put(name, document))
      .catch((fault) => {
        faults.set(name, fault);
        for (const listener of listeners) listener(name);
      })
      .finally(() => asking.delete(name));
    asking.set(name, asked);
  }
  return asking.get(name);
}
