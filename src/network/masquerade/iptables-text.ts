/**
 * The rules as text that `iptables-restore` takes, and the same read back from `iptables-save`: which chains are ours, whether they
 * hold what they should, and what to say to bring them there.
 *
 * Both forms of iptables and all its versions print a rule a little differently, and differently from how it was given. So rules are
 * compared by their options, whatever their order.
 */
import { formatPrefix, readPrefix } from '../../policy/address.ts';
import {
  type AddressMatch,
  forwardRules,
  KUBE_PROXY_MARK,
  type MasqueradeFamily,
  type MasqueradeRules,
  masqueradeRules,
  type TrafficRule,
} from './rules.ts';

/** A chain of ours, and the jump to it at the end of one of the kernel's. */
export interface IptablesChain {
  readonly table: 'nat' | 'filter';
  readonly chain: string;
  /** The chain that jumps there. */
  readonly base: string;
  /** By which flanneld's rules are known. */
  readonly comment: string;
}

/** flanneld's chains. */
export const MASQUERADE_CHAIN: IptablesChain = { table: 'nat', chain: 'FLANNEL-POSTRTG', base: 'POSTROUTING', comment: 'flanneld masq' };
export const FORWARD_CHAIN: IptablesChain = { table: 'filter', chain: 'FLANNEL-FWD', base: 'FORWARD', comment: 'flanneld forward' };
export const FLANNEL_CHAINS: readonly IptablesChain[] = [MASQUERADE_CHAIN, FORWARD_CHAIN];

/** `rules`: as they stand behind `-A CHAIN`. Undefined: there should be no such chain, and no jump to it. */
export interface WantedIptablesChain extends IptablesChain {
  readonly rules: readonly string[] | undefined;
}

/** The rules of the chains that concern us, as they stand behind `-A CHAIN`, by table and chain. */
export type SavedTables = ReadonlyMap<string, ReadonlyMap<string, readonly string[]>>;

/** What to give to `iptables-restore --noflush`, and why. */
export interface IptablesChange {
  readonly input: string;
  /** For the log, one difference each. */
  readonly what: readonly string[];
  /** Chains of ours that it is about, each with its table. */
  readonly chains: readonly string[];
}

/** What one family should have. */
export function wantedIptablesChains(
  network: MasqueradeFamily,
  { masquerade, forward, randomFully }: Omit<MasqueradeRules, 'families'>,
): readonly WantedIptablesChain[] {
  const render = ({ comment }: IptablesChain, rules: readonly TrafficRule[]): readonly string[] =>
    rules.map((rule) => ruleText(rule, comment, randomFully));
  return [
    {
      ...MASQUERADE_CHAIN,
      rules: masquerade ? render(MASQUERADE_CHAIN, masqueradeRules('iptables', network)) : undefined,
    },
    { ...FORWARD_CHAIN, rules: forward ? render(FORWARD_CHAIN, forwardRules(network)) : undefined },
  ];
}

/** In the order in which iptables prints it. */
function ruleText({ marked, source, destination, action }: TrafficRule, comment: string, randomFully: boolean): string {
  const mark = KUBE_PROXY_MARK.toString(16);
  return [
    ...matchText('-s', source),
    ...matchText('-d', destination),
    // One bit of the mark: others may have set others.
    ...(marked === true ? [`-m mark --mark 0x${mark}/0x${mark}`] : []),
    `-m comment --comment "${comment}" -j ${action.toUpperCase()}`,
    ...(action === 'masquerade' && randomFully ? ['--random-fully'] : []),
  ].join(' ');
}

function matchText(option: string, match: AddressMatch | undefined): string[] {
  return match === undefined ? [] : [`${match.not ? '! ' : ''}${option} ${match.prefix}`];
}

function jumpText({ chain, comment }: IptablesChain): string {
  return `-m comment --comment "${comment}" -j ${chain}`;
}

/** Reads what `iptables-save` prints. Chains of others are left out: kube-proxy alone may have ten thousands of rules. */
export function readIptablesSave(text: string): SavedTables {
  const tables = new Map<string, Map<string, string[]>>();
  let table = '';
  for (const line of text.split('\n')) {
    if (line.startsWith('*')) {
      table = line.slice(1).trim();
      continue;
    }
    const [, chain = '', rule] = /^(?::|-A )(\S+)(?: (.*))?$/.exec(line) ?? [];
    if (!FLANNEL_CHAINS.some((ours) => ours.table === table && (ours.chain === chain || ours.base === chain))) continue;
    const chains = tables.get(table) ?? new Map<string, string[]>();
    tables.set(table, chains);
    const rules = chains.get(chain) ?? [];
    chains.set(chain, rules);
    if (line.startsWith('-A') && rule !== undefined) rules.push(rule.trim());
  }
  return tables;
}

/**
 * What brings the kernel from what was saved to what is wanted; undefined where nothing differs. Of each table all is done or
 * nothing. A chain whose rules differ is filled anew, and with it go the rules of a network or subnet that the node had before.
 *
 * The jump is at the end of its chain when it is made, as flanneld's is, and is left wherever somebody has moved it. Rules that older
 * versions of flanneld put beside it (up to 0.19, known by their comment) go.
 */
