"use strict";

// Shows what /status.json says. Texts come from the job and are set as text, never as markup.

const INTERVAL_MS = 2000;
const PATIENCE_MS = 5000;
const WIDTH = 600;
const HEIGHT = 120;

const byId = (id) => document.getElementById(id);
let heardAt = null;

function say(id, text) {
  const element = byId(id);
  // Unchanged text is left alone: what is selected stays selected.
  if (element.textContent !== text) element.textContent = text;
}

function span(seconds) {
  const whole = Math.floor(seconds);
  const [d, h, m, s] = [
    Math.floor(whole / 86400),
    Math.floor(whole / 3600) % 24,
    Math.floor(whole / 60) % 60,
    whole % 60,
  ];
  if (d) return `${d} d ${h} h`;
  if (h) return `${h} h ${m} min`;
  if (m) return `${m} min ${s} s`;
  return `${s} s`;
}

function bytes(count) {
  const units = ["B", "KiB", "MiB", "GiB", "TiB", "PiB"];
  let index = 0;
  while (count >= 1024 && index < units.length - 1) {
    count /= 1024;
    index += 1;
  }
  return `${count.toFixed(count < 10 && index ? 1 : 0)} ${units[index]}`;
}

const cores = (rate) => `${rate.toFixed(2)} cores`;
const perSecond = (rate) => `${rate.toFixed(rate < 10 ? 2 : 0)} /s`;

// The next round number above the highest value: the scale stands still most of the time.
function ceiling(value, base) {
  if (!(value > 0)) return base === 1024 ? 1024 * 1024 : 1;
  const power = base === 1024 ? 2 ** Math.floor(Math.log2(value)) : 10 ** Math.floor(Math.log10(value));
  const steps = base === 1024 ? [1, 1.5, 2] : [1, 1.5, 2, 3, 5, 7.5, 10];
  return power * steps.find((step) => step * power >= value);
}

// Differences of a sum that rises, for each second.
function rates(points, index) {
  const found = [];
  for (let i = 1; i < points.length; i += 1) {
    const [before, after] = [points[i - 1], points[i]];
    const seconds = after[0] - before[0];
    if (seconds > 0) found.push([after[0], Math.max(0, after[index] - before[index]) / seconds]);
  }
  return found;
}

function draw(id, name, series, now, format, base) {
  const figure = byId(id);
  const svg = figure.querySelector("svg");
  const [area, line] = [figure.querySelector(".area"), figure.querySelector(".line")];
  if (series.length < 2) {
    area.removeAttribute("d");
    line.removeAttribute("d");
    figure.querySelector("strong").textContent = series.length ? format(series[0][1]) : "–";
    svg.setAttribute("aria-label", `${name}: too little measured yet`);
    return;
  }
  const first = series[0][0];
  const width = Math.max(now - first, 1e-9);
  const highest = Math.max(...series.map((point) => point[1]));
  const top = ceiling(highest, base);
  const x = (at) => (((at - first) / width) * WIDTH).toFixed(1);
  const y = (value) => (HEIGHT - (value / top) * HEIGHT).toFixed(1);
  const path = series.map(([at, value]) => `${x(at)} ${y(value)}`).join("L");
  const [end, last] = series[series.length - 1];
  line.setAttribute("d", `M${path}`);
  area.setAttribute("d", `M0 ${HEIGHT}L${path}L${x(end)} ${HEIGHT}Z`);
  figure.querySelector("strong").textContent = format(last);
  figure.querySelector(".top").textContent = format(top);
  figure.querySelector(".from").textContent = `${span(now - first)} ago`;
  svg.setAttribute("aria-label", `${name} over ${span(now - first)}: now ${format(last)}, at most ${format(highest)}`);
}

function list(id, pairs) {
  const items = pairs.map(([name, count]) => {
    const item = document.createElement("li");
    const number = document.createElement("b");
    number.textContent = count.toLocaleString("en");
    item.append(`${name} `, number);
    return item;
  });
  if (!items.length) {
    const none = document.createElement("li");
    none.className = "none";
    none.textContent = "none";
    items.push(none);
  }
  byId(id).replaceChildren(...items);
}

function show(status) {
  document.title = `${status.state}: ${status.job}`;
  say("job", status.job);
  const hasFailed = status.state === "ended" && status.exit_status !== 0;
  say("state", status.exit_status === null ? status.state : `ended with ${status.exit_status}`);
  byId("state").dataset.state = hasFailed ? "failed" : status.state;
  say("where", `${status.user} on ${status.host}`);
  // While an attempt runs, the verdict is about the one before.
  say("verdict-label", status.exit_status === null ? "Last verdict" : "Verdict");
  say("verdict-text", status.verdict ?? "none yet");
  say("uptime", span(status.uptime_seconds));
  say("attempt", status.attempt ? `${status.attempt}` : "–");
  say("restarts", status.restarts === 1 ? "1 restart" : `${status.restarts} restarts`);
  say("processes", status.processes === null ? "–" : `${status.processes}`);
  say("cpu-time", span(status.cpu_seconds));
  say("stops", status.stops ? `${status.stops}×` : "never");
  say("stopped-for", status.stops ? `${span(status.stopped_seconds)} in all` : "");
  say("pid", status.pid === null ? "–" : `${status.pid}`);
  say("run", `run ${status.run_id}`);
  list("signals", status.signals);
  list("calls", status.calls);
  const isProbe = status.calls.length > 0;
  byId("calls-section").hidden = !isProbe;
  byId("chart-calls").hidden = !isProbe;
  const [points, now] = [status.history, status.uptime_seconds];
  // Built-in functions run without a process of their own.
  const hasTree = points.some((point) => point[2] > 0);
  byId("chart-cpu").hidden = isProbe && !hasTree;
  byId("chart-memory").hidden = isProbe && !hasTree;
  draw("chart-cpu", "CPU", rates(points, 1), now, cores, 10);
  draw("chart-memory", "Memory", points.map((point) => [point[0], point[2]]), now, bytes, 1024);
  if (isProbe) draw("chart-calls", "Calls", rates(points, 3), now, perSecond, 10);
}

function connection(isThere) {
  const link = byId("link");
  link.className = isThere ? "link live" : "link lost";
  byId("charts").classList.toggle("lost", !isThere);
  const since = heardAt ? ` since ${heardAt.toLocaleTimeString()}` : "";
  say("link", isThere ? "live" : `no answer${since}: the job has ended, or the machine is gone`);
}

async function look() {
  try {
    const answer = await fetch("/status.json", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    if (!answer.ok) throw new Error(`${answer.status}`);
    show(await answer.json());
    heardAt = new Date();
    connection(true);
  } catch {
    connection(false);
  }
}

async function keepLooking() {
  // Nobody sees a page in the background, so nobody asks for it.
  if (!document.hidden) await look();
  setTimeout(keepLooking, INTERVAL_MS);
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) look();
});
keepLooking();
