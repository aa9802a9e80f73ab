// What the three dashboards share: data sources, variables, queries and the settings of panels.
import {
  AnnotationQueryBuilder, DashboardBuilder, DashboardCursorSync, DashboardLinkBuilder, DashboardLinkType, DatasourceVariableBuilder,
  FieldColorBuilder, FieldColorModeId, QueryVariableBuilder, ThresholdsConfigBuilder, ThresholdsMode, VariableRefresh, VariableSort,
} from '@grafana/grafana-foundation-sdk/dashboard';
import {
  BigValueColorMode, BigValueGraphMode, GraphDrawStyle, LegendDisplayMode, LegendPlacement, LogsSortOrder, ReduceDataOptionsBuilder, StackingConfigBuilder,
  StackingMode, VisibilityMode, VizLegendOptionsBuilder,
} from '@grafana/grafana-foundation-sdk/common';
import { DataqueryBuilder, PromQueryFormat } from '@grafana/grafana-foundation-sdk/prometheus';
import { DataqueryBuilder as LokiQuery } from '@grafana/grafana-foundation-sdk/loki';
import { PanelBuilder as TimeSeries } from '@grafana/grafana-foundation-sdk/timeseries';
import { PanelBuilder as Stat } from '@grafana/grafana-foundation-sdk/stat';
import { PanelBuilder as Logs } from '@grafana/grafana-foundation-sdk/logs';
import { HeatmapColorMode, HeatmapColorOptionsBuilder, PanelBuilder as Heatmap, YAxisConfigBuilder } from '@grafana/grafana-foundation-sdk/heatmap';

export const prometheus = { type: 'prometheus', uid: '${prometheus_datasource}' };
export const loki = { type: 'loki', uid: '${loki_datasource}' };
/** What each selector has. */
export const SEL = 'job=~"$job", instance=~"$instance"';

export const range = (expr: string, legend = '__auto') =>
  new DataqueryBuilder().datasource(prometheus).expr(expr).legendFormat(legend).range();
export const instant = (expr: string, legend = '__auto') =>
  new DataqueryBuilder().datasource(prometheus).expr(expr).legendFormat(legend).instant();
export const rows = (expr: string) => instant(expr).format(PromQueryFormat.Table);
/** The series of a classic histogram, for a heat map. */
export const buckets = (metric: string, selector: string) =>
  range(`sum by (le) (increase(${metric}_bucket{${selector}}[$__rate_interval]))`, '{{le}}').format(PromQueryFormat.Heatmap);

export const steps = (...s: Array<[number | null, string]>) =>
  new ThresholdsConfigBuilder().mode(ThresholdsMode.Absolute).steps(s.map(([value, color]) => ({ value, color })));
export const color = (mode: FieldColorModeId) => new FieldColorBuilder().mode(mode);
export const last = () => new ReduceDataOptionsBuilder().calcs(['lastNotNull']);
export const legend = (...calcs: string[]) => new VizLegendOptionsBuilder().showLegend(true).calcs(calcs)
  .displayMode(calcs.length ? LegendDisplayMode.Table : LegendDisplayMode.List)
  .placement(calcs.length ? LegendPlacement.Right : LegendPlacement.Bottom);

type Texts = { title: string; description: string; unit: string };

export const stat = ({ title, description, unit }: Texts) => new Stat().title(title).description(description).unit(unit)
  .datasource(prometheus).height(4).span(4).decimals(0).graphMode(BigValueGraphMode.None).colorMode(BigValueColorMode.Background)
  .reduceOptions(last()).colorScheme(color(FieldColorModeId.Thresholds)).thresholds(steps([null, 'blue']));

export const lines = ({ title, description, unit }: Texts) => new TimeSeries().title(title).description(description).unit(unit)
  .datasource(prometheus).height(8).span(12).min(0).lineWidth(1).fillOpacity(10).showPoints(VisibilityMode.Never)
  .colorScheme(color(FieldColorModeId.PaletteClassic)).legend(legend()).thresholds(steps([null, 'green']));

