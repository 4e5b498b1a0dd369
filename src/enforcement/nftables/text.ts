/**
 * A ruleset in the words of nft(8): what `nft list table inet sluice` prints of it, and what `nft -f` loads. A second rendering beside
 * the one for the kernel; the tests load both and compare what `nft` makes of them.
 */
import { type Family, familyOf, formatAddress } from '../../policy/address.ts';
import type { Direction } from '../../policy/objects.ts';
import type { AdmitRule, ChainRule, DesiredChain, DesiredSet, Ruleset, SetDescription, SetElement } from '../../ruleset/objects.ts';
import { CUT_LABEL } from '../conntrack/flow-sweep.ts';
import { DIRECTIONS, FAMILIES, FAMILY, FRAME_COMMENTS, PRIORITY, TABLE, type TableOptions, verdictMapName } from './frame.ts';
import { LOGGED_A_SECOND, LOGGED_AT_ONCE, logPrefix, shortened } from './render.ts';

const ADDRESS_TYPE: Readonly<Record<Family, string>> = { 4: 'ipv4_addr', 6: 'ipv6_addr' };

/** The whole table. */
export function rulesetText(ruleset: Ruleset, options: TableOptions): string {
  const blocks = [
    ...[...ruleset.sets.values()].map((set) => setText(set)),
    ...DIRECTIONS.flatMap((direction) => FAMILIES.map((family) => verdictMapText(ruleset, direction, family))),
    ...DIRECTIONS.map((direction) => baseChainText(direction, options)),
    ...inCallOrder(ruleset).map((chain) => chainText(chain, options)),
  ];
  const flags = options.owned ? ['\tflags owner,persist'] : [];
  return `${[`table ${FAMILY} ${TABLE} {`, ...flags, blocks.join('\n\n'), '}'].join('\n')}\n`;
}

const CALL_ORDER: readonly DesiredChain['kind'][] = ['policy', 'policies', 'pod'];

/** Chains before those that jump to them: `nft -f` asks for no order, people read easier. */
function inCallOrder({ chains }: Ruleset): DesiredChain[] {
  return [...chains.values()].sort((a, b) => CALL_ORDER.indexOf(a.kind) - CALL_ORDER.indexOf(b.kind) || (a.name < b.name ? -1 : 1));
}

function block(head: string, lines: readonly string[]): string {
  return [`\t${head} {`, ...lines.map((line) => `\t\t${line}`), '\t}'].join('\n');
}

function setText(set: DesiredSet): string {
  const { description } = set;
  const type: Readonly<Record<SetDescription['kind'], (family: Family) => string>> = {
    pods: (family) => ADDRESS_TYPE[family],
    'named-ports': (family) => `${ADDRESS_TYPE[family]} . inet_proto . inet_service`,
    block: (family) => ADDRESS_TYPE[family],
    ports: () => 'inet_service',
  };
  const lines = [`type ${type[description.kind]('family' in description ? description.family : 4)}`];
  const texts: string[] = [];
  if (description.kind === 'block') {
    lines.push('flags interval');
    for (const { first, last } of description.ranges)
      texts.push(first === last ? formatAddress(first) : `${formatAddress(first)}-${formatAddress(last)}`);
  } else if (description.kind === 'ports') {
    lines.push('flags interval');
    for (const { first, last } of description.ranges) texts.push(first === last ? `${first}` : `${first}-${last}`);
  } else {
    for (const element of set.elements()) texts.push(elementText(element));
  }
  lines.push(`comment "${shortened(description.comment)}"`);
  if (texts.length > 0) lines.push(`elements = { ${texts.join(', ')} }`);
  return block(`set ${description.name}`, lines);
}

function elementText(element: SetElement): string {
  return typeof element === 'object'
    ? `${formatAddress(element.address)} . ${element.protocol.toLowerCase()} . ${element.port}`
    : formatAddress(element);
}

function verdictMapText({ verdicts }: Ruleset, direction: Direction, family: Family): string {
  const elements = [...verdicts[direction]].filter(([address]) => familyOf(address) === family);
  const lines = [`type ${ADDRESS_TYPE[family]} : verdict`];
  if (elements.length > 0)
    lines.push(`elements = { ${elements.map(([address, chain]) => `${formatAddress(address)} : goto ${chain}`).join(', ')} }`);
  return block(`map ${verdictMapName(direction, family)}`, lines);
}

function baseChainText(direction: Direction, { cutMark }: TableOptions): string {
  const address = direction === 'ingress' ? 'daddr' : 'saddr';
  const mark = `0x${cutMark.toString(16).padStart(8, '0')}`;
  const comment = FRAME_COMMENTS;
  const cut = [
    `ct label ${CUT_LABEL} counter packets 0 bytes 0 drop comment "${comment.cutLabel}"`,
    `ct mark & ${mark} != 0x00000000 counter packets 0 bytes 0 drop comment "${comment.cutMark}"`,
  ];
  return block(`chain ${direction}`, [
    `type filter hook forward priority ${PRIORITY[direction]}; policy accept;`,
    ...(direction === 'egress' ? cut : []),
    `ct state established accept comment "${comment.established}"`,
    `ct state related meta l4proto icmp icmp type != redirect accept comment "${comment.related}"`,
    `ct state related meta l4proto ipv6-icmp icmpv6 type != nd-redirect accept comment "${comment.related}"`,
    `ip ${address} vmap @${verdictMapName(direction, 4)} comment "${comment.pods}"`,
    `ip6 hoplimit 255 icmpv6 type nd-neighbor-solicit accept comment "${comment.neighbourDiscovery}"`,
    `ip6 hoplimit 255 icmpv6 type nd-neighbor-advert accept comment "${comment.neighbourDiscovery}"`,
    `ip6 ${address} vmap @${verdictMapName(direction, 6)} comment "${comment.pods}"`,
  ]);
}

function chainText(chain: DesiredChain, { logGroup }: TableOptions): string {
  const lines = [`comment "${shortened(chain.comment)}"`, ...chain.rules.map((rule) => ruleText(rule, chain.direction))];
  if (chain.kind === 'pod') {
    if (logGroup !== undefined) {
      lines.push(`limit rate ${LOGGED_A_SECOND}/second burst ${LOGGED_AT_ONCE} packets log prefix "${logPrefix(chain)}" group ${logGroup}`);
    }
    lines.push(`counter packets 0 bytes 0 ${chain.audited ? 'accept' : 'drop'}`);
  }
  return block(`chain ${chain.name}`, lines);
}

function ruleText(rule: ChainRule, direction: Direction): string {
  switch (rule.kind) {
    case 'self':
      return `${addressWord(familyOf(rule.address), peer(direction))} ${formatAddress(rule.address)} accept`;
    case 'jump':
      return `jump ${rule.chain}`;
    case 'admit':
      return [...matchTexts(rule, direction), 'counter packets 0 bytes 0 accept', `comment "${shortened(rule.comment)}"`].join(' ');
  }
}

function matchTexts({ family, peer: set, protocol, port, named }: AdmitRule, direction: Direction): string[] {
  const texts: string[] = [];
  if (family !== undefined && set !== undefined) texts.push(`${addressWord(family, peer(direction))} @${set}`);
  if (family !== undefined && named !== undefined) texts.push(`${addressWord(family, 'daddr')} . meta l4proto . th dport @${named}`);
  if (protocol === undefined) return texts;
  const word = protocol.toLowerCase();
  if (port === undefined) texts.push(`meta l4proto ${word}`);
  else if (typeof port === 'string') texts.push(`${word} dport @${port}`);
  else texts.push(`${word} dport ${port.first === port.last ? port.first : `${port.first}-${port.last}`}`);
  return texts;
}

/** The side that a direction is not about. */
function peer(direction: Direction): 'saddr' | 'daddr' {
  return direction === 'ingress' ? 'saddr' : 'daddr';
}

function addressWord(family: Family, side: 'saddr' | 'daddr'): string {
  return `${family === 4 ? 'ip' : 'ip6'} ${side}`;
}
