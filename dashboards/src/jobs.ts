// One job, or a few: what became of it, what it used, which signals it got, and its log.
import { buckets, dashboardOf, DEATHS, heatmap, instant, bars, lines, logs, range, rows, SEL, SIGNALS, stat, steps } from './common';
import { PanelBuilder as Table } from '@grafana/grafana-foundation-sdk/table';
import { prometheus } from './common';

const J = `job_name=~"$job_name", ${SEL}`;
const each = (metric: string) => `sum by (job_name, instance) (rate(${metric}{${J}}[$__rate_interval]))`;

export const jobs = dashboardOf('jobs', 'childminder_job_info', [['job_name', 'Name']])
  .annotation(SIGNALS).annotation(DEATHS)
  .withPanel(stat({ title: 'Running', description: 'Jobs whose child runs now.', unit: 'short' })
    .withTarget(instant(`sum(childminder_child_running{${J}})`, 'running')))
  .withPanel(stat({ title: 'Failed attempts', description: 'Attempts in the time shown that did not succeed.', unit: 'short' })
    .thresholds(steps([null, 'green'], [1, 'orange'], [5, 'red']))
    .withTarget(instant(`sum(increase(childminder_attempts_total{outcome!="success", ${J}}[$__range]))`, 'failed')))
  .withPanel(stat({ title: 'Restarts', description: 'Restarts in the time shown.', unit: 'short' })
    .thresholds(steps([null, 'green'], [1, 'orange'], [10, 'red']))
    .withTarget(instant(`sum(increase(childminder_restarts_total{${J}}[$__range]))`, 'restarts')))
  .withPanel(stat({ title: 'Running for', description: 'Time since the start of the newest run.', unit: 's' })
    .withTarget(instant(`min(time() - childminder_run_start_timestamp_seconds{${J}})`, 'age')))
  .withPanel(stat({ title: 'CPU time', description: 'CPU time of all processes in the time shown, as sampled.', unit: 's' })
    .withTarget(instant(`sum(increase(childminder_tree_cpu_seconds_total{${J}}[$__range]))`, 'cpu')))
  .withPanel(stat({ title: 'Largest resident set', description: 'Peak resident memory of any one attempt.', unit: 'bytes' }).decimals(1)
    .withTarget(instant(`max(max_over_time(childminder_child_max_rss_bytes{${J}}[$__range]))`, 'peak')))
  .withPanel(bars({ title: 'Attempts by outcome', description: 'Attempts that ended, in each interval.', unit: 'short' })
    .withTarget(range(`sum by (job_name, outcome) (increase(childminder_attempts_total{${J}}[$__rate_interval])) > 0`, '{{job_name}} {{outcome}}')))
  .withPanel(heatmap({ title: 'Duration of attempts', description: 'How many attempts took how long.' })
    .withTarget(buckets('childminder_attempt_duration_seconds', J)))
  .withPanel(new Table().title('Verdicts').description('Attempts that did not succeed by verdict, since childminder started.').datasource(prometheus)
    .height(8).span(12).unit('short').decimals(0)
    .withTarget(rows(`sum by (instance, job_name, verdict) (max_over_time(job_name_verdict:childminder_verdicts:count{verdict!="success", ${J}}[$__range]))`))
    .withTransformation({ id: 'organize', options: {
      excludeByName: { Time: true }, indexByName: { job_name: 0, verdict: 1, instance: 2, Value: 3 },
      renameByName: { job_name: 'Name', verdict: 'Verdict', instance: 'Instance', Value: 'Attempts' } } }))
  .withPanel(lines({ title: 'CPU', description: 'CPU time in a second: 1 is one core.', unit: 'short' })
    .withTarget(range(each('childminder_tree_cpu_seconds_total'), '{{job_name}}')))
  .withPanel(lines({ title: 'Resident memory', description: 'Of all processes of the job, in the last sample.', unit: 'bytes' })
    .withTarget(range(`childminder_tree_resident_memory_bytes{${J}}`, '{{job_name}}')))
  .withPanel(lines({ title: 'Processes and threads', description: 'Living processes and threads of the job in the last sample.', unit: 'short' })
    .withTarget(range(`childminder_tree_processes{${J}}`, '{{job_name}} processes'))
    .withTarget(range(`childminder_tree_threads{${J}}`, '{{job_name}} threads')))
  .withPanel(bars({ title: 'Signals received', description: 'Signals that childminder received, in each interval.', unit: 'short' }).span(8)
    .withTarget(range(`sum by (job_name, signal) (increase(childminder_signals_received_total{${J}}[$__rate_interval])) > 0`, '{{job_name}} {{signal}}')))
  .withPanel(bars({ title: 'Signals sent to the job', description: 'Signals that childminder sent, by the reason.', unit: 'short' }).span(8)
    .withTarget(range(`sum by (job_name, signal, origin) (increase(childminder_signals_sent_total{${J}}[$__rate_interval])) > 0`, '{{job_name}} {{signal}} {{origin}}')))
  .withPanel(lines({ title: 'Host pressure at the last failure', description: 'Share of time in which some task of the host waited, in the ten seconds before the last failure.', unit: 'percentunit' }).span(8)
    .withTarget(range(`max by (job_name, resource) (childminder_host_pressure_at_death_ratio{${J}})`, '{{job_name}} {{resource}}')))
  .withPanel(logs('Log', 'The log itself, as childminder sends it by OTLP.', '{service_name=~"$job_name"}'))
  .build();
