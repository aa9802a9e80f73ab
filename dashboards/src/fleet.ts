// All hosts and jobs: what fails, where, of which user, and are the hosts well?
import { PanelBuilder as Table } from '@grafana/grafana-foundation-sdk/table';
import { bars, dashboardOf, DEATHS, instant, lines, logs, prometheus, range, rows, SEL, stat, steps } from './common';

const FAILED = `increase(childminder_attempts_total{outcome!="success", ${SEL}}[$__range])`;
const HOST = (expr: string) => `label_replace(${expr}, "host", "$1", "instance", "([^/:]+).*")`;
const joined = (label: string) => `${FAILED} * on (job, instance, job_name) group_left (${label}) max by (job, instance, job_name, ${label}) (childminder_job_info{${SEL}})`;
const table = (title: string, description: string, label: string, heading: string, expr: string) => new Table().title(title).description(description)
  .datasource(prometheus).height(8).span(8).unit('short').decimals(0)
  .withTarget(rows(`topk(10, round(${expr}) > 0)`))
  .withTransformation({ id: 'organize', options: {
    excludeByName: { Time: true }, indexByName: { [label]: 0, Value: 1 }, renameByName: { [label]: heading, Value: 'Failed attempts' } } });

export const fleet = dashboardOf('fleet', 'childminder_job_info', [])
  .annotation(DEATHS)
  .withPanel(stat({ title: 'Hosts', description: 'Hosts with a job or a canary.', unit: 'short' })
    .withTarget(instant(`count(count by (host) (${HOST(`childminder_job_info{${SEL}}`)}))`, 'hosts')))
  .withPanel(stat({ title: 'Jobs that run', description: 'Jobs whose child runs now.', unit: 'short' })
    .withTarget(instant(`sum(childminder_child_running{${SEL}})`, 'jobs')))
  .withPanel(stat({ title: 'Failed attempts', description: 'Attempts in the time shown that did not succeed.', unit: 'short' })
    .thresholds(steps([null, 'green'], [1, 'orange'], [20, 'red']))
    .withTarget(instant(`sum(${FAILED})`, 'failed')))
  .withPanel(stat({ title: 'Restarts', description: 'Restarts in the time shown.', unit: 'short' })
    .thresholds(steps([null, 'green'], [1, 'orange'], [50, 'red']))
    .withTarget(instant(`sum(increase(childminder_restarts_total{${SEL}}[$__range]))`, 'restarts')))
  .withPanel(stat({ title: 'Lost runs', description: 'Jobs that announced themselves, did not end, and do not answer: childminder was killed, or its host is down.', unit: 'short' })
    .thresholds(steps([null, 'green'], [1, 'red']))
    .withTarget(instant(`count(up{job_name!="", ${SEL}} == 0) or vector(0)`, 'lost')))
  .withPanel(stat({ title: 'Slow canaries', description: 'Canaries with a function below three quarters of the speed of their peers.', unit: 'short' })
    .thresholds(steps([null, 'green'], [1, 'red']))
    .withTarget(instant(`count(min by (instance) (job_name_workload:childminder_canary_speed:peer_ratio{${SEL}}) < 0.75) or vector(0)`, 'slow')))
  .withPanel(bars({ title: 'Failures by verdict', description: 'Attempts that did not succeed in the last five minutes, by verdict.', unit: 'short' })
    .withTarget(range(`sum by (verdict) (job_name_verdict:childminder_verdicts:increase5m{verdict!="success", ${SEL}}) > 0`, '{{verdict}}')))
  .withPanel(bars({ title: 'Restarts by job', description: 'Restarts in each interval.', unit: 'short' })
    .withTarget(range(`sum by (job_name) (increase(childminder_restarts_total{${SEL}}[$__rate_interval])) > 0`, '{{job_name}}')))
  .withPanel(table('Failures by host', 'Failed attempts in the time shown.', 'host', 'Host', `sum by (host) (${HOST(FAILED)})`))
  .withPanel(table('Failures by user', 'Failed attempts in the time shown.', 'user', 'User', `sum by (user) (${joined('user')})`))
  .withPanel(table('Commands that fail most', 'Failed attempts in the time shown, by the program.', 'executable', 'Program', `sum by (executable) (${joined('executable')})`))
  .withPanel(lines({ title: 'Health of canaries', description: 'The slowest function of each canary: speed against peers.', unit: 'percentunit' })
    .withTarget(range(`min by (instance) (job_name_workload:childminder_canary_speed:peer_ratio{${SEL}})`, '{{instance}}')))
  .withPanel(bars({ title: 'Signals received', description: 'Signals that childminders received, in each interval.', unit: 'short' })
    .withTarget(range(`sum by (signal) (increase(childminder_signals_received_total{${SEL}}[$__rate_interval])) > 0`, '{{signal}}')))
  .withPanel(logs('Signals and their senders', 'Log lines that name the process that sent a signal.', '{service_name=~".+"} | childminder_signal_sender_pid != ""'))
  .build();
