/**
 * What the table always has, whatever policies say: the two base chains and the maps that lead a packet to its pod's chain.
 *
 * Both base chains hook into `forward` with policy accept. An accept ends only its own base chain and a drop is final, so egress
 * of the sender and ingress of the receiver both have to agree, whatever other tables do. The hook sees each packet once: bridged,
 * routed, after DNAT, hairpin. What a node itself sends or receives (kubelet's probes) does not come through here (row 28).
 */
import type { Chain, Rule, SetDefinition, Table } from 'nftables-js';
import { accept, counter, ct, drop, icmp, icmpv6, ip, ip6, meta, type Part, rule } from 'nftables-js/builder';
import type { Family } from '../../policy/address.ts';
import type { Direction } from '../../policy/objects.ts';
import { CUT_LABEL } from '../conntrack/flow-sweep.ts';
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

/** What the rules of the base chains say of themselves. */
export const FRAME_COMMENTS = {
  cutLabel: 'flow cut by a policy change',
  cutMark: 'flow older than the first rule, cut',
  established: 'replies, and flows judged already',
  related: 'errors of a flow',
  neighbourDiscovery: 'neighbour discovery',
  pods: 'isolated local pods',
} as const;

type FrameRule = readonly [comment: string, ...parts: Part[]];

/** Nearly every packet ends at the third rule, or at the first of `ingress`; a new connection of IPv4 at the first map. */
function frameRules(direction: Direction, { cutMark }: TableOptions): Rule[] {
  const judgedAddress = { 4: direction === 'ingress' ? ip.daddr : ip.saddr, 6: direction === 'ingress' ? ip6.daddr : ip6.saddr };
  const judgement = (family: Family): FrameRule => [FRAME_COMMENTS.pods, judgedAddress[family].vmap(verdictMapName(direction, family))];
  const cut: readonly FrameRule[] = [
    [FRAME_COMMENTS.cutLabel, ct.label(CUT_LABEL), counter(), drop],
    [FRAME_COMMENTS.cutMark, ct.mark.anyBit(cutMark), counter(), drop],
  ];
  const rules: readonly FrameRule[] = [
    // Every packet comes through egress first, and a drop is final: asking again would only cost.
    ...(direction === 'egress' ? cut : []),
    [FRAME_COMMENTS.established, ct.state.any(['established']), accept],
    // Of what conntrack calls related only errors (row 46): no redirects, and no connections that helpers expect.
    [FRAME_COMMENTS.related, ct.state.any(['related']), meta.l4proto.eq('icmp'), icmp.type.neq('redirect'), accept],
    [FRAME_COMMENTS.related, ct.state.any(['related']), meta.l4proto.eq('icmpv6'), icmpv6.type.neq('nd-redirect'), accept],
    // Ahead of what only IPv6 asks for.
    judgement(4),
    // Neighbour discovery is only genuine with a hop limit of 255 (RFC 4861).
    [FRAME_COMMENTS.neighbourDiscovery, ip6.hoplimit.eq(255), icmpv6.type.eq('nd-neighbor-solicit'), accept],
    [FRAME_COMMENTS.neighbourDiscovery, ip6.hoplimit.eq(255), icmpv6.type.eq('nd-neighbor-advert'), accept],
    judgement(6),
  ];
  return rules.map(([comment, ...parts]) => ({
    family: FAMILY,
    table: TABLE,
    chain: direction,
    expressions: rule(FAMILY, ...parts),
    comment,
  }));
}
