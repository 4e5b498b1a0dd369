/** Everything of a network namespace that a network daemon could have made or damaged, as `ip` and `bridge` print it: one line each. */
import { execFileSync } from 'node:child_process';

interface LinkInfo {
  readonly ifname: string;
  readonly flags: readonly string[];
  readonly mtu: number;
  readonly address?: string;
  readonly master?: string;
  readonly txqlen?: number;
  readonly linkinfo?: { readonly info_kind?: string; readonly info_data?: Readonly<Record<string, unknown>> };
}

interface AddressInfo {
  readonly ifname: string;
  readonly addr_info: readonly { readonly local: string; readonly prefixlen: number; readonly scope: string; readonly label?: string }[];
}

interface NeighbourInfo {
  readonly dst: string;
  readonly dev: string;
  readonly lladdr?: string;
}

/** What of a VXLAN device says which one it is. */
const VXLAN = ['id', 'port', 'local', 'local6', 'link', 'learning', 'gbp', 'group', 'remote', 'remote6'] as const;

/**
 * Sorted, without what differs from one namespace to the next although it means the same: indices, hardware addresses that the kernel has
 * drawn, and what IPv6 makes by itself of these.
 */
export function picture(netns: string): string[] {
  const ip = (...args: string[]): string => execFileSync('ip', ['-n', netns, ...args], { encoding: 'utf8' });
  const json = <T>(...args: string[]): T[] => JSON.parse(ip('-j', ...args) || '[]') as T[];
  const lines = (text: string): string[] => text.split('\n').map((line) => line.trim().replaceAll(/ +/g, ' '));
  return [
    ...json<LinkInfo>('-d', 'link').map(link),
    ...json<AddressInfo>('addr').flatMap(({ ifname, addr_info }) =>
      addr_info
        .filter(({ scope }) => scope === 'global')
        .map(({ local, prefixlen, label }) => `address ${local}/${prefixlen} dev ${label ?? ifname}`),
    ),
    ...['-4', '-6'].flatMap((family) =>
      json<NeighbourInfo>(family, 'neigh', 'show', 'nud', 'permanent').map(
        ({ dst, dev, lladdr }) => `neighbour ${dst} lladdr ${lladdr} dev ${dev}`,
      ),
    ),
    ...lines(execFileSync('bridge', ['-n', netns, 'fdb', 'show'], { encoding: 'utf8' }))
      // Those that age are learnt, and go by themselves.
      .filter((line) => line.includes(' dst ') && line.endsWith(' permanent'))
      .map((line) => `forwarding ${line}`),
    ...['-4', '-6'].flatMap((family) =>
      lines(ip('-d', family, 'route', 'show', 'table', 'all'))
        .filter((line) => line !== '' && !/\b(fe80:|ff00::|multicast|anycast)/.test(line))
        .map((line) => `route ${line.replaceAll(/ (linkdown|dead)\b/g, '')}`),
    ),
    ...['-4', '-6'].flatMap((family) => lines(ip(family, 'rule')).map((line) => `rule ${family} ${line}`)),
  ].sort();
}

function link({ ifname, flags, mtu, address, master, txqlen, linkinfo }: LinkInfo): string {
  const isOverlay = linkinfo?.info_kind === 'vxlan';
  const data = isOverlay ? VXLAN.map((key) => `${key} ${JSON.stringify(linkinfo?.info_data?.[key])}`) : [];
  const up = flags.includes('UP') ? 'up' : 'down';
  const own = isOverlay ? [`address ${address}`] : [];
  return [`link ${ifname}`, linkinfo?.info_kind, up, `mtu ${mtu}`, `master ${master}`, `txqlen ${txqlen}`, ...own, ...data].join(' ');
}

/** What one has and the other has not; empty: they are the same. */
export function difference(wanted: readonly string[], there: readonly string[]): string {
  const only = (of: readonly string[], other: readonly string[], sign: string): string[] => {
    const rest = [...other];
    return of.flatMap((line) => {
      const at = rest.indexOf(line);
      if (at < 0) return [`${sign} ${line}`];
      rest.splice(at, 1);
      return [];
    });
  };
  return [...only(wanted, there, '- missing:'), ...only(there, wanted, '+ too much:')].join('\n');
}
