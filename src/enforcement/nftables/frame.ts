/**
 * What the table always has, whatever policies say: the two base chains and the maps that lead a packet to its pod's chain.
 *
 * Both base chains hook into `forward` with policy accept. An accept ends only its own base chain and a drop is final, so egress
 * of the sender and ingress of the receiver both have to agree, whatever other tables do. The hook sees each packet once: bridged,
 * routed, after DNAT, hairpin. What a node itself sends or receives (kubelet's probes) does not come through here (row 28).
 */
import { type Chain, type Expression, labelBits, type Rule, type SetDefinition, type Table } from 'nftables-js';
import type { Family } from '../../policy/address.ts';
import type { Direction } from '../../policy/objects.ts';
import { CUT_LABEL } from '../conntrack/flow-sweep.ts';
import { addressVerdict, counter, ctLabel, ctMark, ctState, hopLimit, icmpType, protocol, verdict } from './match.ts';
import type { DesiredTableChain } from './table-content.ts';

export const FAMILY = 'inet';
export const TABLE = 'sluice';
export const DIRECTIONS: readonly Direction[] = ['egress', 'ingress'];
export const FAMILIES: readonly Family[] = [4, 6];

/** Before the filter priority (0), so that a refused packet costs nothing more; egress first. */
export const PRIORITY: Readonly<Record<Direction, number>> = { egress: -20, ingress: -10 };

export interface TableOptions {
  readonly owned: boolean;
  readonly logGroup: number | undefined;
  readonly cutMark: number;
}

export function tableDefinition({ owned }: TableOptions): Table {
  return { family: FAMILY, name: TABLE, flags: owned ? ['owner', 'persist'] : [] };
}

export function verdictMapName(direction: Direction, family: Family): string {
  return `${direction}-pods-v${family}`;
}

/** From a local isolated pod's address to the chain that judges its packets. */
export function verdictMapDefinition(direction: Direction, family: Family): SetDefinition {
  const key = family === 4 ? 'ipv4_addr' : 'ipv6_addr';
  return { family: FAMILY, table: TABLE, name: verdictMapName(direction, family), key: [key], data: ['verdict'], flags: [] };
}

export function frameChains(options: TableOptions): DesiredTableChain[] {
  return DIRECTIONS.map((direction) => {
    const chain: Chain = {
      family: FAMILY,
      table: TABLE,
      name: direction,
      base: { type: 'filter', hook: 'forward', priority: PRIORITY[direction], policy: 'accept' },
    };
    return { chain, rules: [], tail: frameRules(direction, options) };
  });
}

/** ICMP redirect (RFC 792) and ICMPv6 redirect (RFC 4861): conntrack counts the former as related to a flow (row 46). */
const REDIRECT = { ICMP: 5, ICMPv6: 137 } as const;
/** Neighbour solicitation and advertisement (RFC 4861); they are only genuine with a hop limit of 255. */
const NEIGHBOUR_DISCOVERY = [135, 136] as const;
const GENUINE_HOP_LIMIT = 255;

/** What the rules of the base chains say of themselves. */
export const FRAME_COMMENTS = {
  cutLabel: 'flow cut by a policy change',
  cutMark: 'flow older than the first rule, cut',
  established: 'replies, and flows judged already',
  related: 'errors of a flow',
  neighbourDiscovery: 'neighbour discovery',
  pods: 'isolated local pods',
} as const;

function frameRules(direction: Direction, { cutMark }: TableOptions): Rule[] {
  const side = direction === 'ingress' ? 'destination' : 'source';
  const rules: [comment: string, expressions: Expression[]][] = [
    [FRAME_COMMENTS.cutLabel, [...ctLabel(labelBits(CUT_LABEL)), counter(), verdict({ verdict: 'drop' })]],
    [FRAME_COMMENTS.cutMark, [...ctMark(cutMark), counter(), verdict({ verdict: 'drop' })]],
    [FRAME_COMMENTS.established, [...ctState('established'), verdict({ verdict: 'accept' })]],
  ];
  for (const icmp of ['ICMP', 'ICMPv6'] as const) {
    const errors = [...ctState('related'), ...protocol(icmp), ...icmpType('neq', REDIRECT[icmp]), verdict({ verdict: 'accept' })];
    rules.push([FRAME_COMMENTS.related, errors]);
  }
  for (const type of NEIGHBOUR_DISCOVERY) {
    rules.push([
      FRAME_COMMENTS.neighbourDiscovery,
      [...hopLimit(GENUINE_HOP_LIMIT), ...protocol('ICMPv6'), ...icmpType('eq', type), verdict({ verdict: 'accept' })],
    ]);
  }
  for (const family of FAMILIES) rules.push([FRAME_COMMENTS.pods, addressVerdict(family, side, verdictMapName(direction, family))]);
  return rules.map(([comment, expressions]) => ({ family: FAMILY, table: TABLE, chain: direction, expressions, comment }));
}
