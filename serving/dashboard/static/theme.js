/* Sets the colours before the page is drawn: a classic script, so that nothing flashes. */
(function () {
  const system = matchMedia("(prefers-color-scheme: dark)");

  /** @returns {"auto"|"light"|"dark"} what the reader has chosen */
  function chosen() {
    try {
      const kept = localStorage.getItem("kappa-theme");
      return kept === "light" || kept === "dark" ? kept : "auto";
    } catch {
      return "auto";
    }
  }

  /** @param {"auto"|"light"|"dark"} choice */
  function choose(choice) {
    try {
      localStorage.setItem("kappa-theme", choice);
    } catch {
      /* a browser that keeps nothing: the choice holds until the page is left */
    }
    show(choice);
  }

  /** @param {"auto"|"light"|"dark"} choice */
  function show(choice) {
    const dark = choice === "dark" || (choice === "auto" && system.matches);
    document.documentElement.dataset.theme = dark ? "dark" : "light";
    document.documentElement.dataset.choice = choice;
    dispatchEvent(new CustomEvent("kappa:theme"));
  }

  system.addEventListener("change", () => show(document.documentElement.dataset.choice || "auto"));
  window.kappaTheme = { chosen, choose };
  show(chosen());
})();
