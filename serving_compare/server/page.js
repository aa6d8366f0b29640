"use strict";
// One column a backend. Each keeps at most one question open: a newer text aborts or replaces it.

const DEBOUNCE_MS = 50;
const HISTORY = 48;
const SHOWN_TOKENS = 60;
const RETRY_MS = [500, 1000, 2000, 4000];
const TIMEOUT_MS = 8000;
const WHAT = {
  lookup: "Table rows, one product a step",
  lookup_numpy: "The same tables, in NumPy",
  onnx: "onnxruntime, a fused GRU",
  tf2onnx: "onnxruntime, a loop",
  saved_model: "TensorFlow, tokenised in the graph",
  null: "No model: what HTTP costs",
};

const find = (id) => document.getElementById(id);
const text = find("text"), columns = [];
const model = { name: document.documentElement.dataset.model, classes: Infinity };
const wanted = () => ({ text: text.value, k: Math.min(Number(find("k").value), model.classes), tokens: find("show-tokens").checked });

function formatTime(ms) {
  if (ms < 1) return `${Math.max(1, Math.round(ms * 1000))} µs`;
  if (ms < 100) return `${Number(ms.toPrecision(3))} ms`;
  return ms < 1000 ? `${Math.round(ms)} ms` : `${Number((ms / 1000).toPrecision(3))} s`;
}

function median(values) {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted.length ? (sorted[(sorted.length - 1) >> 1] + sorted[sorted.length >> 1]) / 2 : NaN;
}

function make(name, className, content) {
  const element = document.createElement(name);
  if (className) element.className = className;
  if (content !== undefined) element.textContent = content;
  return element;
}

class Column {
  constructor(server) {
    this.backend = server.backend;
    this.url = new URL(server.url);
    // All listen on the same host; the name this page was opened under is the one that reaches it.
    this.url.hostname = location.hostname;
    this.samples = [];
    this.asked = 0;
    this.top = null;
    this.failures = 0;
    this.root = find("column").content.firstElementChild.cloneNode(true);
    this.root.classList.add(`backend-${this.backend}`);
    this.part = (selector) => this.root.querySelector(selector);
    this.part("h2").textContent = this.backend;
    this.part(".what").textContent = WHAT[this.backend] ?? "";
    this.root.setAttribute("aria-label", this.backend);
    find("columns").append(this.root);
    this.setState("connecting", "connecting");
    this.connect();
  }

  setState(state, words) {
    this.state = state;
    for (const name of ["ready", "busy", "down", "connecting"]) this.root.classList.toggle(`is-${name}`, name === state);
    this.part(".state-text").textContent = words;
    summarise();
  }

  isReady(version) {
    this.failures = 0;
    this.setState("ready", `version ${version}`);
    this.part(".idle").textContent = "Waiting for a text.";
  }

  // Ask after the model until it answers, then ask the text again: a backend comes back by itself.
  async connect() {
    clearTimeout(this.retry);
    try {
      const answer = await fetch(new URL(`/v1/models/${encodeURIComponent(model.name)}`, this.url), { signal: AbortSignal.timeout(TIMEOUT_MS) });
      if (!answer.ok) throw new Error(await describe(answer));
      const { version, labels } = await answer.json();
      model.classes = labels.length;
      this.isReady(version);
      if (this.backend === "lookup") this.openStream();
      this.ask(wanted());
    } catch (error) {
      this.fail(error);
    }
  }

  fail(error) {
    const pause = RETRY_MS[Math.min(this.failures, RETRY_MS.length - 1)];
    this.failures += 1;
    this.top = null;
    this.closeStream();
    this.setState("down", "down, trying again");
    this.part(".idle").textContent = "No answer yet.";
    this.root.title = String(error.message ?? error);
    clearTimeout(this.retry);
    this.retry = setTimeout(() => this.connect(), pause);
  }

