// What Grafana's Prometheus data source does with a dashboard, as far as it is needed: variables, macros, the HTTP API,
// and data frames. Runs in the page and in Node.
import { createDataFrame, DataFrame, dateMath, dateTime, FieldType, rangeUtil, TimeRange } from '@grafana/data';

export type Scope = {
  range: TimeRange;
  scrapeMs: number;
  vars: Map<string, { text: string; value: string }>; // value: ready for =~
  api: (path: string, params: Record<string, string | string[]>) => Promise<any>;
};

export function httpApi(base: string): Scope['api'] {
  return async (path, params) => {
    const body = new URLSearchParams();
    for (const [k, v] of Object.entries(params)) [v].flat().forEach((x) => body.append(k, x));
    const get = path.startsWith('label/'); // /label/NAME/values takes no POST
    const r = await fetch(`${base}/api/v1/${path}${get ? `?${body}` : ''}`, get ? {} : { method: 'POST', body });
    const j = await r.json();
    if (j.status !== 'success') throw new Error(`${j.errorType}: ${j.error}`);
    return j.data;
  };
}

export function timeRange(from: string, to: string): TimeRange {
  const at = (s: string, roundUp: boolean) => (/^\d+$/.test(s) ? dateTime(Number(s)) : dateMath.toDateTime(s, { roundUp, timezone: 'utc' })!);
  return { from: at(from, false), to: at(to, true), raw: { from, to } };
}

const sec = (t: { valueOf(): number }) => String(t.valueOf() / 1000);
const esc = (s: string) => s.replace(/[\\^$.*+?()[\]{}|]/g, '\\\\$&'); // a regular expression inside a PromQL string

/** $name, ${name}, ${name:format}, [[name]], and the macros. */
export function interpolate(text: string, scope: Scope, stepMs = 15000): string {
  const rangeMs = scope.range.to.valueOf() - scope.range.from.valueOf();
  const rate = Math.max(stepMs + scope.scrapeMs, 4 * scope.scrapeMs);
  const macros: Record<string, string> = {
    __interval: `${stepMs}ms`, __interval_ms: String(stepMs), __rate_interval: `${rate}ms`, __rate_interval_ms: String(rate),
    __range: `${Math.round(rangeMs / 1000)}s`, __range_s: String(Math.round(rangeMs / 1000)), __range_ms: String(rangeMs),
  };
  return text.replace(/\$(\w+)|\$\{(\w+)(?::\w+)?\}|\[\[(\w+)\]\]/g, (all, a, b, c) => {
    const name = a ?? b ?? c;
    return macros[name] ?? scope.vars.get(name)?.value ?? all;
  });
}

/** Ask for the values of all variables, in order, so that later ones may use earlier ones. */
export async function resolveVariables(list: any[], scope: Scope, given: Record<string, string[]> = {}) {
  for (const v of list) {
    if (v.type === 'datasource') { scope.vars.set(v.name, { text: v.query === 'loki' ? 'Loki' : 'Prometheus', value: v.name }); continue; }
    let options: string[] = [];
    if (v.type === 'query') {
      const query = interpolate(typeof v.query === 'string' ? v.query : v.query.query, scope);
      const m = /^label_values\((?:([^]+),\s*)?(\w+)\)$/.exec(query.trim());
      if (!m) throw new Error(`variable ${v.name}: cannot do ${query}`);
      options = await scope.api(`label/${m[2]}/values`, { ...(m[1] ? { 'match[]': m[1] } : {}), start: sec(scope.range.from), end: sec(scope.range.to) });
      if (!options.length) throw new Error(`variable ${v.name}: ${query} has no values`);
    } else if (v.type === 'custom') options = String(v.query).split(',').map((s) => s.trim());
    else options = [String(v.query ?? v.current?.value ?? '')];
    let chosen = given[v.name] ?? [v.current?.value ?? []].flat();
    if (!chosen.length) chosen = [options[0]];
    const all = chosen.includes('$__all');
    const values = all ? options : chosen;
    const regex = v.multi || v.includeAll;
    scope.vars.set(v.name, {
      text: all ? 'All' : chosen.join(' + '),
      value: all && v.allValue ? v.allValue : !regex ? values[0] : values.length === 1 ? esc(values[0]) : `(${values.map(esc).join('|')})`,
    });
  }
}

export const stepOf = (panel: any, scope: Scope, pixels: number) =>
  rangeUtil.calculateInterval(scope.range, panel.maxDataPoints ?? pixels, interpolate(panel.interval ?? `${scope.scrapeMs}ms`, scope)).intervalMs;

const number = (s: string) => (s === '+Inf' ? Infinity : s === '-Inf' ? -Infinity : Number(s));
const legendOf = (format: string | undefined, labels: Record<string, string>) =>
  !format || format === '__auto' ? undefined : format.replace(/\{\{\s*(\w+)\s*\}\}/g, (_, l) => labels[l] ?? '');
const nameOf = (labels: Record<string, string>) => {
  const { __name__ = '', ...rest } = labels;
  const l = Object.entries(rest).map(([k, v]) => `${k}="${v}"`).join(', ');
  return l ? `${__name__}{${l}}` : __name__ || 'Value';
};

type Series = { metric: Record<string, string>; values?: Array<[number, string]>; value?: [number, string] };

