/** What `sluice observe` is called with, checked as far as it can be without the agent, and the request that it makes. */
import { InvalidArgumentError } from 'commander';
import { SluiceError } from '../errors.ts';
import { API_VERSION, type ObserveRequest } from '../observability/observed-flow.ts';
import { parseEnd } from '../observability/observe/flow-filter.ts';

export interface ObserveFlags {
  readonly allowed?: true;
  readonly since?: string;
  readonly namespace?: readonly string[];
  readonly pod?: readonly string[];
  readonly from?: readonly string[];
  readonly to?: readonly string[];
  readonly port?: readonly Port[];
  readonly direction?: 'ingress' | 'egress';
  readonly limit?: number;
  readonly follow: boolean;
  readonly suggest?: true;
  readonly output: 'table' | 'json';
  readonly socket: string;
}

export type Port = NonNullable<ObserveRequest['filter']['ports']>[number];

const UNIT_MS: Readonly<Record<string, number>> = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000, d: 86_400_000 };

/**
 * `90s`, `5m`, `1h30m`, before now; or a time as RFC 3339 has it.
 *
 * @param now ms since the epoch
 * @throws InvalidArgumentError
 */
export function parseSince(text: string, now: number): string {
  const parts = [...text.matchAll(/(\d+(?:\.\d+)?)(ms|s|m|h|d)/gy)];
  if (parts.length > 0 && parts.map(([part]) => part).join('') === text) {
    return timeText(now - parts.reduce((sum, [, value, unit = '']) => sum + Number(value) * (UNIT_MS[unit] ?? 0), 0));
  }
  // With an offset or Z: without one the time would be anybody's.
  const at = /^\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)$/.test(text)
    ? Date.parse(text.replace(' ', 'T'))
    : Number.NaN;
  if (Number.isNaN(at))
    throw new InvalidArgumentError('It is a time before now, such as 90s, 5m or 1h30m, or one such as 2026-11-21T12:00:00Z.');
  return timeText(at);
}

/** No agent remembers longer than since 1970; what is earlier may have no date, or none that RFC 3339 can write. */
function timeText(at: number): string {
  return new Date(Math.max(0, at)).toISOString();
}

/** `80`, `53/UDP`. @throws InvalidArgumentError */
export function parsePort(text: string): Port {
  const [, digits, name] = /^(\d{1,5})(?:\/(\w+))?$/u.exec(text) ?? [];
  const port = Number(digits);
  const protocol = name?.toUpperCase();
  if (!(port >= 1 && port <= 65_535)) throw new InvalidArgumentError('A port is a number from 1 to 65535, as in 80 or 53/UDP.');
  if (protocol === undefined) return { port };
  if (protocol !== 'TCP' && protocol !== 'UDP' && protocol !== 'SCTP')
    throw new InvalidArgumentError('The protocols are TCP, UDP and SCTP.');
  return { port, protocol };
}

/** Of one flag. */
const MOST_FILTERS = 100;

/** @throws SluiceError `END_UNREADABLE`, `POD_UNREADABLE`, `FILTERS_TOO_MANY` */
export function requestOf(flags: ObserveFlags): ObserveRequest {
  const { allowed = false, suggest = false, since, follow, namespace, from, to, port, direction } = flags;
  if ([namespace, flags.pod, from, to, port].some((list) => (list?.length ?? 0) > MOST_FILTERS)) {
    throw new SluiceError('FILTERS_TOO_MANY', `a flag is given more than ${MOST_FILTERS} times`, {
      hint: 'Name a namespace or a CIDR that has them all.',
      exitStatus: 2,
    });
  }
  for (const [flag, texts] of [
    ['--from', from],
    ['--to', to],
  ] as const) {
    const wrong = texts?.find((text) => parseEnd(text) === undefined);
    if (wrong === undefined) continue;
    throw new SluiceError('END_UNREADABLE', `${flag}: ${JSON.stringify(wrong)} is no name, address or CIDR`, {
      hint: 'Name namespace/pod, namespace/*, namespace, an address, or a CIDR such as 10.0.0.0/8.',
      exitStatus: 2,
    });
  }
  const pods = flags.pod?.map((text) => podName(text, namespace));
  return {
    kind: 'Observe',
    apiVersion: API_VERSION,
    allowed,
    suggest,
    ...(since === undefined ? {} : { since }),
    follow,
    filter: {
      // With --pod it says whose pod that is.
      ...(namespace === undefined || pods !== undefined ? {} : { namespaces: [...namespace] }),
      ...(pods === undefined ? {} : { pods }),
      ...(from === undefined ? {} : { from: [...from] }),
      ...(to === undefined ? {} : { to: [...to] }),
      ...(port === undefined ? {} : { ports: [...port] }),
      ...(direction === undefined ? {} : { direction }),
    },
  };
}

function podName(text: string, namespaces: readonly string[] = []): string {
  const [namespace] = namespaces;
  const name = text.includes('/') || namespace === undefined ? text : `${namespace}/${text}`;
  if (parseEnd(name)?.kind === 'pod') return name;
  throw new SluiceError('POD_UNREADABLE', `--pod: ${JSON.stringify(text)} is no pod`, {
    hint: 'Write --pod namespace/name, or --namespace beside it.',
    exitStatus: 2,
  });
}
