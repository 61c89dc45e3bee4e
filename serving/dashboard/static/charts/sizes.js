/** The widths of pictures. One observer for all of them, which holds none of them: an observer of its
 * own would keep a picture, and all that it was made of, for as long as the page is open. */

const watched = new WeakMap();
const observer = new ResizeObserver((entries) => {
  for (const { target, contentRect } of entries) {
    if (target.isConnected) watched.get(target)?.(contentRect.width);
    else observer.unobserve(target);
  }
});

/**
 * Tell the width of an element, now and whenever it changes, for as long as it is shown.
 * @param {HTMLElement} element @param {(width: number) => void} told
 */
export function watchWidth(element, told) {
  watched.set(element, told);
  observer.observe(element);
}
