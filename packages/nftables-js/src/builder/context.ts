/**
 * A rule while it is being built, and what it has to ask before it may read a header: a table of the family `inet` sees IPv4 and
 * IPv6 packets, so `ip saddr` begins by matching `meta nfproto ipv4`, once a rule. Which match that is in which family is as nft(8)
 * does it, because nft hides exactly these when it lists a rule.
 */
import { NetlinkError } from '../netlink/errors.ts';
import type { Expression, Family, MetaKey } from '../types.ts';
import { be16, le16 } from './values.ts';

export type NetworkProtocol = 'ip' | 'ip6' | 'arp';

/** linux/netfilter.h, NFPROTO_* */
const NFPROTO: Readonly<Record<NetworkProtocol, number>> = { ip: 2, ip6: 10, arp: 3 };
/** linux/if_ether.h, ETH_P_* */
export const ETHER_TYPE: Readonly<Record<NetworkProtocol, number>> = { ip: 0x0800, ip6: 0x86dd, arp: 0x0806 };
/** linux/if_arp.h */
const ARPHRD_ETHER = 1;
const ETHER_TYPE_OFFSET = 12;

/** A part of a rule: a match or a statement. It appends its expressions to the rule. */
export type Part = (rule: RuleContext) => void;

export class RuleContext {
  readonly family: Family;
  readonly expressions: Expression[] = [];
  /** What the rule has matched so far; undefined: nothing yet. */
  #network: NetworkProtocol | undefined;
  #transport: number | undefined;
  #ethernet: boolean;

  constructor(family: Family) {
    this.family = family;
    if (family === 'ip' || family === 'ip6' || family === 'arp') this.#network = family;
    this.#ethernet = family === 'bridge';
  }

  push(...expressions: readonly Expression[]): void {
    for (const each of expressions) this.expressions.push(each);
  }

  /**
   * Makes sure that the packet is of this protocol.
   * @param forTransport nft asks a bridged packet for its protocol in another way before ICMP than before an address
   * @throws NetlinkError ERR_INVALID where no packet could match
   */
  needNetwork(protocol: NetworkProtocol, forTransport = false): void {
    if (this.#network === protocol) return;
    if (this.#network !== undefined) throw new NetlinkError('ERR_INVALID', `a rule for ${this.#network} and ${protocol} matches nothing`);
    if (this.family === 'inet') {
      if (protocol === 'arp') throw new NetlinkError('ERR_INVALID', 'a table of the family inet sees no arp');
      this.#meta('nfproto', Uint8Array.of(NFPROTO[protocol]));
    } else if (this.family === 'bridge' && (forTransport || protocol === 'arp')) {
      this.push(
        { expr: 'payload', base: 'link', offset: ETHER_TYPE_OFFSET, length: 2, register: 0 },
        { expr: 'cmp', op: 'eq', register: 0, value: be16(ETHER_TYPE[protocol]) },
      );
    } else this.#meta('protocol', be16(ETHER_TYPE[protocol]));
    this.#network = protocol;
  }

  /** Makes sure that the packet is of this protocol (IPPROTO_*). `network`: of IP in this version only. */
  needTransport(protocol: number, network?: NetworkProtocol): void {
    if (this.#transport === protocol) return;
    if (this.#transport !== undefined)
      throw new NetlinkError('ERR_INVALID', `a rule for the transport protocols ${this.#transport} and ${protocol} matches nothing`);
    if (network !== undefined) this.needNetwork(network, true);
    this.#meta('l4proto', Uint8Array.of(protocol));
    this.#transport = protocol;
  }

  /** Makes sure that there is an Ethernet header. */
  needEthernet(): void {
    if (this.#ethernet) return;
    this.#meta('iiftype', le16(ARPHRD_ETHER));
    this.#ethernet = true;
  }

  /** The rule itself has matched `meta nfproto`, `meta protocol` or `ether type`. */
  matchedNetwork(protocol: NetworkProtocol | undefined): void {
    this.#network ??= protocol;
  }

  /** The rule itself has matched `meta l4proto`. */
  matchedTransport(protocol: number | undefined): void {
    this.#transport ??= protocol;
  }

  #meta(key: MetaKey, value: Uint8Array): void {
    this.push({ expr: 'meta', key, register: 0 }, { expr: 'cmp', op: 'eq', register: 0, value });
  }
}
