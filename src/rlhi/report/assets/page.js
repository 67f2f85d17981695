"use strict";
(() => {
  const specs = JSON.parse(document.getElementById("specs").textContent);
  const draw = async ([id, spec]) => {
    const place = document.getElementById(id);
    const compiled = vegaLite.compile(spec).spec;
    const view = new vega.View(vega.parse(compiled, null, { ast: true }), {
      expr: vegaInterpreter.expressionInterpreter,
      renderer: "svg",
      container: place,
      hover: true,
      loader: { load: () => Promise.reject(new Error("charts load nothing")), sanitize: () => Promise.reject(new Error("no links")) },
    });
    await view.runAsync();
    place.dataset.drawn = "yes";
  };
  for (const entry of Object.entries(specs)) {
    draw(entry).catch((error) => {
      document.getElementById(entry[0]).textContent = `This chart could not be drawn: ${error.message}`;
      console.error(error);
    });
  }
  addEventListener("beforeprint", () => {
    for (const fold of document.querySelectorAll("details:not([open])")) {
      fold.open = true;
      fold.dataset.printed = "yes";
    }
  });
  addEventListener("afterprint", () => {
    for (const fold of document.querySelectorAll("details[data-printed]")) {
      fold.open = false;
      delete fold.dataset.printed;
    }
  });
})();
