/** Dialogs on the browser's own <dialog>: modal, with the focus kept inside and given back. */

import { h } from "./dom.js";
import { note } from "./parts.js";

/**
 * Ask in a dialog. What `send` throws is shown in it, and it stays open.
 * @param {{title: string, body: any, confirm: string, danger?: boolean, send: (form: FormData) => Promise<any>}} about
 * @returns {Promise<any>} what `send` gave, or null where it was cancelled
 */
export function ask({ title, body, confirm, danger = false, send }) {
  return new Promise((done) => {
    let result = null;
    const fault = h("div", { role: "alert" });
    const go = h("button", { class: `button ${danger ? "danger" : "main-action"}`, type: "submit" }, confirm);
    const cancel = h("button", { class: "button", type: "button", onclick: () => dialog.close() }, "Cancel");
    const form = h("form", {}, h("h2", { id: "dialog-title" }, title), body, fault, h("div", { class: "dialog-buttons" }, cancel, go));
    const dialog = h("dialog", { "aria-labelledby": "dialog-title" }, form);
    form.addEventListener("submit", async (event) => {
      event.preventDefault();
      go.disabled = true;
      fault.replaceChildren();
      try {
        result = await send(new FormData(form));
        dialog.close();
      } catch (problem) {
        fault.replaceChildren(note(problem.message, "bad"));
      } finally {
        go.disabled = false;
      }
    });
    dialog.addEventListener("close", () => {
      dialog.remove();
      done(result);
    });
    document.body.append(dialog);
    dialog.showModal();
  });
}
