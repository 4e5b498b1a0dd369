/** Whether packets as large as the backend makes them get to the peers: by what the kernel knows, and where asked for by trying. */
import { type Address, formatAddress } from '../policy/address.ts';
import type { Evidence } from './evidence.ts';
import type { PathProbe } from './path-probe.ts';
import { familiesOfLease, type Plan, planOf } from './plan.ts';
import { blind, type CheckOutcome, type Finding, foundBy, idle } from './report.ts';
import { lines } from './shell-text.ts';

interface Path {
  readonly node: string;
  readonly address: Address;
  readonly probe: PathProbe;
}

/** By what the kernel knows: nothing is sent for it. */
export function checkPathMtu(evidence: Evidence): CheckOutcome {
  const paths = pathsOf(evidence);
  if ('findings' in paths) return paths;
  const { plan, list } = paths;
  const small = list.filter(({ probe }) => probe.mtu !== undefined && probe.mtu < plan.outerMtu);
  return foundBy(small.length === 0 ? [] : [smallPath(plan, small)]);
}

function smallPath({ outerMtu, external }: Plan, paths: readonly Path[]): Finding {
  const least = paths.reduce((least, { probe }) => Math.min(least, probe.mtu ?? outerMtu), Number.POSITIVE_INFINITY);
  return {
    code: 'PATH_MTU_SMALL',
    severity: 'warning',
    subject: paths.length === 1 ? (paths[0]?.node ?? '') : `${paths.length} peers`,
    message: `packets of up to ${outerMtu} bytes go between nodes, and no more than ${least} get there: larger ones are lost or cut up`,
    evidence: [
      ...paths.map(({ node, address, probe }) => `path to ${node}, ${formatAddress(address)}: MTU ${probe.mtu}`),
      `link ${external.name}: mtu ${external.mtu}`,
    ],
    remedy: lines(
      `# On all nodes: in net-conf.json "Backend": { …, "MTU": ${least} } (vxlan, wireguard), and the daemon started again. Or the interface:`,
      `ip link set dev ${external.name} mtu ${least}`,
    ),
  };
}

/** By echo requests; with `--probe` alone. */
export function checkPathProbe(evidence: Evidence): CheckOutcome {
  const paths = pathsOf(evidence);
  if ('findings' in paths) return paths;
  const { plan, list } = paths;
  if (list.every(({ probe }) => probe.echo === undefined)) return idle('not asked for: --probe sends each peer a few packets');
  const lost = list.filter(({ probe: { mtu, echo } }) => {
    // Where a router has told the size, that is said already.
    return echo !== undefined && echo.smallAnswered && !echo.largeAnswered && (mtu === undefined || mtu >= plan.outerMtu);
  });
  const silent = list.filter(({ probe }) => probe.echo !== undefined && !probe.echo.smallAnswered && !probe.echo.largeAnswered);
  const findings: Finding[] = lost.map(({ node, address, probe }) => ({
    code: 'PATH_MTU_BLACK_HOLE',
    severity: 'error',
    subject: node,
    message: `packets of ${probe.echo?.size} bytes vanish on the way, and no router says why: connections hang once they carry data`,
    evidence: [
      `echo request to ${formatAddress(address)}, small: answered`,
      `echo request to ${formatAddress(address)}, ${probe.echo?.size} bytes that may not be fragmented: no answer`,
    ],
    remedy: lines(
      '# The largest size that is answered, plus 28 (IPv6: 48), is the "MTU" to set in net-conf.json on all nodes:',
      `for size in 1472 1452 1422 1402 1372 1302 1252; do ping -M do -c 1 -W 1 -s "$size" ${formatAddress(address)} > /dev/null && echo "$size" && break; done`,
    ),
  }));
  const names = silent.map(({ node, address }) => `${node} (${formatAddress(address)})`);
  return {
    findings,
    blind: names.length === 0 ? undefined : `no answer to any echo request from ${names.join(', ')}: it may be down, or refuse them`,
  };
}

function pathsOf(evidence: Evidence): CheckOutcome | { readonly plan: Plan; readonly list: readonly Path[] } {
  const { leases, paths } = evidence;
  if ('blind' in leases) return blind(leases.blind);
  const plan = planOf(evidence);
  if ('blind' in plan) return blind(plan.blind);
  if ('blind' in paths) return blind(paths.blind);
  if (evidence.conf.backend.type === 'alloc') return idle('packets do not go from node to node with the backend alloc');
  const list = leases.seen.peers.flatMap((lease) =>
    [...familiesOfLease(lease)].flatMap(([, { publicAddress: address }]): Path[] => {
      const probe = paths.seen.get(address);
      return probe === undefined ? [] : [{ node: lease.node, address, probe }];
    }),
  );
  return list.length === 0 ? idle('there are no peers') : { plan: plan.seen, list };
}
