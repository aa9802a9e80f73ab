// Draws a dashboard as Grafana would. The address says how: ?dashboard=canary.json&theme=light&from=now-5m&to=now&scrape=5s&var-job=...
import type { ReactNode } from 'react';
import { createRoot } from 'react-dom/client';
import {
  createTheme, DataFrame, FieldType, formattedValueToString, getDisplayValueAlignmentFactors, getFieldDisplayValues, GrafanaTheme2,
  rangeUtil, renderTextPanelMarkdown, ThemeContext, VizOrientation,
} from '@grafana/data';
import { BarGauge, BigValue, ErrorBoundary, GlobalStyles, PanelChrome, TimeSeries, UPlotConfigBuilder, VizRepeater } from '@grafana/ui';
import { TableNG } from '@grafana/ui/unstable';
import { initPluginTranslations } from '@grafana/i18n';
import { annotations, httpApi, logLines, Note, query, resolveVariables, Scope, stepOf, timeRange } from './prometheus';
import { fieldConfigOf, process } from './fields';
import { Heatmap } from './heatmap';

const COLUMNS = 24, ROW = 30, GAP = 8, MARGIN = 16, HEADER = 92;
const ask = new URLSearchParams(location.search);
const theme = createTheme({ colors: { mode: ask.get('theme') === 'light' ? 'light' : 'dark' } });
const width = document.documentElement.clientWidth;
const column = (width - 2 * MARGIN - (COLUMNS - 1) * GAP) / COLUMNS;
const box = ({ x, y, w, h }: { x: number; y: number; w: number; h: number }) => ({
  left: MARGIN + x * (column + GAP), top: HEADER + y * (ROW + GAP), width: w * (column + GAP) - GAP, height: h * (ROW + GAP) - GAP,
});

const TYPES = ['logs', 'timeseries', 'heatmap', 'stat', 'bargauge', 'table', 'text'];
type Drawn = { panel: any; frames: DataFrame[]; error?: string };

function drawNotes(u: any, notes: Note[]) {
  for (const n of notes) {
    const color = theme.visualization.getColorByName(n.color);
    const [x0, x1] = [n.from, n.to].map((t) => Math.round(u.valToPos(t, 'x', true)));
    const { left, top, width: w, height: h } = u.bbox;
    if (x1 < left || x0 > left + w) continue;
    u.ctx.save();
    u.ctx.strokeStyle = u.ctx.fillStyle = color;
    u.ctx.setLineDash([5, 5]);
    u.ctx.lineWidth = 2;
    for (const x of new Set([x0, x1])) { u.ctx.beginPath(); u.ctx.moveTo(x, top); u.ctx.lineTo(x, top + h); u.ctx.stroke(); }
    if (x1 > x0) {
      u.ctx.globalAlpha = 0.1; u.ctx.fillRect(x0, top, x1 - x0, h); u.ctx.globalAlpha = 1; u.ctx.fillRect(x0, top + h, x1 - x0, 5);
    } else {
      u.ctx.beginPath(); u.ctx.moveTo(x0 - 5, top + h + 5); u.ctx.lineTo(x0 + 5, top + h + 5); u.ctx.lineTo(x0, top + h); u.ctx.fill();
    }
    u.ctx.restore();
  }
}

