"use strict";
// Draws the figures, those in closed details when they are opened; runs their controls; marks the
// section in view in the contents; switches between the light and the dark theme.
(() => {
  const root = document.documentElement;
  const toggle = document.getElementById("theme");
  const contents = document.getElementById("contents");
  const dark = window.matchMedia("(prefers-color-scheme: dark)");
  const still = window.matchMedia("(prefers-reduced-motion: reduce)");
  const plots = [...document.querySelectorAll(".chart")].map((div) => {
    const number = div.id.slice("plot-".length);
    return { div, number, controls: [...document.querySelectorAll(`[data-figure="${number}"]:not(button)`)] };
  });
  const byNumber = new Map(plots.map((plot) => [plot.number, plot]));

  // Colours

  const axes = (layout) => Object.keys(layout).filter((key) => /^[xy]axis\d*$/.test(key));

  // A figure arrives in colours that are legible on any background; here it gets those of an element.
  function themed(layout, element) {
    const colour = (name) => getComputedStyle(element).getPropertyValue(name).trim();
    const change = { "font.color": colour("--ink"), "hoverlabel.bgcolor": colour("--sheet"), "hoverlabel.font.color": colour("--ink"), "hoverlabel.bordercolor": colour("--line") };
    for (const axis of axes(layout)) {
      for (const line of ["gridcolor", "zerolinecolor", "linecolor"]) change[axis + "." + line] = colour("--grid");
    }
    return change;
  }

  // Colours of lines and markers that are too dark for a dark page, and those that stand for them.
  const BRIGHT = new Map([["#0072B2", "#7C9BFF"], ["#009E73", "#2CC79B"], ["#D55E00", "#F5792A"]]);

  function brightened(value) {
    if (typeof value === "string") return BRIGHT.get(value) ?? value;
    if (Array.isArray(value)) return value.map(brightened);
    return value;
  }

  const COLOURED = ["line.color", "marker.color", "marker.line.color", "error_y.color"];
  const within = (owner, path) => path.split(".").reduce((value, name) => value?.[name], owner);

  // The colours of a figure's traces in a theme, by path: a value for each trace.
  function traceColours(data, isDark) {
    const change = {};
    for (const path of COLOURED) {
      if (!data.some((trace) => JSON.stringify(brightened(within(trace, path))) !== JSON.stringify(within(trace, path)))) continue;
      change[path] = data.map((trace) => (isDark ? brightened(within(trace, path)) : within(trace, path)));
    }
    return change;
  }

  // A copy of traces in the colours that those of `data` have in a theme.
  function painted(traces, data, isDark) {
    const result = structuredClone(traces);
    for (const [path, values] of Object.entries(traceColours(data, isDark))) {
      const names = path.split(".");
      const last = names.pop();
      result.forEach((trace, i) => {
        const owner = within(trace, names.join("."));
        if (owner && values[i] !== undefined) owner[last] = values[i];
      });
    }
    return result;
  }

  // Titles and names of a legend in lines that fit in so many pixels; plotly doesn't break them.
  function lines(text, letters) {
    const words = text.replace(/ ?<br>/g, " ").split(" ");
    const result = [""];
    for (const word of words) {
      const line = result[result.length - 1];
      if (line && line.length + word.length >= letters) result.push(word);
      else result[result.length - 1] = line ? line + " " + word : word;
    }
    return result.join(" <br>");
  }

  const LABEL = 12.5; // pixels between the labels of neighbouring cells, below which they overlap

  // A title stands in the middle of its axis, and may reach as far as the nearer side of the figure.
  // Where an axis names every cell and has no room for that, it names every second, third, ...
  function fitted(plot) {
    const { _fullLayout: full } = plot.div;
    const change = {};
    for (const axis of axes(plot.layout)) {
      const names = full[axis]?._categories?.length;
      if (names && plot.layout[axis].dtick === 1) change[axis + ".dtick"] = Math.max(1, Math.ceil((LABEL * names) / full[axis]._length));
      const text = plot.layout[axis].title?.text;
      if (axis[0] !== "x" || !text || !full[axis]) continue;
      const middle = full[axis]._offset + full[axis]._length / 2;
      const letters = Math.max(12, (2 * Math.min(middle, full.width - middle) - 12) / 7.4);
      change[axis + ".title.text"] = text.includes("<br>") || text.length > letters ? lines(text, letters) : text;
    }
    return change;
  }

  // On a narrow screen a legend has fewer names in a row; the figure gets the room that it needs.
  function roomy(plot, pixels) {
    const names = plot.data.filter((trace) => trace.name && trace.showlegend !== false && plot.layout.showlegend !== false);
    const widest = Math.max(...names.map((trace) => 52 + 6.6 * trace.name.length), 1);
    const columns = Math.max(1, Math.floor((pixels - 70) / widest));
    const count = (trace) => Math.ceil((6.6 * trace.name.length) / (pixels - 120));
    const rows = Math.ceil(names.reduce((sum, trace) => sum + count(trace), 0) / columns);
    if (pixels > 500 || rows < 4) return;
    plot.layout.height += 24 * (rows - 3);
    plot.layout.legend = { ...plot.layout.legend, maxheight: 22 * rows, orientation: "h", x: 0, xanchor: "left", y: 0, yref: "container", yanchor: "bottom" };
  }

  function named(data, pixels) {
    for (const trace of data) if (trace.name && 6.6 * trace.name.length > pixels - 120) trace.name = lines(trace.name, (pixels - 120) / 6.6);
    return data;
  }

  // Tokens in cells, and in the rows above and below them, are cut to the width of a cell; the text
  // under the pointer has all of them.
  const holdsTokens = (trace) => (trace.type === "heatmap" ? trace.texttemplate === "%{text}" : trace.mode === "text");
  const LETTER = 0.57; // the width of a letter as a part of its height

  function cut(text, letters) {
    const parts = text.match(/<[^>]*>|&[^;\s]+;|./gsu) ?? [];
    const mark = / ?[✗✓]$/u.exec(text)?.[0] ?? "";
    if (parts.filter((part) => part[0] !== "<").length <= letters) return text;
    return parts.slice(0, Math.max(1, letters - 1 - mark.length)).join("") + "…" + mark;
  }

  const SMALLEST = 6.5; // pixels of letters that can be read
  const lengths = {}; // by figure and trace

  // How large the letters of a trace are, and how many fit into a cell; 0 letters where none can.
  function lettering(plot, trace) {
    const heatmap = plot.data.find((one) => one.type === "heatmap") ?? trace;
    const { xaxis, yaxis, height } = plot.layout;
    const span = (range, otherwise) => (range?.length === 2 ? Math.abs(range[1] - range[0]) : otherwise);
    const step = heatmap.y?.length > 1 ? Math.abs(heatmap.y[1] - heatmap.y[0]) : 1;
    const columns = span(xaxis?.range, heatmap.z?.[0]?.length ?? new Set(trace.x).size);
    const room = (plot.div.clientWidth - 90) / Math.max(1, columns) - 3;
    const tall = (height - 100) / Math.max(1, span(yaxis?.range, heatmap.z?.length ?? 1) / step);
    const most = (lengths[plot.number + " " + plot.data.indexOf(trace)] ??= longest(plot, trace));
    const base = Math.min(trace.textfont?.size ?? 12, tall / 1.15);
    for (let wanted = Math.min(3, most); wanted > 0; wanted--) {
      const size = Math.min(base, room / (LETTER * wanted));
      if (size >= SMALLEST && (wanted > 1 || most === 1)) return { size, letters: Math.floor(room / (LETTER * size) + 0.01) };
    }
    return { size: SMALLEST, letters: 0 };
  }

  // Letters of the longest of a trace's texts, in all frames.
  function longest(plot, trace) {
    const number = plot.data.indexOf(trace);
    const texts = [trace.text, ...plot.frames.map((frame) => frame[number]?.text ?? [])].flat(3);
    return Math.max(1, ...texts.map((text) => String(text ?? "").replace(/<[^>]*>/g, "").replace(/&[^;\s]+;/g, "x").length));
  }

  function short(plot, trace, texts) {
    const { letters } = lettering(plot, trace);
    const each = (one) => (Array.isArray(one) ? one.map(each) : letters ? cut(String(one ?? ""), letters) : "");
    return texts.map(each);
  }

  function tokensThatFit(plot, data) {
    for (const [i, trace] of data.entries()) {
      if (!holdsTokens(trace) || !trace.text?.length) continue;
      trace.hovertext = trace.text;
      trace.hovertemplate = trace.hovertemplate?.replaceAll("%{text}", "%{hovertext}");
      trace.text = short(plot, plot.data[i], trace.text);
      trace.textfont = { ...trace.textfont, size: lettering(plot, plot.data[i]).size };
    }
    return data;
  }

  // The same of a frame's change of one trace.
  function changeThatFits(plot, number, update) {
    const trace = plot.data[number];
    if (!update.text || !holdsTokens(trace)) return update;
    return { ...update, hovertext: update.text, text: short(plot, trace, update.text) };
  }

  function coloured(layout, element) {
    const result = structuredClone(layout);
    for (const [path, value] of Object.entries(themed(layout, element))) {
      const names = path.split(".");
      const last = names.pop();
      let owner = result;
      for (const name of names) owner = owner[name] ??= {};
      owner[last] = value;
    }
    return result;
  }

  function theme(name) {
    root.dataset.theme = name;
    toggle.textContent = name === "dark" ? "Light" : "Dark";
    toggle.setAttribute("aria-label", "Switch to the " + (name === "dark" ? "light" : "dark") + " theme");
    toggle.setAttribute("aria-pressed", String(name === "dark"));
    for (const plot of plots) if (plot.drawn) Plotly.update(plot.div, traceColours(plot.data, name === "dark"), themed(plot.layout, root));
  }

  // Drawing

  // All figures are packed together, since much is the same in them: by number.
  async function unpack() {
    const text = document.getElementById("figures").textContent;
    const bytes = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
    const figures = JSON.parse(await new Response(stream).text());
    for (const plot of plots) Object.assign(plot, figures[plot.number]);
  }

  // The picture is light on white, whatever the theme of the page, and has its title in it.
  function save(plot, format) {
    const light = document.createElement("div");
    light.className = "light";
    document.body.append(light);
    const layout = coloured(plot.div.layout, light);
    light.remove();
    const title = plot.div.closest("figure").querySelector("h4").textContent;
    const quoted = title.replace(/&/g, "&amp;").replace(/</g, "&lt;");
    layout.title = { text: quoted, x: 0, xref: "paper", xanchor: "left", y: 1, yref: "container", yanchor: "top", pad: { t: 12 }, font: { size: 15 } };
    layout.margin = { ...layout.margin, t: (layout.margin.t || 0) + 34 };
    layout.paper_bgcolor = layout.plot_bgcolor = "#ffffff";
    const { width, height } = plot.div._fullLayout;
    const data = painted(plot.div.data, plot.data, false);
    const size = { width: Math.max(width, 560), height: height + 34 };
    return Plotly.downloadImage({ data, layout }, { format, filename: plot.div.dataset.file, scale: format === "png" ? 2 : 1, ...size });
  }

  function config(plot) {
    const button = (format) => ({
      name: format,
      title: "Save as " + format.toUpperCase(),
      attr: "format",
      val: format,
      icon: Plotly.Icons.disk,
      click: () => save(plot, format),
    });
    return { displayModeBar: "hover", displaylogo: false, responsive: false, scrollZoom: false, modeBarButtons: [[button("png"), button("svg")]] };
  }

  const watch = new ResizeObserver((entries) => {
    for (const { target, contentRect } of entries) {
      const plot = byNumber.get(target.id.slice("plot-".length));
      if (plot.drawn && contentRect.width > 0 && Math.abs(contentRect.width - plot.div._fullLayout.width) > 1) {
        Plotly.Plots.resize(target);
        Plotly.relayout(target, fitted(plot));
        refit(plot);
      }
    }
  });

  // Labels may be so long that they leave no room for the plot, which plotly answers with an error:
  // then the figure is made taller. One that can't be drawn says so, and the others are drawn.
  function draw(plot) {
    if (plot.drawn || !plot.data) return;
    roomy(plot, plot.div.clientWidth);
    for (const more of [0, 300, 900]) {
      try {
        plot.div.textContent = "";
        plot.layout.height += more;
        const data = tokensThatFit(plot, named(painted(plot.data, plot.data, root.dataset.theme === "dark"), plot.div.clientWidth));
        Plotly.newPlot(plot.div, data, coloured(plot.layout, root), config(plot));
        Plotly.relayout(plot.div, fitted(plot));
        plot.drawn = true;
        break;
      } catch (error) {
        Plotly.purge(plot.div);
        plot.div.textContent = "This figure can't be drawn: " + error.message + ".";
      }
    }
    plot.div.dataset.at = position(plot);
    if (plot.drawn) watch.observe(plot.div);
  }

  const folded = (plot) => plot.div.closest("details:not([open])");

  // Controls. A figure has a frame for each combination of its controls' values; the last control's
  // value changes fastest.

  const size = (control) => (control.options ? control.options.length : Number(control.max) + 1);
  const position = (plot) => plot.controls.reduce((at, control) => at * size(control) + Number(control.value), 0);

  function say(control) {
    if (control.tagName !== "INPUT") return;
    const label = JSON.parse(control.dataset.labels)[Number(control.value)];
    control.setAttribute("aria-valuetext", label);
    document.getElementById(control.id.replace("slide-", "at-")).textContent = label;
  }

  // One call for all traces of which the same attributes change: each call draws the figure again.
  function show(plot) {
    const at = position(plot);
    const calls = new Map();
    for (const [trace, whole] of Object.entries(plot.frames[at])) {
      const update = changeThatFits(plot, trace, whole);
      const names = Object.keys(update).sort();
      const key = JSON.stringify(names);
      if (!calls.has(key)) calls.set(key, { traces: [], values: Object.fromEntries(names.map((name) => [name, []])) });
      const call = calls.get(key);
      call.traces.push(Number(trace));
      for (const name of names) call.values[name].push(update[name]);
    }
    for (const { traces, values } of calls.values()) Plotly.restyle(plot.div, values, traces);
    plot.div.dataset.at = at;
    for (const control of plot.controls) say(control);
  }

  // Where a figure has got another width, its tokens are cut anew.
  function refit(plot) {
    plot.data.forEach((trace, i) => {
      const text = plot.div.data[i].hovertext;
      if (holdsTokens(trace) && text?.length) Plotly.restyle(plot.div, { text: [short(plot, trace, text)], "textfont.size": lettering(plot, trace).size }, [i]);
    });
  }

  // Goes through the values of one slider; the figure's other controls stay.
  function play(plot, button) {
    const slider = document.getElementById(button.dataset.slider);
    const last = Number(slider.max);
    const stop = () => {
      clearInterval(plot.timer);
      plot.timer = null;
      button.textContent = "Play";
      button.setAttribute("aria-pressed", "false");
    };
    const go = (value) => {
      slider.value = value;
      show(plot);
    };
    if (plot.timer) {
      const isMine = plot.stop.button === button;
      plot.stop();
      if (isMine) return;
    }
    if (Number(slider.value) >= last) go(0);
    button.textContent = "Pause";
    button.setAttribute("aria-pressed", "true");
    const pause = Math.max(still.matches ? 400 : 80, Math.min(400, 9000 / (last + 1)));
    plot.timer = setInterval(() => {
      if (Number(slider.value) >= last) return stop();
      go(Number(slider.value) + 1);
    }, pause);
    plot.stop = Object.assign(stop, { button });
  }

  for (const element of document.querySelectorAll("[data-figure]")) {
    const plot = byNumber.get(element.dataset.figure);
    if (element.tagName === "BUTTON") element.addEventListener("click", () => plot.drawn && play(plot, element));
    else
      element.addEventListener("input", () => {
        if (plot.timer) plot.stop();
        if (plot.drawn) show(plot);
      });
  }

  // Details: what is pressed stays where it is on the screen, although its section may get wider.

  for (const details of document.querySelectorAll("details")) {
    const summary = details.querySelector("summary");
    let before = null;
    summary.addEventListener("click", () => {
      before = summary.getBoundingClientRect().top;
    });
    details.addEventListener("toggle", () => {
      if (before !== null) window.scrollBy({ top: summary.getBoundingClientRect().top - before, behavior: "instant" });
      before = null;
      for (const plot of plots) if (details.contains(plot.div) && !folded(plot)) draw(plot);
    });
  }

  // A link leads into details too.
  function reveal() {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    for (let one = target?.closest("details"); one; one = one.parentElement.closest("details")) one.open = true;
  }

  // Contents

  const links = new Map([...document.querySelectorAll("#sections a")].map((link) => [link.hash.slice(1), link]));
  const names = [...links.keys()];
  const here = document.getElementById("here");
  let chosen = null; // the section whose link was pressed, until it leaves the screen again

  // Marked is the first section in the upper part of the screen, below the bar. Where the page ends
  // sections stay below that part: there it is the last, or the one whose link was pressed.
  function mark() {
    const isEnd = window.scrollY + window.innerHeight >= root.scrollHeight - 36;
    const isIn = (name, part) => {
      const { top, bottom } = document.getElementById(name).getBoundingClientRect();
      return bottom > 64 && top < part * window.innerHeight;
    };
    if (chosen !== null && !isIn(chosen, isEnd ? 1 : 0.4)) chosen = null;
    const name = chosen ?? (isEnd ? names[names.length - 1] : names.find((one) => isIn(one, 0.4)));
    if (name === undefined) return;
    for (const [other, link] of links) {
      if (other === name) link.setAttribute("aria-current", "true");
      else link.removeAttribute("aria-current");
    }
    here.textContent = links.get(name).textContent;
    const nav = document.getElementById("sections");
    const { top, bottom } = links.get(name).getBoundingClientRect();
    const frame = nav.getBoundingClientRect();
    if (top < frame.top) nav.scrollTop -= frame.top - top + 40;
    if (bottom > frame.bottom) nav.scrollTop += bottom - frame.bottom + 40;
  }

  function fold(open) {
    contents.setAttribute("aria-expanded", String(open));
  }
  contents.addEventListener("click", () => fold(contents.getAttribute("aria-expanded") !== "true"));
  document.addEventListener("keydown", (event) => {
    if (event.key === "Escape" && contents.getAttribute("aria-expanded") === "true") {
      fold(false);
      contents.focus();
    }
  });
  for (const [name, link] of links) {
    link.addEventListener("click", () => {
      fold(false);
      document.getElementById(name).scrollIntoView(); // before it is marked
      chosen = name;
      mark();
    });
  }
  window.addEventListener("scroll", mark, { passive: true });
  new ResizeObserver(mark).observe(document.getElementById("page")); // also begins

  // Printing: the light theme, everything open and drawn, and as wide as the paper. A view box lets
  // a figure shrink with its frame.
  let before = null;
  let closed = [];
  window.addEventListener("beforeprint", () => {
    before = root.dataset.theme;
    theme("light");
    closed = [...document.querySelectorAll("details:not([open])")];
    for (const details of closed) details.open = true;
    for (const plot of plots) {
      draw(plot);
      if (!plot.drawn) continue;
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

  // Beginning

  theme(dark.matches ? "dark" : "light");
  root.dataset.ready = "";
  toggle.addEventListener("click", () => theme(root.dataset.theme === "dark" ? "light" : "dark"));
  dark.addEventListener("change", () => theme(dark.matches ? "dark" : "light"));
  window.addEventListener("hashchange", reveal);
  reveal();
  (async () => {
    try {
      if (!window.Plotly) throw new Error("plotly's script could not be loaded");
      if (!window.DecompressionStream) throw new Error("this browser is too old (it has no DecompressionStream)");
      await unpack();
      for (const plot of plots) if (!folded(plot)) draw(plot);
      root.dataset.drawn = plots.filter((plot) => plot.drawn).length;
    } catch (error) {
      const note = document.getElementById("problem");
      note.textContent = "The figures can't be drawn: " + error.message + ".";
      note.hidden = false;
    }
  })();
})();
