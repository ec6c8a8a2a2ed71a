"use strict";
// Without this script the page shows every class and a table of a few budgets.
(() => {
  document.documentElement.classList.add("scripted");
  const dials = JSON.parse(document.getElementById("dials").textContent);
  const whole = new Intl.NumberFormat("en-US");

  const reading = (dial, setting) => {
    const alerts = dial.alerts[setting];
    const hits = dial.hits[setting];
    const missed = dial.positives - hits;
    return {
      threshold: dial.thresholds[setting],
      budget: ((1000 * alerts) / dial.rows).toFixed(1),
      recall: ((100 * hits) / dial.positives).toFixed(1) + " %",
      precision: ((100 * hits) / alerts).toFixed(1) + " %",
      hits: whole.format(hits),
      alarms: whole.format(alerts - hits),
      missed: whole.format(missed),
      passed: whole.format(dial.rows - alerts - missed),
    };
  };

  for (const box of document.querySelectorAll("[data-dial]")) {
    const dial = dials[Number(box.dataset.dial)];
    const slider = box.querySelector("input");
    const marker = box.querySelector(".marker");
    const show = () => {
      const setting = Number(slider.value);
      const values = reading(dial, setting);
      for (const place of box.querySelectorAll("[data-show]")) {
        place.textContent = values[place.dataset.show];
      }
      const x = (1000 * setting) / Math.max(1, dial.alerts.length - 1);
      marker.setAttribute("x1", x);
      marker.setAttribute("x2", x);
      slider.setAttribute("aria-valuetext", values.budget + " alerts per 1,000 rows");
    };
    slider.addEventListener("input", show);
    show();
  }

  const chooser = document.getElementById("chooser");
  if (chooser) {
    const choose = () => {
      for (const panel of document.querySelectorAll("[data-panel]")) {
        panel.hidden = panel.dataset.panel !== chooser.value;
      }
    };
    chooser.addEventListener("change", choose);
    choose();
  }
})();
