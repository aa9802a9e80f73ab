"use strict";

// Shows what status.json says. Texts come from the job and are set as text, never as markup.

const INTERVAL_MS = 2000;
const PATIENCE_MS = 5000;
const WIDTH = 600;
const HEIGHT = 120;
const ATTEMPTS_SHOWN = 5;
const SVG = "http://www.w3.org/2000/svg";

// The verdicts that are neither a success nor a failure of the job itself.
const ATTENTION = ["success_with_losses", "stop_requested", "killed_by_terminal", "stopped"];
const SIGNS = { good: "✓", busy: "▶", warn: "!", bad: "✕", none: "?" };
const COLOURS = { good: "#0b7a5c", busy: "#1f5fa8", warn: "#b97000", bad: "#b3261e", none: "#55616a" };

const byId = (id) => document.getElementById(id);
const shown = new Map();
let heardAt = null;
let last = null;

function say(id, text) {
  const element = byId(id);
  // Unchanged text is left alone: what is selected stays selected, and is not read out again.
  if (element.textContent !== text) element.textContent = text;
}

// Whether a part of the page has to be made again.
function isNew(id, value) {
  const text = JSON.stringify(value);
  if (shown.get(id) === text) return false;
  shown.set(id, text);
  return true;
}

function make(name, text, className) {
  const element = document.createElement(name);
  if (text !== undefined) element.textContent = text;
  if (className) element.className = className;
  return element;
}