  openStream() {
    if (this.stream || !find("use-stream").checked || this.state === "down") return;
    const address = new URL(`/v1/models/${encodeURIComponent(model.name)}:stream`, this.url);
    address.protocol = address.protocol === "https:" ? "wss:" : "ws:";
    const stream = this.stream = new WebSocket(address);
    let wasOpen = false;
    stream.onopen = () => { wasOpen = true; find("stream-switch").hidden = false; };
    stream.onmessage = (event) => this.hear(JSON.parse(event.data));
    stream.onclose = () => {
      if (this.stream !== stream) return;
      this.closeStream();
      // Closed for being idle, or the server went: ask how it is. Refused: POST will do meanwhile.
      if (wasOpen && this.state !== "down") this.connect();
      else setTimeout(() => this.openStream(), RETRY_MS.at(-1));
    };
  }

  closeStream() {
    const stream = this.stream;
    this.stream = this.outstanding = this.queued = null;
    stream?.close();
  }

  ask(question) {
    if (!question.text.trim() || this.state === "down" || this.state === "connecting") return;
    if (this.stream?.readyState === WebSocket.OPEN) {
      if (this.outstanding) { this.queued = question; return; }
      this.outstanding = { question, start: performance.now() };
      this.stream.send(JSON.stringify({ text: question.text, k: question.k }));
    } else {
      this.post(question);
    }
  }

  hear(answer) {
    const { question, start } = this.outstanding ?? {};
    const trip = performance.now() - start;
    const next = this.queued;
    this.outstanding = this.queued = null;
    if (answer.error) this.setState("busy", answer.error.message);
    else if (question && question.text === text.value) {
      this.isReady(answer.version);
      this.show({ predictions: answer.predictions, tokens: answer.tokens, model: answer.model_us / 1000, trip,
        fresh: answer.tokens_reused, steps: `${answer.steps_reused} steps reused, ${answer.steps_computed} computed` });
    }
    if (next) this.ask(next);
  }

  async post(question) {
    this.abort?.abort();
    const abort = this.abort = new AbortController();
    const number = ++this.asked;
    const start = performance.now();
    const limit = setTimeout(() => abort.abort(), TIMEOUT_MS);
    try {
      const answer = await fetch(new URL(`/v1/models/${encodeURIComponent(model.name)}:predict`, this.url), {
        method: "POST", headers: { "Content-Type": "application/json" }, signal: abort.signal,
        body: JSON.stringify({ instances: [question.text], k: question.k, return_tokens: question.tokens }),
      });
      if (!answer.ok) {
        const message = await describe(answer);
        if (number !== this.asked) return;
        this.setState("busy", message);
        if (answer.status === 429 || answer.status === 503) {
          clearTimeout(this.retry);
          this.retry = setTimeout(() => this.connect(), 1000 * (Number(answer.headers.get("Retry-After")) || 1));
        }
        return;
      }
      const body = await answer.json();
      const trip = performance.now() - start;
      // An answer to an older text, overtaken by a newer question.
      if (number !== this.asked || question.text !== text.value) return;
      const timing = /model;dur=([\d.]+)/.exec(answer.headers.get("Server-Timing") ?? "");
      this.isReady(body.version);
      this.show({ predictions: body.predictions[0], tokens: body.tokens?.[0], model: timing ? Number(timing[1]) : NaN, trip, fresh: 0, steps: "" });
    } catch (error) {
      if (number === this.asked) this.fail(error);
    } finally {
      clearTimeout(limit);
    }
  }

  show({ predictions, tokens, model: modelMs, trip, fresh, steps }) {
    this.root.removeAttribute("title");
    this.top = predictions[0];
    this.part(".idle").hidden = true;
    const list = this.part(".bars");
    while (list.children.length > predictions.length) list.lastChild.remove();
    predictions.forEach(({ label, probability }, place) => {
      const row = list.children[place] ?? list.appendChild(makeBar());
      row.querySelector("bdi").textContent = label;
      row.querySelector(".share").textContent = formatShare(probability);
      row.querySelector(".fill").style.transform = `scaleX(${probability})`;
    });
    this.part(".trip-time").textContent = formatTime(trip);
    if (Number.isFinite(modelMs)) {
      this.part(".model-time").textContent = formatTime(modelMs);
      this.samples = [...this.samples, Math.max(modelMs, 1e-3)].slice(-HISTORY);
    }
    this.showTokens(tokens, fresh, steps);
    drawSoon();
    summarise();
  }

