// Sliders over the frames that pictures/frames.py writes: one frame is shown, the others are hidden.
"use strict";

function move(group) {
  const slider = group.querySelector("input");
  const shown = group.querySelectorAll(".frame");
  const setting = shown[slider.value].dataset.setting;
  shown.forEach((frame, index) => { frame.hidden = index !== Number(slider.value); });
  slider.setAttribute("aria-valuetext", setting);
  group.querySelector("output").textContent = setting;
}

document.addEventListener("DOMContentLoaded", () => {
  document.querySelectorAll(".frames").forEach((group) => {
    const slider = group.querySelector("input");
    slider.hidden = false;
    slider.addEventListener("input", () => move(group));
  });
});

// On the way back to a page the browser has restored what the reader had set.
window.addEventListener("pageshow", () => document.querySelectorAll(".frames").forEach(move));