/** Counts, one bar a step. */
export const bars = (texts: Texts) => lines(texts).drawStyle(GraphDrawStyle.Bars).fillOpacity(70).lineWidth(0).decimals(0)
  .stacking(new StackingConfigBuilder().mode(StackingMode.Normal).group('A'));

export const heatmap = ({ title, description }: { title: string; description: string }) => new Heatmap().title(title).description(description)
  .datasource(prometheus).height(8).span(12).cellGap(1).yAxis(new YAxisConfigBuilder().unit('s'))
  .color(new HeatmapColorOptionsBuilder().mode(HeatmapColorMode.Scheme).scheme('Oranges').steps(64).exponent(0.5));

/** Records of logs, as childminder sends them by OTLP; Loki names the job service_name. */
export const logs = (title: string, description: string, query: string) => new Logs().title(title).description(description)
  .datasource(loki).height(9).span(24).unit('short').showTime(true).wrapLogMessage(false).sortOrder(LogsSortOrder.Descending)
  .withTarget(new LokiQuery().datasource(loki).expr(query).queryType('range').maxLines(200));

const source = (name: string, label: string, type: string) => new DatasourceVariableBuilder(name).label(label).type(type);
const choice = (name: string, label: string, query: string) => new QueryVariableBuilder(name).label(label).datasource(prometheus).query(query)
  .refresh(VariableRefresh.OnTimeRangeChanged).sort(VariableSort.AlphabeticalAsc).multi(true).includeAll(true).allValue('.+')
  .current({ text: 'All', value: '$__all' });
const link = (title: string, uid: string) => new DashboardLinkBuilder(title).type(DashboardLinkType.Link).url(`/d/${uid}`)
  .keepTime(true).includeVars(true).icon('dashboard');

const UIDS = { canary: 'childminder-canary', jobs: 'childminder-jobs', fleet: 'childminder-fleet' };
const TITLES = { canary: 'childminder: canaries', jobs: 'childminder: jobs', fleet: 'childminder: fleet' };
export type Name = keyof typeof UIDS;

/** A dashboard with what all have; `metric` is one that the instances to choose from have. */
export function dashboardOf(name: Name, metric: string, more: Array<[name: string, label: string]>) {
  let dashboard = new DashboardBuilder(TITLES[name]).uid(UIDS[name]).tags(['childminder']).readonly()
    .time({ from: 'now-1h', to: 'now' }).timezone('browser').refresh('30s').tooltip(DashboardCursorSync.Crosshair)
    .withVariable(source('prometheus_datasource', 'Metrics', 'prometheus'))
    .withVariable(source('loki_datasource', 'Logs', 'loki'))
    .withVariable(choice('job', 'Job', `label_values(${metric}, job)`))
    .withVariable(choice('instance', 'Instance', `label_values(${metric}{job=~"$job"}, instance)`));
  for (const [variable, label] of more) {
    dashboard = dashboard.withVariable(choice(variable, label, `label_values(${metric}{${SEL}}, ${variable})`));
  }
  for (const other of Object.keys(UIDS) as Name[]) if (other !== name) dashboard = dashboard.link(link(TITLES[other], UIDS[other]));
  return dashboard;
}

export const annotation = (name: string, iconColor: string, expr: string, title: string) =>
  new AnnotationQueryBuilder().name(name).datasource(prometheus).enable(true).iconColor(iconColor).expr(expr).step('15s')
    .titleFormat(title).tagKeys('job_name');

/** Signals that childminder got, and attempts that did not succeed. */
export const SIGNALS = annotation('Signals received', 'yellow',
  `sum by (job_name, signal) (increase(childminder_signals_received_total{${SEL}}[$__rate_interval])) > 0`, '{{job_name}} got {{signal}}');
export const DEATHS = annotation('Failed attempts', 'red',
  `sum by (job_name) (increase(childminder_attempts_total{outcome!="success", ${SEL}}[$__rate_interval])) > 0`, '{{job_name}} failed');
