// Canaries: does the same fixed work take longer here than there, and than before?
import { FieldColorModeId } from '@grafana/grafana-foundation-sdk/dashboard';
import { BarGaugeDisplayMode, GraphThresholdsStyleConfigBuilder, GraphThresholdsStyleMode, VizOrientation } from '@grafana/grafana-foundation-sdk/common';
import { PanelBuilder as BarGauge } from '@grafana/grafana-foundation-sdk/bargauge';
import { buckets, color, dashboardOf, DEATHS, heatmap, instant, last, legend, lines, logs, prometheus, range, SEL, SIGNALS, stat, steps } from './common';

const W = `workload=~"$workload", ${SEL}`;
const CALLS = 'childminder_canary_probes_total';
const SPEED = 'job_name_workload:childminder_canary_operations:per_busy_second';
const dashed = new GraphThresholdsStyleConfigBuilder().mode(GraphThresholdsStyleMode.Dashed);

export const canary = dashboardOf('canary', CALLS, [['job_name', 'Name'], ['workload', 'Function']])
  .annotation(SIGNALS).annotation(DEATHS)
  .withPanel(stat({ title: 'Canaries', description: 'Canaries that called a function in the last interval.', unit: 'short' })
    .withTarget(range(`count(sum by (instance) (rate(${CALLS}{${W}}[$__rate_interval])) > 0)`, 'canaries')))
  .withPanel(stat({ title: 'Wrong answers and failures', description: 'Calls in the time shown that failed or gave a wrong answer. One wrong answer is a reason to take the machine out of service.', unit: 'short' })
    .thresholds(steps([null, 'green'], [0.5, 'red']))
    .withTarget(instant(`sum(increase(childminder_canary_probe_failures_total{${W}}[$__range]))`, 'failures')))
  .withPanel(stat({ title: 'Slower than peers', description: 'Canaries with a function that runs at less than three quarters of the speed of the median of all. Needs the recording rules and three canaries.', unit: 'short' })
    .thresholds(steps([null, 'green'], [1, 'orange'], [3, 'red']))
    .withTarget(instant(`count(min by (instance) (job_name_workload:childminder_canary_speed:peer_ratio{${W}}) < 0.75) or vector(0)`, 'slow')))
  .withPanel(new BarGauge().title('Mean time of a call').description('Each function is the same fixed work everywhere: these compare.')
    .datasource(prometheus).height(4).span(12).unit('s').min(0).orientation(VizOrientation.Horizontal).displayMode(BarGaugeDisplayMode.Gradient)
    .reduceOptions(last()).colorScheme(color(FieldColorModeId.Thresholds)).thresholds(steps([null, 'green'], [1, 'yellow'], [3, 'red']))
    .withTarget(instant(`sum by (workload) (increase(childminder_canary_busy_seconds_total{${W}}[$__range]))`
      + ` / sum by (workload) (increase(${CALLS}{${W}}[$__range])) > 0`, '{{workload}}')))
  .withPanel(lines({ title: 'Throughput', description: 'Calls of built-in functions per second, by function and instance. Falls when the host is slow, and when a canary pauses.', unit: 'cps' })
    .legend(legend('mean', 'min'))
    .withTarget(range(`sum by (workload, instance) (rate(${CALLS}{${W}}[$__rate_interval]))`, '{{workload}} {{instance}}')))
  .withPanel(heatmap({ title: 'Duration of calls', description: 'How many calls took how long.' })
    .withTarget(buckets('childminder_canary_probe_duration_seconds', W)))
  .withPanel(lines({ title: 'Speed against peers', description: 'Operations in a second of work, divided by the median of all canaries of this function. Below the line for longer than a few minutes: a sick host.', unit: 'percentunit' })
    .thresholds(steps([null, 'transparent'], [0.75, 'red'])).thresholdsStyle(dashed)
    .withTarget(range(`job_name_workload:childminder_canary_speed:peer_ratio{${W}}`, '{{workload}} {{instance}}')))
  .withPanel(lines({ title: 'Speed against the time shown', description: 'Operations in a second of work, divided by the median of the same canary over the time shown.', unit: 'percentunit' })
    .thresholds(steps([null, 'transparent'], [0.75, 'red'])).thresholdsStyle(dashed)
    .withTarget(range(`${SPEED}{${W}} / (quantile_over_time(0.5, ${SPEED}{${W}}[$__range]) > 0)`, '{{workload}} {{instance}}')))
  .withPanel(lines({ title: 'Wrong answers and failures over time', description: 'Calls that failed or gave a wrong answer, in each interval.', unit: 'short' }).span(8)
    .withTarget(range(`sum by (workload, instance) (increase(childminder_canary_probe_failures_total{${W}}[$__rate_interval]))`, '{{workload}} {{instance}}')))
  .withPanel(lines({ title: 'Share of time at work', description: 'Part of the time that a canary spends in calls: its duty cycle.', unit: 'percentunit' }).span(8)
    .withTarget(range(`sum by (instance) (rate(childminder_canary_busy_seconds_total{${W}}[$__rate_interval]))`, '{{instance}}')))
  .withPanel(lines({ title: 'Signals received', description: 'Signals that canaries received, in each interval.', unit: 'short' }).span(8)
    .withTarget(range(`sum by (job_name, signal) (increase(childminder_signals_received_total{job_name=~"$job_name", ${SEL}}[$__rate_interval]))`, '{{job_name}} {{signal}}')))
  .withPanel(logs('Log of the canaries', 'The log itself, as childminder sends it by OTLP.', '{service_name=~"$job_name"}'))
  .build();
