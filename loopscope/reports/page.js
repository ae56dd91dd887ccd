"use strict";
// Draws the figures, runs their controls, and switches between the light and the dark theme.
(() => {
  const root = document.documentElement;
  const toggle = document.getElementById("theme");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const plots = [...document.querySelectorAll(".chart")].map((div) => {
    const number = div.id.slice("plot-".length);
    return { div, number, at: 0, ...JSON.parse(document.getElementById("data-" + number).textContent) };
  });
  const byNumber = new Map(plots.map((plot) => [plot.number, plot]));
  const config = { displayModeBar: false, responsive: true, scrollZoom: false };

  const colour = (name) => getComputedStyle(root).getPropertyValue(name).trim();
  const axes = (layout) => Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key));

  // A figure arrives in colours that are legible on any background; here it gets those of the page.
  function themed(layout) {
    const change = { "font.color": colour("--ink"), "hoverlabel.bgcolor": colour("--sheet"), "hoverlabel.font.color": colour("--ink"), "hoverlabel.bordercolor": colour("--line") };
    for (const axis of axes(layout)) {
      for (const line of ["gridcolor", "zerolinecolor", "linecolor"]) change[axis + "." + line] = colour("--grid");
    }
    return change;
  }

  function theme(name) {
    root.dataset.theme = name;
    toggle.textContent = name === "dark" ? "Light" : "Dark";
    toggle.setAttribute("aria-label", "Switch to the " + (name === "dark" ? "light" : "dark") + " theme");
    toggle.setAttribute("aria-pressed", String(name === "dark"));
    for (const plot of plots) if (plot.drawn) Plotly.relayout(plot.div, themed(plot.layout));
  }

  function show(plot, at) {
    plot.at = at;
    for (const [trace, update] of Object.entries(plot.frames[at].update)) {
      const wrapped = Object.fromEntries(Object.entries(update).map(([key, value]) => [key, [value]]));
      Plotly.restyle(plot.div, wrapped, [Number(trace)]);
    }
    plot.div.dataset.at = at;
    const slider = document.getElementById("slide-" + plot.number);
    if (slider) {
      slider.value = at;
      slider.setAttribute("aria-valuetext", plot.frames[at].label);
      document.getElementById("at-" + plot.number).textContent = plot.frames[at].label;
    }
  }

  function play(plot, button) {
    const stop = () => {
      clearInterval(plot.timer);
      plot.timer = null;
      button.textContent = "Play";
      button.setAttribute("aria-pressed", "false");
    };
    if (plot.timer) return stop();
    if (plot.at >= plot.frames.length - 1) show(plot, 0);
    button.textContent = "Pause";
    button.setAttribute("aria-pressed", "true");
    const pause = Math.max(80, Math.min(400, 9000 / plot.frames.length));
    plot.timer = setInterval(() => {
      if (plot.at >= plot.frames.length - 1) return stop();
      show(plot, plot.at + 1);
    }, pause);
    plot.stop = stop;
  }

  theme(dark.matches ? "dark" : "light");
  for (const plot of plots) {
    Plotly.newPlot(plot.div, plot.data, plot.layout, config);
    plot.drawn = true;
    plot.at = plot.first;
    plot.div.dataset.at = plot.first;
    Plotly.relayout(plot.div, themed(plot.layout));
  }
  root.dataset.drawn = plots.length;

  toggle.addEventListener("click", () => theme(root.dataset.theme === "dark" ? "light" : "dark"));
  dark.addEventListener("change", () => theme(dark.matches ? "dark" : "light"));
  for (const element of document.querySelectorAll("[data-figure]")) {
    const plot = byNumber.get(element.dataset.figure);
    if (element.tagName === "BUTTON") element.addEventListener("click", () => play(plot, element));
    else
      element.addEventListener("input", () => {
        if (plot.timer) plot.stop();
        show(plot, Number(element.value));
      });
  }

  // Printing: the light theme, and as wide as the paper. A view box lets a figure shrink with its frame.
  let before = null;
  let closed = [];
  window.addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    theme("light");
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const details of closed) details.open = true;
    for (const plot of plots) {
      const { width, height } = plot.div._fullLayout;
      for (const svg of plot.div.querySelectorAll(".main-svg")) svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
      plot.div.querySelector(".svg-container").style.aspectRatio = `${width} / ${height}`;
    }
  });
  window.addEventListener("afterprint", () => {
    for (const svg of document.querySelectorAll(".main-svg")) svg.removeAttribute("viewBox");
    for (const details of closed) details.open = false;
    if (before) theme(before);
  });
})();