  showTokens(tokens, reused, steps) {
    const list = this.part(".tokens");
    this.part(".steps").textContent = steps;
    const pieces = (tokens ?? []).slice(0, SHOWN_TOKENS).map((piece, place) =>
      make("li", steps && place >= reused ? "new" : "", String(piece).replaceAll("▁", "·")));
    if (tokens?.length > SHOWN_TOKENS) pieces.push(make("li", "more", `and ${tokens.length - SHOWN_TOKENS} more`));
    list.replaceChildren(...pieces);
  }

  clear() {
    this.abort?.abort();
    this.asked += 1;
    this.queued = this.top = null;
    for (const selector of [".bars", ".tokens"]) this.part(selector).replaceChildren();
    for (const selector of [".model-time", ".trip-time"]) this.part(selector).textContent = "–";
    this.part(".steps").textContent = "";
    this.part(".idle").hidden = false;
  }
}

function makeBar() {
  const row = make("li"), track = make("div", "track");
  track.setAttribute("aria-hidden", "true");
  track.append(make("div", "fill"));
  row.append(make("bdi"), make("span", "share"), track);
  return row;
}

function formatShare(probability) {
  const percent = probability * 100;
  return percent > 0 && percent < 0.1 ? "< 0.1 %" : `${percent.toFixed(1)} %`;
}

async function describe(answer) {
  try {
    return (await answer.json()).error.message;
  } catch {
    return `status ${answer.status}`;
  }
}

let drawing = false;
function drawSoon() {
  if (drawing) return;
  drawing = true;
  requestAnimationFrame(() => { drawing = false; draw(); });
}

function draw() {
  // `null` computes nothing: it would stretch the scale that the others are compared on.
  const timed = columns.filter((column) => column.samples.length);
  const judgedTimes = timed.filter((column) => column.backend !== "null");
  const all = (judgedTimes.length ? judgedTimes : timed).flatMap((column) => column.samples);
  if (!all.length) return;
  const low = Math.floor(Math.log10(Math.min(...all))), high = Math.max(low + 1, Math.ceil(Math.log10(Math.max(...all))));
  const height = (ms) => 40 - 40 * Math.min(1, Math.max(0, (Math.log10(ms) - low) / (high - low)));
  const judged = columns.filter((column) => column.backend !== "null" && column.samples.length >= 3);
  const medians = new Map(judged.map((column) => [column, median(column.samples)]));
  const [first] = [...medians].sort((a, b) => a[1] - b[1]);
  for (const column of columns) {
    const chart = column.part(".history svg");
    chart.setAttribute("viewBox", `0 0 ${HISTORY - 1} 40`);
    const lines = [];
    for (let power = low; power <= high; power += 1) lines.push(shape("line", { x1: 0, x2: HISTORY - 1, y1: height(10 ** power), y2: height(10 ** power) }));
    const start = HISTORY - column.samples.length;
    const points = column.samples.map((ms, place) => `${start + place},${height(ms).toFixed(2)}`);
    if (points.length === 1) points.push(points[0]);
    lines.push(shape("polyline", { points: points.join(" ") }));
    chart.replaceChildren(...lines);
    column.part(".high").textContent = formatTime(10 ** high);
    column.part(".low").textContent = formatTime(10 ** low);
    const middle = medians.get(column);
    let words = "";
    if (middle !== undefined) {
      words = `Median of ${column.samples.length}: ${formatTime(middle)}`;
      if (medians.size > 1) words += column === first[0] ? ", fastest" : `, ${(middle / first[1]).toPrecision(2)}× ${first[0].backend}`;
    }
    chart.setAttribute("aria-label", words || "Model times of the last answers");
    column.part(".factor").textContent = words;
  }
}

