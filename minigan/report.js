// The slider through the samples: one picture is shown, its caption says when, and the curves mark its step.
"use strict";
const frames = [...document.querySelectorAll("#frames img")];
const controls = document.querySelector("#controls");

if (controls) {
  const slider = controls.querySelector("input");
  const button = controls.querySelector("button");
  let playing = null; // the timer's number

  const show = () => {
    frames.forEach((frame, i) => { frame.hidden = i !== slider.valueAsNumber; });
    const { when, step } = frames[slider.valueAsNumber].dataset;
    document.querySelector("#when").textContent = when;
    slider.setAttribute("aria-valuetext", when);
    for (const line of document.querySelectorAll(".now")) {
      const width = line.ownerSVGElement.width.baseVal.value;
      line.setAttribute("transform", `translate(${Math.min(1, step / line.dataset.last) * width})`);
    }
  };

  const stop = () => {
    clearInterval(playing);
    playing = null;
    button.textContent = "Play";
  };

  const advance = () => {
    slider.valueAsNumber += 1;
    show();
    if (slider.value === slider.max) stop();
  };

  slider.addEventListener("input", () => { stop(); show(); });
  button.addEventListener("click", () => {
    if (playing) return stop();
    if (slider.value === slider.max) slider.value = 0;
    show();
    button.textContent = "Pause";
    playing = setInterval(advance, 250); // milliseconds a picture
  });

  slider.value = slider.max; // a browser that reloads may have kept another
  show();
  controls.hidden = false;
}
