/** Whether the table of connections has room: when it is full, the first packets of new ones are dropped. */
import type { Evidence } from './evidence.ts';
import { blind, type CheckOutcome, foundBy, idle, inOrder } from './report.ts';
import { sysctlCommand } from './shell-text.ts';

const COUNT = 'net/netfilter/nf_conntrack_count';
const MAX = 'net/netfilter/nf_conntrack_max';
/** From here on a burst fills it. */
const NEARLY_FULL = 0.9;

export function checkConntrackTable({ sysctls }: Evidence): CheckOutcome {
  if ('blind' in sysctls) return blind(sysctls.blind);
  const [count, max] = [sysctls.seen.get(COUNT), sysctls.seen.get(MAX)];
  // 0: as many as there are.
  if (count === undefined || max === undefined || Number(max) === 0) return idle('connections are not tracked, or without a limit');
  const isFull = Number(count) >= Number(max);
  if (Number(count) < Number(max) * NEARLY_FULL) return inOrder();
  return foundBy([
    {
      code: isFull ? 'CONNTRACK_FULL' : 'CONNTRACK_NEARLY_FULL',
      severity: isFull ? 'error' : 'warning',
      subject: 'nf_conntrack',
      message: isFull
        ? `all ${max} places for connections are taken: packets of new ones are dropped (“nf_conntrack: table full, dropping packet”)`
        : `${count} of ${max} places for connections are taken`,
      evidence: [`/proc/sys/${COUNT}: ${count}`, `/proc/sys/${MAX}: ${max}`],
      remedy: sysctlCommand(MAX, String(Number(max) * 2)),
    },
  ]);
}