function shape(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

// Said aloud by screen readers, so only once the typing rests, and only when it changed.
let summaryTimer;
function summarise() {
  clearTimeout(summaryTimer);
  summaryTimer = setTimeout(() => {
    const answers = columns.filter((column) => column.top && column.backend !== "null");
    const down = columns.filter((column) => column.state === "down").map((column) => column.backend);
    const parts = [];
    if (answers.length && text.value.trim()) {
      const labels = new Set(answers.map((column) => column.top.label));
      const { label, probability } = answers[0].top;
      if (labels.size === 1) {
        parts.push(make("strong", "", label), make("span", "", answers.length > 1
          ? `${formatShare(probability)}, ${answers.length === 2 ? "both" : `all ${answers.length}`} agree` : formatShare(probability)));
      } else {
        parts.push(make("strong", "", "They differ"), make("span", "", answers.map((column) => `${column.backend}: ${column.top.label}`).join("; ")));
      }
    }
    if (down.length) parts.push(make("span", "away", `Down: ${down.join(", ")}.`));
    if (!parts.length) parts.push(make("span", "", "Each letter goes to every backend; here stands what they say."));
    const said = parts.map((part) => part.textContent).join(" ");
    if (said !== find("summary").dataset.said) {
      find("summary").dataset.said = said;
      find("summary").replaceChildren(...parts.flatMap((part) => [part, " "]));
    }
  }, 250);
}

let debounce;
function askAll(pause) {
  clearTimeout(debounce);
  const isEmpty = !text.value.trim();
  find("clear").hidden = !text.value;
  if (isEmpty) { columns.forEach((column) => column.clear()); summarise(); return; }
  debounce = setTimeout(() => columns.forEach((column) => column.ask(wanted())), pause);
}

function setText(value) {
  text.value = value;
  text.focus();
  askAll(0);
}

text.addEventListener("input", () => askAll(DEBOUNCE_MS));
text.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.isComposing) { event.preventDefault(); askAll(0); }
});
find("ask").addEventListener("submit", (event) => event.preventDefault());
find("clear").addEventListener("click", () => setText(""));
find("k").addEventListener("change", () => askAll(0));
find("show-tokens").addEventListener("change", () => {
  find("columns").classList.toggle("no-tokens", !find("show-tokens").checked);
  askAll(0);
});
find("use-stream").addEventListener("change", () => {
  for (const column of columns) {
    column.closeStream();
    if (column.backend === "lookup") column.openStream();
  }
  askAll(DEBOUNCE_MS);
});
const examples = [...find("examples").children];
for (const button of examples) button.addEventListener("click", () => setText(button.textContent));
document.addEventListener("keydown", (event) => {
  if (event.isComposing || event.ctrlKey || event.metaKey) return;
  if (event.key === "Escape") { event.preventDefault(); setText(""); }
  else if (event.key === "/" && !event.altKey && document.activeElement !== text) { event.preventDefault(); text.focus(); text.select(); }
  else if (event.altKey && /^Digit[1-9]$/.test(event.code)) {
    const button = examples[Number(event.code.at(-1)) - 1];
    if (button) { event.preventDefault(); setText(button.textContent); }
  }
});

async function start() {
  try {
    const answer = await fetch("/v1/servers", { signal: AbortSignal.timeout(TIMEOUT_MS) });
    if (!answer.ok) throw new Error(await describe(answer));
    const servers = await answer.json();
    find("trouble").hidden = true;
    columns.push(...servers.map((server) => new Column(server)));
  } catch (error) {
    find("trouble").textContent = `This server does not answer (${error.message}). Trying again.`;
    find("trouble").hidden = false;
    setTimeout(start, 1500);
  }
}
start();