/** The frames of one target; none if there is no data. */
export async function query(target: any, scope: Scope, stepMs: number): Promise<DataFrame[]> {
  const expr = interpolate(target.expr, scope, stepMs);
  const step = stepMs / 1000;
  const aligned = (t: { valueOf(): number }) => String(Math.floor(t.valueOf() / stepMs) * step);
  const data = target.instant && !target.range
    ? await scope.api('query', { query: expr, time: sec(scope.range.to) })
    : await scope.api('query_range', { query: expr, start: aligned(scope.range.from), end: aligned(scope.range.to), step: String(step) });
  const series: Series[] = data.resultType === 'scalar' ? [{ metric: {}, value: data.result }] : data.result;
  const points = (s: Series) => s.values ?? [s.value!];
  const refId = target.refId;
  if (!series.length) return [];

  if (target.format === 'table') {
    const labels = [...new Set(series.flatMap((s) => Object.keys(s.metric)))].filter((l) => l !== '__name__').sort();
    const rows = series.flatMap((s) => points(s).map(([t, v]) => ({ t: t * 1000, v: number(v), m: s.metric })));
    return [createDataFrame({ refId, fields: [
      { name: 'Time', type: FieldType.time, values: rows.map((r) => r.t) },
      ...labels.map((l) => ({ name: l, type: FieldType.string, values: rows.map((r) => r.m[l] ?? '') })),
      { name: 'Value', type: FieldType.number, values: rows.map((r) => r.v) },
    ] })];
  }

  const time = (values: number[]) => ({ name: 'Time', type: FieldType.time, values, config: { interval: stepMs } });
  if (target.format === 'heatmap') {
    // Buckets of a classic histogram are cumulative: sort by le and take each from the next.
    const byLe = [...series].sort((a, b) => number(a.metric.le) - number(b.metric.le));
    const times = [...new Set(byLe.flatMap((s) => points(s).map(([t]) => t)))].sort((a, b) => a - b);
    const columns = byLe.map((s) => { const at = new Map(points(s).map(([t, v]) => [t, number(v)])); return times.map((t) => at.get(t) ?? 0); });
    return [createDataFrame({ refId, meta: { type: 'heatmap-rows' as any }, fields: [
      time(times.map((t) => t * 1000)),
      ...byLe.map((s, i) => ({ name: s.metric.le, type: FieldType.number, values: columns[i].map((v, j) => Math.max(0, v - (i ? columns[i - 1][j] : 0))) })),
    ] })];
  }

  return series.map((s) => {
    // A step without a sample is a null, so that lines have gaps. (TimeSeries does that by itself for the first frame only.)
    const times: number[] = [], values: Array<number | null> = [];
    for (const [t, v] of points(s)) {
      const ms = Math.round(t * 1000);
      for (let at = times.at(-1)! + stepMs; at < ms; at += stepMs) { times.push(at); values.push(null); }
      times.push(ms); values.push(number(v));
    }
    return createDataFrame({ refId, fields: [
      time(times),
      { name: 'Value', type: FieldType.number, labels: s.metric, values,
        config: { displayNameFromDS: legendOf(target.legendFormat, s.metric) ?? nameOf(s.metric) } },
    ] });
  });
}

/** Lines of log files in place of a Loki: those whose job the stream selector matches, and which the filter by a sender leaves. */
export async function logLines(expr: string, scope: Scope): Promise<DataFrame[]> {
  const [, names] = /service_name=~"([^"]*)"/.exec(interpolate(expr, scope))!;
  const lines: Array<{ at: number; name: string; text: string }> = await (await fetch('logs')).json();
  const shown = lines.filter((l) => new RegExp(`^(${names})$`).test(l.name) && l.at >= scope.range.from.valueOf() && l.at <= scope.range.to.valueOf()
    && (!expr.includes('sender_pid') || / from .*process |sent by/.test(l.text))).sort((a, b) => b.at - a.at).slice(0, 40);
  if (!shown.length) return [];
  return [createDataFrame({ fields: [
    { name: 'Time', type: FieldType.time, values: shown.map((l) => l.at) },
    { name: 'Line', type: FieldType.string, values: shown.map((l) => `${l.name}  ${l.text}`) },
    { name: 'Color', type: FieldType.string, values: shown.map((l) => (/verdict: (?!success)|terminated by|wrong/.test(l.text) ? 'red' : /caught|received|signal/.test(l.text) ? 'yellow' : 'green')) },
  ] })];
}

export type Note = { from: number; to: number; title: string; color: string };

/** Each sample that is not zero is an annotation; samples one step apart are one region. */
export async function annotations(list: any[], scope: Scope): Promise<Note[]> {
  const notes: Note[] = [];
  for (const a of list.filter((x) => x.enable && x.expr)) {
    const stepMs = rangeUtil.intervalToMs(a.step || '60s');
    for (const f of await query({ expr: a.expr, legendFormat: a.titleFormat || a.name, range: true }, scope, stepMs)) {
      const [t, v] = f.fields;
      let open: Note | undefined;
      t.values.forEach((at: number, i: number) => {
        if (!v.values[i]) return;
        if (open && at - open.to <= stepMs) open.to = at;
        else notes.push((open = { from: at, to: at, title: v.config.displayNameFromDS!, color: a.iconColor }));
      });
    }
  }
  return notes;
}
