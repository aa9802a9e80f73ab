// The dashboards by the names of their files.
import { canary } from './canary';
import { fleet } from './fleet';
import { jobs } from './jobs';

export const dashboards: Record<string, any> = { canary, fleet, jobs };
// The SDK numbers no panels and no targets.
for (const dashboard of Object.values(dashboards)) {
  dashboard.panels.forEach((panel: any, i: number) => {
    panel.id = i + 1;
    panel.targets?.forEach((target: any, j: number) => { target.refId = String.fromCharCode(65 + j); });
  });
}
