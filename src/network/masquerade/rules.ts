/**
 * The rules by which pod traffic is masqueraded and forwarded, as data: what flanneld writes, in its order and with its words, so
 * that a node can change from one program to the other in place. How they are written is in nftables.ts and iptables.ts.
 *
 * flanneld's two forms are not quite the same, and each is kept as it is:
 *
 * - The fourth rule leaves alone, in nftables, everything that comes from outside of this node's subnet and goes to the cluster; in
 *   iptables only what comes from outside of the cluster to this node's pods. So the node's own packets to pods of other nodes are
 *   masqueraded by iptables alone; the last rule never sees a packet in nftables.
 * - The mark is the whole mark in nftables, and one bit of it in iptables.
 */
import { type Family, formatPrefix, ipv4, ipv6, type Prefix } from '../../policy/address.ts';

export type MasqueradeMode = 'nftables' | 'iptables';

/** One address family of the pod network. */
export interface MasqueradeFamily {
  readonly family: Family;
  /** The whole cluster's. */
  readonly network: Prefix;
  /** This node's part of it. */
  readonly subnet: Prefix;
}

/** What is wanted of the rules. */
export interface MasqueradeRules {
  /** Those in use; each at most once. */
  readonly families: readonly MasqueradeFamily[];
  /** Whether pods appear outside of the cluster under the node's address. */
  readonly masquerade: boolean;
  /** Whether what is forwarded from and to pods is accepted expressly. */
  readonly forward: boolean;
  /** Whether the kernel picks source ports at random, so that two flows rarely race for one. */
  readonly randomFully: boolean;
}

/** An address inside of a prefix, written as text, or with `not` outside of it. */
export interface AddressMatch {
  readonly prefix: string;
  readonly not: boolean;
}

/** Matches in the order in which they are asked. `marked`: by kube-proxy, which masquerades the packet itself. */
export interface TrafficRule {
  readonly marked?: true;
  readonly source?: AddressMatch;
  readonly destination?: AddressMatch;
  readonly action: 'accept' | 'return' | 'masquerade';
}

/** The mark by which kube-proxy asks for a masquerade (`--iptables-masquerade-bit` 14). */
export const KUBE_PROXY_MARK = 0x4000;

/** RFC 1112 section 4; RFC 4291 section 2.7. */
const MULTICAST: Readonly<Record<Family, Prefix>> = {
  4: { address: ipv4(0xe000_0000), length: 4 },
  6: { address: ipv6(0xffn << 120n), length: 8 },
};

/** The rules of the postrouting hook. */
export function masqueradeRules(mode: MasqueradeMode, { family, network, subnet }: MasqueradeFamily): readonly TrafficRule[] {
  return [
    { marked: true, action: 'return' },
    { source: inside(subnet), destination: inside(network), action: 'return' },
    { source: inside(network), destination: inside(subnet), action: 'return' },
    mode === 'nftables'
      ? { source: outside(subnet), destination: inside(network), action: 'return' }
      : { source: outside(network), destination: inside(subnet), action: 'return' },
    { source: inside(network), destination: outside(MULTICAST[family]), action: 'masquerade' },
    { source: outside(network), destination: inside(network), action: 'masquerade' },
  ];
}

/** The rules of the forward hook. */
export function forwardRules({ network }: MasqueradeFamily): readonly TrafficRule[] {
  return [
    { source: inside(network), action: 'accept' },
    { destination: inside(network), action: 'accept' },
  ];
}

function inside(prefix: Prefix): AddressMatch {
  return { prefix: formatPrefix(prefix), not: false };
}

function outside(prefix: Prefix): AddressMatch {
  return { prefix: formatPrefix(prefix), not: true };
}
