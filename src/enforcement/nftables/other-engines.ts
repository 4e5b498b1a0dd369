/**
 * Policy engines that may be on a node beside us, told by the chains and tables that they make. Both then decide, a packet has to be
 * admitted by both, and nobody explains the sum: it has to be said.
 */
import type { NftConnection } from 'nftables-js';
import { FAMILY, TABLE } from './frame.ts';

/** What an engine calls its chains, or its table. iptables' nftables form has them under their own names. */
const ENGINES: readonly { readonly engine: string; readonly chain?: RegExp; readonly table?: RegExp }[] = [
  // Also what k3s and RKE2 have built in.
  { engine: 'kube-router (also built into k3s: --disable-network-policy)', chain: /^KUBE-(ROUTER|NWPLCY|POD-FW)-/ },
  { engine: 'Calico', chain: /^(cali-|filter-cali-)/, table: /^calico$/ },
  { engine: 'Cilium', chain: /^(OLD_)?CILIUM_/ },
  { engine: 'Antrea', chain: /^ANTREA-/ },
  { engine: 'kube-network-policies', table: /^kube-network-policies$/ },
  { engine: 'Weave Net', chain: /^WEAVE-NPC/ },
];

/** Names of those whose traces are in this network namespace. Chains of iptables' older form (legacy) are not seen. */
export function otherEngines(connection: Pick<NftConnection, 'tables' | 'chains'>): readonly string[] {
  const found = new Set<string>();
  for (const { family, name } of connection.tables()) {
    if (family === FAMILY && name === TABLE) continue;
    for (const { engine, table } of ENGINES) if (table?.test(name) === true) found.add(engine);
    for (const chain of connection.chains({ family, table: name })) {
      for (const each of ENGINES) if (each.chain?.test(chain.name) === true) found.add(each.engine);
    }
  }
  return [...found];
}
