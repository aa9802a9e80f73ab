// Checks the dashboards without Grafana: the rules of dashboard-linter, that LogQL can be parsed, and that each metric with its labels
// is in docs/metrics.md or made by a recording rule. With PROMETHEUS=http://... also each query against a Prometheus that has
// data: an error or an empty answer is a failure.
//   node build/check.mjs [from=now-5m] [to=now] [scrape=5s]
import { readFileSync } from 'node:fs';
import { getValueFormats, rangeUtil } from '@grafana/data';
import { parser as logql } from '@grafana/lezer-logql';
import { parser } from '@prometheus-io/lezer-promql';
import type { SyntaxNode } from '@lezer/common';
import { httpApi, interpolate, query, resolveVariables, Scope, stepOf, timeRange } from './prometheus';

let passed = 0, failed = 0;
const check = (ok: unknown, where: string, rule: string, why = '') => {
  if (ok) passed++;
  else { failed++; console.error(`FAIL ${where}: ${rule}${why ? `: ${why}` : ''}`); }
};

const UNITS = new Set(getValueFormats().flatMap((c) => c.submenu!.map((u) => u.value)));
const DRAWN = ['logs', 'stat', 'gauge', 'bargauge', 'table', 'timeseries', 'heatmap', 'histogram', 'piechart', 'barchart', 'state-timeline'];

/** Variables stand for themselves here, so that the tree shows where they are used. */
const MARK = Object.fromEntries(['job', 'instance', 'job_name', 'workload'].map((v) => [v, `%${v}%`])) as Record<string, string>;
const RATE_INTERVAL = '11111ms';
const parse = (expr: string) => {
  const text = expr.replace(/\$\{?__rate_interval\}?/g, RATE_INTERVAL).replace(/\$\{?__\w+_(ms|s)\}?/g, '60').replace(/\$\{?__\w+\}?/g, '1m')
    .replace(/\$\{?(\w+)(:\w+)?\}?/g, (_, v) => MARK[v] ?? v);
  const nodes: SyntaxNode[] = [];
  parser.parse(text).iterate({ enter: (n) => { nodes.push(n.node); } });
  return { text, nodes, valid: nodes.length > 1 && !nodes.some((n) => n.type.isError), of: (n: SyntaxNode) => text.slice(n.from, n.to) };
};
/** The name of the function that a range selector is given to, or none. */
const callOf = (n: SyntaxNode | null): string => {
  for (let p = n?.parent; p; p = p.parent) if (p.name === 'FunctionCall') return p.firstChild!.firstChild!.name.toLowerCase();
    else if (p.name !== 'FunctionCallBody' && p.name !== 'MatrixSelector') return '';
  return '';
};