function drawn(name, attributes) {
  const element = document.createElementNS(SVG, name);
  Object.entries(attributes).forEach(([key, value]) => element.setAttribute(key, value));
  return element;
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

// Shorter than a minute with its fraction, as an attempt or CPU time may be.
function exact(seconds) {
  if (seconds >= 60) return span(seconds);
  if (seconds >= 10 || seconds === 0) return `${seconds.toFixed(0)} s`;
  if (seconds >= 1) return `${seconds.toFixed(1)} s`;
  if (seconds >= 1e-3) return `${(seconds * 1e3).toFixed(seconds < 1e-2 ? 1 : 0)} ms`;
  return `${(seconds * 1e6).toFixed(0)} µs`;
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

const many = (count, what) => `${count.toLocaleString("en")} ${what}${count === 1 ? "" : "s"}`;
const cores = (rate) => `${rate.toFixed(2)} cores`;
const perSecond = (rate) => `${rate.toFixed(rate < 10 ? 2 : 0)} /s`;

// The log and nanny are in UTC, so this is, too.
const utc = (at) => `${new Date(at * 1000).toISOString().slice(0, 19).replace("T", " ")}`;

// The state in words, and how serious it is.
function headline(status) {
  const again = status.restarts ? ` after ${many(status.restarts, "restart")}` : "";
  const kind = status.verdict ? status.verdict.kind : "";
  switch (status.state) {
    case "succeeded":
      if (kind === "success_with_losses") return [`succeeded with losses${again}`, "warn"];
      return [`succeeded${again}`, again ? "warn" : "good"];
    case "failed":
      return [`failed with status ${status.exit_status}${again}`, "bad"];
    case "ended on request":
      return [`ended on request with status ${status.exit_status}`, "warn"];
    case "running":
      if (status.failed_calls) return [`running, ${many(status.failed_calls, "call")} failed`, "bad"];
      return [`running${again}`, again ? "warn" : "busy"];
    case "stopped":
      return ["stopped by a signal", "warn"];
    case "restarting":
      return ["restarting", "warn"];
    case "ending":
      return ["waiting for its descendants", "busy"];
    default:
      return [status.state, "busy"];
  }
}

function levelOf(verdict) {
  if (!verdict) return "busy";
  if (verdict.kind === "success") return "good";
  return ATTENTION.includes(verdict.kind) ? "warn" : "bad";
}

function setState(text, level, job) {
  say("state", text);
  byId("state").dataset.level = level;
  document.title = `${SIGNS[level]} ${text}: ${job}`;
  if (!isNew("icon", level)) return;
  const circle = `<svg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'><circle cx='8' cy='8' r='7' fill='${COLOURS[level]}'/></svg>`;
  byId("icon").href = `data:image/svg+xml,${encodeURIComponent(circle)}`;
}

// The next round number above the highest value: the scale stands still most of the time.
function ceiling(value, base) {
  if (!(value > 0)) return base === 1024 ? 1024 * 1024 : 1;
  const power = base === 1024 ? 2 ** Math.floor(Math.log2(value)) : 10 ** Math.floor(Math.log10(value));
  const steps = base === 1024 ? [1, 1.5, 2] : [1, 1.5, 2, 3, 5, 7.5, 10];
  return power * steps.find((step) => step * power >= value);
}

// From 0 to a round number, which is not below `least`: the labels of a smaller scale would all be 0.
function linear(values, base, least = 0.1) {
  const top = ceiling(Math.max(...values, least), base);
  return { ticks: [0, top / 2, top], height: (value) => value / top };
}

// Whole powers of ten: what differs by a factor of 20 can be read on one scale.
function logarithmic(values) {
  const low = Math.floor(Math.log10(Math.max(Math.min(...values), 1e-6)));
  const high = Math.max(Math.ceil(Math.log10(Math.max(...values, 1e-6))), low + 1);
  const ticks = Array.from({ length: high - low + 1 }, (_, index) => 10 ** (low + index));
  return { ticks, height: (value) => (Math.log10(Math.max(value, 1e-6)) - low) / (high - low) };
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

// Draws a line for each of `lines`, pairs of a name and of points.
function draw(id, name, lines, now, format, scaled) {
  const figure = byId(id);
  const [svg, value] = [figure.querySelector("svg"), figure.querySelector("strong")];
  const points = lines.flatMap(([, series]) => series);
  if (!points.length) return;
  const first = Math.min(...points.map(([at]) => at));
  const width = Math.max(now - first, 1e-9);
  const { ticks, height } = scaled(points.map((point) => point[1]));
  const x = (at) => (((at - first) / width) * WIDTH).toFixed(1);
  const y = (one) => (HEIGHT - height(one) * HEIGHT).toFixed(1);
  const parts = ticks.slice(1).map((tick) => drawn("path", { class: "grid", d: `M0 ${y(tick)}H${WIDTH}` }));
  lines.forEach(([, series], index) => {
    // A single point is a dot.
    const path = series.map(([at, one]) => `${x(at)} ${y(one)}`).join("L") + (series.length < 2 ? "h0.1" : "");
    if (lines.length === 1 && series.length > 1) {
      const end = x(series[series.length - 1][0]);
      parts.push(drawn("path", { class: "area", d: `M${x(series[0][0])} ${HEIGHT}L${path}L${end} ${HEIGHT}Z` }));
    }
    parts.push(drawn("path", { class: `line line-${index % 6}`, d: `M${path}` }));
  });
  svg.replaceChildren(...parts);
  const labels = ticks.map((tick) => {
    const label = make("span", format(tick), "y");
    label.style.top = `${(1 - height(tick)) * 100}%`;
    return label;
  });
  const [from, to] = [make("span", `${span(now - first)} ago`, "from"), make("span", "now", "to")];
  if (last.ended !== null) [from.textContent, to.textContent] = [`${span(now - first)} before`, "the end"];
  figure.querySelector(".plot").replaceChildren(svg, ...labels, from, to);
  const texts = lines.map(([own, series]) => {
    const all = series.map((point) => point[1]);
    const text = `now ${format(all[all.length - 1])}, at most ${format(Math.max(...all))}`;
    return lines.length > 1 ? `${own} ${text}` : text;
  });
  svg.setAttribute("aria-label", `${name} over ${span(now - first)}: ${texts.join("; ")}`);
  if (value) value.textContent = format(points[points.length - 1][1]);
}

function legend(lines) {
  if (!isNew("legend", lines.map(([name, series]) => [name, series[series.length - 1]]))) return;
  const items = lines.map(([name, series], index) => {
    const [item, svg] = [make("li"), drawn("svg", { viewBox: "0 0 32 8", "aria-hidden": "true" })];
    svg.append(drawn("path", { class: `line line-${index % 6}`, d: "M1 4H31" }));
    item.append(svg, `${name} `, make("b", exact(series[series.length - 1][1])));
    return item;
  });
  document.querySelector(".legend").replaceChildren(...items);
}

function list(id, pairs) {
  if (!isNew(id, pairs)) return;
  const items = pairs.map(([name, count]) => {
    const item = make("li", `${name} `);
    item.append(make("b", count.toLocaleString("en")));
    return item;
  });
  if (!items.length) items.push(make("li", "none", "none"));
  byId(id).replaceChildren(...items);
}

function lines(id, texts, isShort) {
  if (!isNew(id, texts)) return;
  const box = byId(id);
  const isAtEnd = box.scrollTop + box.clientHeight >= box.scrollHeight - 4;
  box.replaceChildren(
    ...texts.map(([at, text]) => {
      const [item, time] = [make("li"), make("time", isShort ? utc(at).slice(11) : utc(at))];
      time.dateTime = new Date(at * 1000).toISOString();
      item.append(time, text);
      return item;
    }),
  );
  if (!texts.length) box.replaceChildren(make("li", "none yet", "none"));
  if (isAtEnd) box.scrollTop = box.scrollHeight;
}

function evidence(facts) {
  const items = make("ul");
  items.append(...facts.map((fact) => make("li", fact)));
  return items;
}

function attemptItem(attempt) {
  const { verdict } = attempt;
  const [item, line] = [make("li"), make("p")];
  const kind = make("span", verdict ? verdict.kind : attempt.end ?? "running", "kind");
  kind.dataset.level = levelOf(verdict);
  line.append(`Attempt ${attempt.number} `, kind, verdict ? ` (${verdict.confidence})` : "");
  const facts = [`began ${utc(attempt.began)}`];
  if (attempt.lasted_seconds !== null) facts.push(`lasted ${exact(attempt.lasted_seconds)}`);
  if (attempt.end) facts.push(attempt.end);
  if (attempt.cpu_seconds !== null) facts.push(`CPU ${exact(attempt.cpu_seconds)}`);
  if (attempt.max_rss_bytes !== null) facts.push(`peak ${bytes(attempt.max_rss_bytes)}`);
  facts.push(attempt.pid === null ? "not started" : `process ${attempt.pid}`);
  item.append(line, make("p", facts.join(" · "), "soft"));
  if (verdict && verdict.evidence.length) item.append(evidence(verdict.evidence));
  return item;
}

// The newest first; all but the last few are behind a click.
function attempts(all) {
  byId("attempts-section").hidden = !all.length;
  if (!isNew("attempts", all)) return;
  const newest = [...all].reverse();
  const earlier = newest.slice(ATTEMPTS_SHOWN);
  byId("attempts").replaceChildren(...newest.slice(0, ATTEMPTS_SHOWN).map(attemptItem));
  byId("attempts-earlier").replaceChildren(...earlier.map(attemptItem));
  byId("earlier").hidden = !earlier.length;
  byId("earlier").querySelector("summary").textContent = many(earlier.length, "earlier attempt");
}

function judgement(status) {
  const { verdict } = status;
  byId("verdict").hidden = !verdict;
  if (!verdict) return;
  // While an attempt runs, the verdict is about the one before.
  say("verdict-label", status.ended === null ? "Last verdict" : "Verdict");
  say("verdict-kind", verdict.kind);
  byId("verdict-kind").dataset.level = levelOf(verdict);
  say("verdict-confidence", `(${verdict.confidence})`);
  if (isNew("verdict", verdict)) byId("verdict-evidence").replaceChildren(...evidence(verdict.evidence).children);
}

function facts(status) {
  say("job", status.job);
  say("command", status.is_builtin ? `built-in function ${status.command}` : status.command);
  byId("command").hidden = !status.command;
  say("began", `${utc(status.began)} UTC`);
  say("ended", status.ended === null ? "not yet" : `${utc(status.ended)} UTC`);
  say("host", status.host);
  say("user", status.user);
  say("directory", status.directory);
  say("log-file", status.log ?? "a stream, not a file");
  say("run", status.run_id);
  byId("next").hidden = !status.restart;
  if (!status.restart) return;
  const { attempt, in_seconds: wait, restarts_left: left } = status.restart;
  say("next", `Attempt ${attempt} begins in ${span(wait)}; after it ${many(left, "restart")} left.`);
}

function tiles(status) {
  say("uptime-label", status.ended === null ? "Running for" : "Ran for");
  say("uptime", span(status.uptime_seconds));
  byId("attempt-tile").hidden = status.is_builtin;
  say("attempt", status.attempt ? `${status.attempt}` : "–");
  say("restarts", many(status.restarts, "restart"));
  say("processes", status.processes === null ? "–" : `${status.processes}`);
  say("cpu-time", exact(status.cpu_seconds));
  say("stops", status.stops ? `${status.stops}×` : "never");
  say("stopped-for", status.stops ? `${span(status.stopped_seconds)} in all` : "");
  say("pid", status.pid === null ? "–" : `${status.pid}`);
}

function charts(status) {
  const [points, now] = [status.history, status.uptime_seconds];
  const isProbe = status.is_builtin || status.calls.length > 0;
  byId("calls-section").hidden = !isProbe;
  byId("chart-calls").hidden = !isProbe;
  byId("chart-durations").hidden = !status.durations.length;
  const byTen = (values) => linear(values, 10);
  draw("chart-cpu", "CPU", [["", rates(points, 1)]], now, cores, byTen);
  const memory = points.map((point) => [point[0], point[2]]);
  draw("chart-memory", "Memory", [["", memory]], now, bytes, (values) => linear(values, 1024, 1024));
  if (!isProbe) return;
  draw("chart-calls", "Calls", [["", rates(points, 3)]], now, perSecond, byTen);
  draw("chart-durations", "Time of one call", status.durations, now, exact, logarithmic);
  legend(status.durations);
}

function show(status) {
  last = status;
  const [text, level] = headline(status);
  setState(text, level, status.job);
  facts(status);
  judgement(status);
  tiles(status);
  attempts(status.attempts);
  list("signals", status.signals);
  lines("last-signals", status.last_signals, true);
  byId("last-signals").hidden = !status.last_signals.length;
  list("calls", status.calls);
  lines("lines", status.log_lines, true);
  charts(status);
}

function connection(isThere) {
  const hasEnded = last !== null && last.ended !== null;
  byId("link").className = isThere || hasEnded ? "link" : "link lost";
  byId("charts").classList.toggle("lost", !isThere && !hasEnded);
  if (isThere) {
    say("link", hasEnded ? "the run has ended; this page is there until it is scraped or its time is up" : "live");
    return;
  }
  const since = heardAt ? ` since ${utc(heardAt / 1000).slice(11)} UTC` : "";
  if (hasEnded) {
    say("link", `closed: the run has ended, and nobody answers${since}`);
    return;
  }
  say("link", `no answer${since}: the run has ended, or the machine cannot be reached`);
  // What was true then may not be true any more.
  if (last) setState(`unknown (was ${headline(last)[0]})`, "none", last.job);
}

async function look() {
  let status;
  try {
    const answer = await fetch("./status.json", { cache: "no-store", signal: AbortSignal.timeout(PATIENCE_MS) });
    if (!answer.ok) throw new Error(`${answer.status}`);
    status = await answer.json();
  } catch {
    connection(false);
    return;
  }
  // A failure from here on is one of the page, and goes to the console.
  heardAt = Date.now();
  show(status);
  connection(true);
}

async function keepLooking() {
  // Nobody sees a page in the background, so nobody asks for it.
  try {
    if (!document.hidden) await look();
  } finally {
    setTimeout(keepLooking, INTERVAL_MS);
  }
}

document.addEventListener("visibilitychange", () => {
  if (!document.hidden) look();
});
keepLooking();
