/** Rules of the kernel's older packet filter, from what iptables-legacy-save prints: no more of them than can be said with some certainty. */
import { optionsOf } from '../network/masquerade/iptables-text.ts';
import { parsePrefix, type Prefix } from '../policy/address.ts';
import { overlap } from '../network/refusal.ts';

export interface LegacyChain {
  /** `ACCEPT`, `DROP`; `-` of a chain that is not the kernel's own. */
  readonly policy: string;
  readonly rules: readonly LegacyRule[];
}

export interface LegacyRule {
  /** `-A INPUT -p udp --dport 8472 -j DROP` */
  readonly text: string;
  readonly accepts: boolean;
  readonly drops: boolean;
  /** Whether it asks for this UDP port; undefined: for a protocol without ports. */
  names(port: number | undefined): boolean;
  /** Whether what goes to this UDP port may be meant. */
  mayBe(port: number | undefined): boolean;
  /** Whether it may be meant for packets with addresses of the block, on one of these interfaces. */
  about(network: Prefix, interfaces: readonly string[]): boolean;
}

/** The chains of one table. */
export function readLegacyChains(saved: string, table: string): ReadonlyMap<string, LegacyChain> {
  const chains = new Map<string, { policy: string; rules: LegacyRule[] }>();
  let isTable = false;
  for (const line of saved.split('\n')) {
    if (line.startsWith('*')) isTable = line.slice(1).trim() === table;
    if (!isTable) continue;
    const [, name, policy] = /^:(\S+) (\S+)/.exec(line) ?? [];
    if (name !== undefined && policy !== undefined) chains.set(name, { policy, rules: [] });
    const [, chain, rule] = /^-A (\S+) (.*)$/.exec(line) ?? [];
    if (chain !== undefined && rule !== undefined) chains.get(chain)?.rules.push(readRule(line, optionsOf(rule)));
  }
  return chains;
}

/** Options that are looked at, and such as say nothing of which packets are meant. Whatever else a rule has makes it a special one. */
const PLAIN = /^(-[jpiosd] .*|-m (udp|tcp|comment|multiport|conntrack|state)|--(comment|dport|dports|ports|ctstate|state|reject-with) .*)$/;

function readRule(text: string, options: readonly string[]): LegacyRule {
  const value = (name: string): string | undefined => options.find((option) => option.startsWith(`${name} `))?.slice(name.length + 1);
  const target = value('-j') ?? value('-g');
  const ports = value('--dport') ?? value('--dports') ?? value('--ports');
  const protocol = value('-p');
  const isIn = (port: number): boolean =>
    (ports ?? '').split(',').some((part) => {
      const [from = '', to = from] = part.split(':');
      return port >= Number(from || 0) && port <= Number(to || 65_535);
    });
  const blocks = ['-s', '-d'].flatMap((name) => {
    const prefix = parsePrefix(value(name) ?? '');
    return prefix === undefined ? [] : [prefix];
  });
  const links = [value('-i'), value('-o')].filter((name) => name !== undefined);
  const states = value('--ctstate') ?? value('--state');
  // A state that no first packet has.
  const isLater = states !== undefined && !states.split(',').includes('NEW');
  const isPlain = options.every((option) => PLAIN.test(option)) && !links.includes('lo');
  return {
    text,
    accepts: target === 'ACCEPT' && isPlain && !isLater,
    drops: target === 'DROP' || target === 'REJECT',
    names: (port) =>
      port === undefined ? protocol === '4' || protocol === 'ipencap' : protocol === 'udp' && ports !== undefined && isIn(port),
    mayBe: (port) => {
      if (port === undefined) return protocol === undefined || protocol === '4' || protocol === 'ipencap';
      return protocol === undefined || (protocol === 'udp' && (ports === undefined || isIn(port)));
    },
    about: (network, interfaces) =>
      (blocks.length === 0 || blocks.some((block) => overlap(block, network))) &&
      links.every((pattern) =>
        interfaces.some((name) => (pattern.endsWith('+') ? name.startsWith(pattern.slice(0, -1)) : name === pattern)),
      ),
  };
}