function Viz({ panel, frames, scope, notes, width, height }: Drawn & { scope: Scope; notes: Note[]; width: number; height: number }): ReactNode {
  const o = panel.options ?? {};
  const fieldConfig = fieldConfigOf(panel);
  const values = (sparkline: boolean) => getFieldDisplayValues({
    data: frames, fieldConfig, reduceOptions: { calcs: ['lastNotNull'], ...o.reduceOptions }, replaceVariables: (s) => s, theme, timeZone: 'utc', sparkline,
  });
  const repeated = {
    width, height, source: frames, renderCounter: 0, itemSpacing: 10,
    getAlignmentFactors: getDisplayValueAlignmentFactors,
  };
  switch (panel.type) {
    case 'timeseries':
      return (
        <TimeSeries frames={frames} timeRange={scope.range} timeZone="utc" width={width} height={height}
          legend={{ showLegend: true, displayMode: 'list', placement: 'bottom', calcs: [], ...o.legend } as any}>
          {(config: UPlotConfigBuilder) => { config.addHook('draw', (u) => drawNotes(u, notes)); return null; }}
        </TimeSeries>
      );
    case 'logs':
      return (
        <div style={{ height, overflow: 'hidden', fontFamily: theme.typography.fontFamilyMonospace, fontSize: 12, lineHeight: '18px', whiteSpace: 'pre' }}>
          {frames[0].fields[1].values.map((line: string, i: number) => (
            <div key={i} style={{ borderLeft: `3px solid ${theme.visualization.getColorByName(frames[0].fields[2].values[i])}`, paddingLeft: 8 }}>
              <span style={{ color: theme.colors.text.secondary }}>{new Date(frames[0].fields[0].values[i]).toISOString().replace('T', ' ').slice(0, 23)}  </span>{line}
            </div>
          ))}
        </div>
      );
    case 'heatmap':
      return <Heatmap panel={panel} frame={frames[0]} range={scope.range} theme={theme} width={width} height={height} />;
    case 'stat':
      return (
        <VizRepeater {...repeated} orientation={VizOrientation.Auto} getValues={() => values((o.graphMode ?? 'area') !== 'none')}
          renderValue={({ value, width, height, count, alignmentFactors }: any) => (
            <BigValue theme={theme} value={value.display} sparkline={value.sparkline && { ...value.sparkline, timeRange: scope.range }} width={width} height={height} count={count}
              alignmentFactors={alignmentFactors} colorMode={o.colorMode ?? 'value'} graphMode={o.graphMode ?? 'area'}
              justifyMode={o.justifyMode ?? 'auto'} textMode={o.textMode ?? 'auto'} text={o.text} />
          )} />
      );
    case 'bargauge':
      return (
        <VizRepeater {...repeated} orientation={o.orientation ?? VizOrientation.Auto} minVizHeight={o.minVizHeight ?? 16} maxVizHeight={300}
          getValues={() => values(false)}
          renderValue={({ value, width, height, orientation, alignmentFactors }: any) => (
            <BarGauge theme={theme} value={value.display} field={value.field} display={value.view?.getFieldDisplayProcessor(value.colIndex)}
              width={width} height={height} orientation={orientation} alignmentFactors={alignmentFactors} itemSpacing={10}
              displayMode={o.displayMode ?? 'gradient'} valueDisplayMode={o.valueMode} namePlacement={o.namePlacement}
              showUnfilled={o.showUnfilled ?? true} text={o.text} />
          )} />
      );
    case 'table':
      return <TableNG data={frames[0]} width={width} height={height} cellHeight={o.cellHeight ?? ('sm' as any)} noHeader={o.showHeader === false} fieldConfig={fieldConfig} timeRange={scope.range} />;
    case 'text':
      return <div className="markdown-html" dangerouslySetInnerHTML={{ __html: renderTextPanelMarkdown(o.content ?? '') }} />;
  }
}

function Panel(p: Drawn & { scope: Scope; notes: Note[] }) {
  const b = box(p.panel.gridPos);
  const empty = !p.frames.length && p.panel.type !== 'text';
  const middle = { display: 'grid', placeItems: 'center', height: '100%', color: theme.colors.text.secondary };
  return (
    <section style={{ position: 'absolute', ...b }}>
      <PanelChrome title={p.panel.title} description={p.panel.description} width={b.width} height={b.height} statusMessage={p.error}
        displayMode={p.panel.transparent ? 'transparent' : 'default'} padding={p.panel.type === 'table' ? 'none' : 'md'}>
        {(w, h) => empty ? <div style={middle}>{p.error ?? p.panel.fieldConfig?.defaults?.noValue ?? 'No data'}</div>
          : <ErrorBoundary>{({ error }) => error ? <div style={middle}>{error.message}</div> : <Viz {...p} width={w} height={h} />}</ErrorBoundary>}
      </PanelChrome>
    </section>
  );
}