export function iptablesChange(wanted: readonly WantedIptablesChain[], saved: SavedTables): IptablesChange | undefined {
  const what: string[] = [];
  const chains: string[] = [];
  const tables = wanted.flatMap((each) => {
    const lines = chainChange(each, saved.get(each.table), (reason) => what.push(`${each.table} ${reason}`));
    if (lines.length === 0) return [];
    chains.push(`${each.table} ${each.chain}`);
    return [`*${each.table}`, ...lines, 'COMMIT', ''];
  });
  return tables.length === 0 ? undefined : { input: tables.join('\n'), what, chains };
}

function chainChange(
  wanted: WantedIptablesChain,
  saved: ReadonlyMap<string, readonly string[]> | undefined,
  tell: (reason: string) => void,
): string[] {
  const { chain, base, comment, rules } = wanted;
  const known = saved?.get(chain);
  const jump = jumpText(wanted);
  const ours = (saved?.get(base) ?? []).filter((text) => {
    const options = optionsOf(text);
    return options.includes(`-j ${chain}`) || options.includes(`--comment ${comment}`);
  });
  const jumps = ours.filter((text) => sameRule(text, jump));
  const others = ours.filter((text) => !sameRule(text, jump));
  const lines: string[] = [];
  if (others.length > 0) tell(`${base}: rules of an older version were there`);
  for (const text of others) lines.push(`-D ${base} ${text}`);
  if (rules === undefined) {
    for (const _ of jumps) lines.push(`-D ${base} ${jump}`);
    if (known !== undefined) lines.push(`-F ${chain}`, `-X ${chain}`);
    if (jumps.length > 0 || known !== undefined) tell(`${chain}: was there`);
    return lines;
  }
  if (known === undefined || !sameRules(known, rules)) {
    tell(`${chain}: ${known === undefined ? 'was missing' : 'its rules were others'}`);
    // Makes the chain, or empties it.
    lines.unshift(`:${chain} - [0:0]`);
    for (const text of rules) lines.push(`-A ${chain} ${text}`);
  }
  if (jumps.length === 0) {
    tell(`${base}: the jump to ${chain} was missing`);
    lines.push(`-A ${base} ${jump}`);
  } else if (jumps.length > 1) {
    tell(`${base}: there was more than one jump to ${chain}`);
    for (const _ of jumps.slice(1)) lines.push(`-D ${base} ${jump}`);
  }
  return lines;
}

function sameRules(known: readonly string[], wanted: readonly string[]): boolean {
  return known.length === wanted.length && known.every((text, index) => sameRule(text, wanted[index] ?? ''));
}

function sameRule(a: string, b: string): boolean {
  return optionsOf(a).join('\n') === optionsOf(b).join('\n');
}

/** These say nothing that the option after them does not say. */
const SAID_BY_OPTIONS: ReadonlySet<string> = new Set(['-m comment', '-m mark']);

/** `! -s 10.0.0.0/8`, `-j RETURN`, …: each option with what negates it and its values, in an order that does not depend on the text's. */
export function optionsOf(rule: string): readonly string[] {
  const options: string[][] = [];
  let negated = false;
  for (const [word, quoted] of rule.matchAll(/"((?:[^"\\]|\\.)*)"|\S+/g)) {
    const value = quoted?.replaceAll(/\\(.)/g, '$1') ?? word;
    if (value === '!' && quoted === undefined) {
      negated = true;
    } else if (value.startsWith('-') && quoted === undefined) {
      options.push(negated ? ['!', value] : [value]);
      negated = false;
    } else {
      options.at(-1)?.push(/^[0-9a-f.:]+\/\d+$/i.test(value) ? canonicalPrefix(value) : value);
    }
  }
  return options
    .map((words) => words.join(' '))
    .filter((option) => !SAID_BY_OPTIONS.has(option))
    .toSorted();
}

function canonicalPrefix(text: string): string {
  const reading = readPrefix(text);
  return reading === undefined ? text : formatPrefix(reading.prefix);
}

/** What a version of iptables can do. */
export interface IptablesAbilities {
  /** `nftables`: its rules are in tables of nftables, `ip nat` and so on. `legacy`: the kernel's older packet filter. */
  readonly variant: 'nftables' | 'legacy';
  /** `MASQUERADE --random-fully`, and `iptables-restore --wait`: both since 1.6.2. */
  readonly randomFully: boolean;
  readonly restoreWaits: boolean;
}

/** Reads what `iptables --version` prints; undefined where that is no version. */
export function readIptablesVersion(text: string): IptablesAbilities | undefined {
  const [, major, minor, patch] = /v(\d+)\.(\d+)(?:\.(\d+))?/.exec(text)?.map(Number) ?? [];
  if (major === undefined || minor === undefined) return undefined;
  const since162 = major > 1 || (major === 1 && (minor > 6 || (minor === 6 && (patch ?? 0) >= 2)));
  return { variant: text.includes('(nf_tables)') ? 'nftables' : 'legacy', randomFully: since162, restoreWaits: since162 };
}
