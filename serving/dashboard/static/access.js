/** Who looks: whether this browser may act, and logging in with the token. */

import { get, post } from "./api.js";
import { toast } from "./announcing.js";
import { ask } from "./dialog.js";
import { h, prose, refill } from "./dom.js";
import { capital } from "./format.js";
import { icon } from "./icons.js";

let session = null;

/** @returns {any} the session document, or null while it is not known */
export const known = () => session;

/** Ask who looks, and show it in the header. */
export function setUpAccess() {
  document.getElementById("access").addEventListener("click", () => logIn());
  show();
  renew();
}

/** Ask the server anew. */
async function renew() {
  try {
    session = await get("session");
  } catch {
    session = null; // the connection's state says that nothing answers
  }
  show();
}

function show() {
  const button = document.getElementById("access");
  const may = session?.may_act === true;
  refill(button, icon(may ? "unlocked" : "lock"), h("span", {}, may ? "May act" : "Unlock actions"));
  button.disabled = may;
  dispatchEvent(new CustomEvent("kappa:session"));
}

/** How this browser may come to act. @param {any} session the session document, or null */
export function howTo(session) {
  return capital(session?.login ?? "the dashboard prints a link with a token where it was started");
}

/** Ask for the token; resolves to whether this browser may act now. @returns {Promise<boolean>} */
export async function logIn() {
  if (session?.may_act) return true;
  const how = howTo(session);
  const body = [
    h("p", {}, prose(how)),
    h("label", { class: "field" }, h("span", {}, "Token"),
      h("input", { name: "token", type: "password", autocomplete: "off", required: true, spellcheck: "false" })),
  ];
  const gave = await ask({
    title: "Unlock actions", body, confirm: "Unlock",
    send: (form) => post("login", { token: String(form.get("token")).trim() }),
  });
  if (gave === null) return false;
  session = gave.may_act === undefined ? await get("session") : gave;
  show();
  if (session.may_act) toast("This browser may act now.", "ok", null, "unlocked");
  return session.may_act;
}