function Header({ dashboard, scope }: { dashboard: any; scope: Scope }) {
  const { colors, typography, shape } = theme;
  const part = { border: `1px solid ${colors.border.medium}`, height: 32, padding: '0 8px', display: 'flex', alignItems: 'center', fontSize: 14 };
  const r = scope.range.raw as any;
  const shown = /^\d+$/.test(r.from) ? `${scope.range.from.utc().format('YYYY-MM-DD HH:mm:ss')} to ${scope.range.to.utc().format('YYYY-MM-DD HH:mm:ss')} UTC`
    : rangeUtil.describeTimeRange(r);
  return (
    <header style={{ position: 'absolute', left: MARGIN, right: MARGIN, top: 8 }}>
      <div style={{ display: 'flex', justifyContent: 'space-between', alignItems: 'center', height: 36 }}>
        <span style={{ ...typography.h4 as object, margin: 0 }}>{dashboard.title}</span>
        <span style={{ ...part, background: colors.background.secondary, borderRadius: shape.radius.default }}>{shown}</span>
      </div>
      <div style={{ display: 'flex', gap: 16, marginTop: 6 }}>
        {dashboard.templating.list.filter((v: any) => v.hide !== 2 && v.hide !== 'hideVariable').map((v: any) => (
          <span key={v.name} style={{ display: 'flex' }}>
            <span style={{ ...part, background: colors.background.secondary, fontSize: 12, fontWeight: 500 }}>{v.label || v.name}</span>
            <span style={{ ...part, background: theme.components.input.background, borderLeft: 0, minWidth: 90 }}>{scope.vars.get(v.name)?.text}</span>
          </span>
        ))}
      </div>
    </header>
  );
}

async function main() {
  await initPluginTranslations('grafana-ui', []);
  const dashboard = await (await fetch(ask.get('dashboard') ?? 'canary.json')).json();
  const scope: Scope = {
    range: timeRange(ask.get('from') ?? dashboard.time.from, ask.get('to') ?? dashboard.time.to),
    scrapeMs: rangeUtil.intervalToMs(ask.get('scrape') ?? '15s'), vars: new Map(), api: httpApi('prometheus'),
  };
  const given: Record<string, string[]> = {};
  for (const [k, v] of ask) if (k.startsWith('var-')) (given[k.slice(4)] ??= []).push(v);
  await resolveVariables(dashboard.templating?.list ?? [], scope, given);
  const notes = await annotations(dashboard.annotations?.list ?? [], scope);

  const panels = dashboard.panels.flatMap((p: any) => [p, ...(p.panels ?? [])]).filter((p: any) => p.type !== 'row');
  const drawn: Drawn[] = await Promise.all(panels.map(async (panel: any) => {
    try {
      if (!TYPES.includes(panel.type)) throw new Error(`no drawing for panel type ${panel.type}`);
      const step = stepOf(panel, scope, box(panel.gridPos).width);
      if (panel.type === 'logs') return { panel, frames: await logLines(panel.targets[0].expr, scope) };
      const frames = (await Promise.all((panel.targets ?? []).filter((t: any) => !t.hide).map((t: any) => query(t, scope, step)))).flat();
      return { panel, frames: await process(panel, frames, theme) };
    } catch (e) {
      return { panel, frames: [], error: String((e as Error).message) };
    }
  }));

  // Text is measured on a canvas before anything is drawn: the fonts must be there first. (They are declared in index.html.)
  await Promise.all(['400 12px Inter', '500 12px Inter'].map((f) => document.fonts.load(f)));
  const bottom = Math.max(...panels.map((p: any) => p.gridPos.y + p.gridPos.h));
  const height = HEADER + bottom * (ROW + GAP) - GAP + MARGIN;
  document.body.style.background = theme.components.dashboard.background;
  createRoot(document.getElementById('root')!).render(
    <ThemeContext.Provider value={theme}>
      <GlobalStyles />
      <main style={{ position: 'relative', width, height }}>
        <Header dashboard={dashboard} scope={scope} />
        {drawn.map((d) => <Panel key={d.panel.id} {...d} scope={scope} notes={notes} />)}
      </main>
    </ThemeContext.Provider>,
  );
  return { height, notes: notes.length, panels: drawn.map((d) => ({ id: d.panel.id, title: d.panel.title, empty: !d.frames.length && d.panel.type !== 'text' && !d.panel.fieldConfig?.defaults?.noValue, error: d.error })) };
}

main().then((r) => { (window as any).report = r; }, (e) => { console.error(e); (window as any).report = { error: String(e?.stack ?? e) }; });