/** Metrics and their own labels, from the table of docs/metrics.md. */
const CATALOGUE = new Map<string, string[]>();
for (const [, metric, type, labels] of readFileSync('../docs/metrics.md', 'utf8').matchAll(/^\| `(\w+)` \| (\w+) \| ([^|]*)\|/gm)) {
  const own = labels.trim().split(/,\s*/);
  if (type === 'histogram') for (const end of ['bucket', 'sum', 'count']) CATALOGUE.set(`${metric}_${end}`, [...own, 'le']);
  else CATALOGUE.set(metric, own);
}
const RECORDED = new Set([...readFileSync('../deploy/prometheus/rules/childminder.yml', 'utf8').matchAll(/record: (\S+)/g)].map((m) => m[1]));
/** What Prometheus itself adds, and the label of each job. */
const COMMON = ['job', 'instance', 'job_name'];
function inCatalogue(selector: string, where: string) {
  const [, name = '', matchers = ''] = /^([\w:]+)(?:\{([^]*)\})?$/.exec(selector) ?? [];
  if (name === 'up' || RECORDED.has(name)) return check(true, where, 'in-catalogue');
  const labels = CATALOGUE.get(name);
  check(labels, where, 'in-catalogue', `${name} is not in docs/metrics.md`);
  for (const [, label] of matchers.matchAll(/(\w+)\s*[=!]~?\s*"/g)) {
    check([...COMMON, ...labels ?? []].includes(label), where, 'in-catalogue', `${name} has no label ${label}`);
  }
}

function lint(d: any) {
  const list: any[] = d.templating?.list ?? [];
  const sources = list.filter((v) => v.type === 'datasource');
  const uids = new Set(sources.flatMap((v) => [`$${v.name}`, `\${${v.name}}`]));
  check(sources.length && sources.every((v) => (sources.length === 1 && v.name === 'datasource' && v.label === 'Data source')
    || (v.name === `${v.query}_datasource`)), 'dashboard', 'template-datasource-rule');
  for (const name of ['job', 'instance']) {
    const v = list.find((x) => x.name === name);
    check(v?.type === 'query' && uids.has(v.datasource?.uid) && v.label?.toLowerCase() === name && v.multi && v.allValue === '.+',
      'dashboard', `template-${name}-rule`, 'wants a query variable with that label, the templated data source, multi and allValue .+');
  }
  for (const v of list.filter((x) => x.type === 'query')) {
    const q = typeof v.query === 'string' ? v.query : v.query?.query ?? '';
    const m = /^(label_names|label_values|metrics|query_result)\(([^]*)\)$/.exec(q);
    const expr = m?.[1] === 'label_values' ? m[2].replace(/,?\s*\w+$/, '') : m?.[1] === 'query_result' ? m[2] : '';
    check(m && (!expr || parse(expr).valid), `variable ${v.name}`, 'template-label-promql-rule', q);
    check(v.refresh === 2, `variable ${v.name}`, 'template-on-time-change-reload-rule');
  }
  for (const p of panelsOf(d)) {
    const where = `panel ${p.id} "${p.title}"`;
    check(uids.has(p.datasource?.uid) && (p.targets ?? []).every((t: any) => uids.has(t.datasource?.uid)), where, 'panel-datasource-rule');
    check(p.title && p.description, where, 'panel-title-description-rule');
    const units = [p.fieldConfig?.defaults?.unit, p.options?.yAxis?.unit,
      ...(p.fieldConfig?.overrides ?? []).flatMap((o: any) => o.properties.filter((x: any) => x.id === 'unit').map((x: any) => x.value))].filter(Boolean);
    check(units.length && units.every((u) => UNITS.has(u)), where, 'panel-units-rule', units.join());
    check(p.targets?.length, where, 'panel-no-targets-rule');
    for (const t of (p.targets ?? []).filter((x: any) => x.datasource?.type === 'loki')) {
      const text = t.expr.replace(/\$(\w+)/g, '$1');
      let errors = 0;
      logql.parse(text).iterate({ enter: (n) => { errors += n.type.isError ? 1 : 0; } });
      check(text && !errors, where, 'target-logql-rule', text);
    }
    for (const t of (p.targets ?? []).filter((x: any) => x.datasource?.type !== 'loki')) {
      const { nodes, valid, of, text } = parse(t.expr ?? '');
      check(valid, where, 'target-promql-rule', text);
      if (!valid) continue;
      for (const n of nodes.filter((x) => x.name === 'MatrixSelector' && ['rate', 'irate'].includes(callOf(x)))) {
        check(of(n).endsWith(`[${RATE_INTERVAL}]`), where, 'target-rate-interval-rule', of(n));
      }
      for (const n of nodes.filter((x) => x.name === 'VectorSelector')) {
        for (const label of ['job', 'instance']) {
          check(new RegExp(`[{,]\\s*${label}\\s*=~\\s*"${MARK[label]}"`).test(of(n)), where, `target-${label}-rule`, of(n));
        }
        inCatalogue(of(n), where);
        if (/^\w+_total\b/.test(of(n))) check(['rate', 'irate', 'increase'].includes(callOf(n)), where, 'target-counter-agg-rule', of(n));
      }
    }
  }
}

const panelsOf = (d: any): any[] => d.panels.flatMap((p: any) => [p, ...(p.panels ?? [])]).filter((p: any) => DRAWN.includes(p.type));

async function run(d: any, base: string, o: Record<string, string>) {
  const scope: Scope = { range: timeRange(o.from ?? d.time.from, o.to ?? d.time.to), scrapeMs: rangeUtil.intervalToMs(o.scrape ?? '15s'), vars: new Map(), api: httpApi(base) };
  try {
    await resolveVariables(d.templating?.list ?? [], scope);
    check(true, 'variables', 'have values');
  } catch (e) { return check(false, 'variables', 'have values', String(e)); }
  const targets = [
    ...panelsOf(d).filter((p) => p.type !== 'logs').flatMap((p) => p.targets.map((t: any) => ({ t, where: `panel ${p.id} "${p.title}" ${t.refId ?? ''}`, may: !!p.fieldConfig?.defaults?.noValue, step: stepOf(p, scope, 800) }))),
    ...(d.annotations?.list ?? []).filter((a: any) => a.expr).map((a: any) => ({ t: { expr: a.expr, range: true }, where: `annotation "${a.name}"`, may: false, step: rangeUtil.intervalToMs(a.step || '60s') })),
  ];
  for (const { t, where, may, step } of targets) {
    try {
      const frames = await query(t, scope, step);
      const points = frames.flatMap((f) => f.fields.filter((x) => x.type === 'number').flatMap((x) => x.values.filter(Number.isFinite))).length;
      check(may || points, where, 'has data', interpolate(t.expr, scope, step));
      // Each selector by itself, over all of the time shown: a misspelt name must not hide behind a comparison or an "or", nor a
      // misspelt label behind "by", which gives one series without labels.
      const { nodes, of } = parse(t.expr);
      const grouped = new Set(nodes.filter((x) => x.name === 'LabelName' && x.parent!.name === 'GroupingLabels' && x.parent!.parent!.firstChild!.name === 'By').map(of));
      // What label_replace makes is in no selector.
      const labels = new Set<string>([...t.expr.matchAll(/label_replace\([^]*?, "(\w+)", "/g)].map((m: any) => m[1]));
      const made = new Set(labels);
      for (const n of new Set(nodes.filter((x) => x.name === 'VectorSelector').map(of))) {
        const selector = n.replace(/%(\w+)%/g, (_, v) => scope.vars.get(v)?.value ?? '.+');
        const seen = await scope.api('query', {
          query: `count by (${[...grouped].filter((l) => !made.has(l))}) (last_over_time(${selector}[${interpolate('$__range', scope)}]))`, time: String(scope.range.to.valueOf() / 1000),
        });
        check(seen.result.length, where, 'names series that exist', selector);
        seen.result.forEach((r: any) => Object.keys(r.metric).forEach((l) => labels.add(l)));
      }
      grouped.forEach((l) => check(labels.has(l), where, 'groups by a label that exists', l));
      const drawn = new Set(frames.flatMap((f) => f.fields.flatMap((x) => Object.keys(x.labels ?? {}))));
      if (points && t.format !== 'heatmap') {
        for (const [, l] of (t.legendFormat ?? '').matchAll(/\{\{\s*(\w+)\s*\}\}/g)) check(drawn.has(l), where, 'has the label of its legend', l);
      }
    } catch (e) { check(false, where, 'runs', String((e as Error).message)); }
  }
}

const options = Object.fromEntries(process.argv.slice(2).map((r) => r.split('=')));
for (const name of ['canary', 'jobs', 'fleet']) {
  const dashboard = JSON.parse(readFileSync(`${name}.json`, 'utf8'));
  lint(dashboard);
  if (process.env.PROMETHEUS) await run(dashboard, process.env.PROMETHEUS, options);
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed ? 1 : 0;
