/** Asking the server. Errors become {@link Problem}s whose message is for people. */

export class Problem extends Error {
  /** @param {string} detail @param {number} status 0: the server did not answer */
  constructor(detail, status) {
    super(detail);
    this.status = status;
  }
}

/**
 * @param {string} path below /api/
 * @param {Object<string, any>} [query] null, undefined and "" are left out
 * @returns {Promise<any>} @throws {Problem}
 */
export function get(path, query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== null && value !== undefined && value !== "");
  const tail = given.length ? `?${new URLSearchParams(given.map(([k, v]) => [k, String(v)]))}` : "";
  return asked(`/api/${path}${tail}`, { headers: { accept: "application/json" } });
}

/**
 * @param {string} path below /api/
 * @param {any} body
 * @param {string|null} csrf what the session says
 * @returns {Promise<any>} @throws {Problem}
 */
export function post(path, body, csrf = null) {
  const headers = { "content-type": "application/json", accept: "application/json" };
  if (csrf) headers["x-kappa-csrf"] = csrf;
  return asked(`/api/${path}`, { method: "POST", headers, body: JSON.stringify(body) });
}

async function asked(url, options) {
  let answer;
  try {
    answer = await fetch(url, { credentials: "same-origin", cache: "no-store", ...options });
  } catch {
    throw new Problem("The dashboard's server does not answer. Is `kappa dashboard` (or `kappa up`) still running?", 0);
  }
  let content = null;
  try {
    content = await answer.json();
  } catch {
    /* no JSON: the status says it */
  }
  if (answer.ok && content !== null) return content;
  throw new Problem(content?.detail ?? content?.title ?? `The server answered ${answer.status}.`, answer.status);
}
