/**
 * The peers of one WireGuard device, from what each node wants to be. A device tells peers apart by their public keys, and a prefix
 * belongs to one of them: of nodes that claim the same, the one whose name sorts first gets it, so that all nodes decide alike.
 */
import { formatPrefix } from '../../policy/address.ts';
import type { Conflict } from '../entries.ts';
import { peerChange } from './difference.ts';
import type { WireguardPeer } from './messages.ts';

/** Of one public key. */
export interface PeerDifference {
  readonly before: WireguardPeer | undefined;
  readonly after: WireguardPeer | undefined;
}

export class PeerTable {
  /** What each node wants to be. */
  readonly #wanted = new Map<string, WireguardPeer>();
  /** Which nodes claim a key or a prefix. */
  readonly #claims = new Map<string, Set<string>>();
  readonly #contested = new Set<string>();
  readonly #peers = new Map<string, WireguardPeer>();

  /** By public key. */
  get peers(): ReadonlyMap<string, WireguardPeer> {
    return this.#peers;
  }

  /** The node that has a key; undefined: none. */
  nodeOf(publicKey: string): string | undefined {
    return this.#winner(keyClaim(publicKey));
  }

  /** Says what a node is from now on; undefined: nothing. What that changes, also of other nodes; what goes comes first. */
  set(node: string, peer: WireguardPeer | undefined): PeerDifference[] {
    const before = this.#wanted.get(node);
    const keys = new Set<string>();
    for (const claim of claimsOf(before)) {
      this.#addKeys(claim, keys);
      this.#unclaim(claim, node);
    }
    if (peer === undefined) this.#wanted.delete(node);
    else this.#wanted.set(node, peer);
    for (const claim of claimsOf(peer)) {
      this.#claim(claim, node);
      this.#addKeys(claim, keys);
    }
    const differences: PeerDifference[] = [];
    for (const key of keys) {
      const [was, is] = [this.#peers.get(key), this.#resolve(key)];
      if (is === undefined) this.#peers.delete(key);
      else this.#peers.set(key, is);
      if (!same(was, is)) differences.push({ before: was, after: is });
    }
    return differences.sort((a, b) => Number(a.after !== undefined) - Number(b.after !== undefined));
  }

  conflicts(): Conflict[] {
    return [...this.#contested].map((key) => {
      const [winner = '', ...losers] = [...(this.#claims.get(key) ?? [])].sort();
      return { key, winner, losers };
    });
  }

  /** The keys of all who claim it. */
  #addKeys(claim: string, keys: Set<string>): void {
    for (const node of this.#claims.get(claim) ?? []) {
      const key = this.#wanted.get(node)?.publicKey;
      if (key !== undefined) keys.add(key);
    }
  }

  #claim(claim: string, node: string): void {
    const nodes = this.#claims.get(claim);
    if (nodes === undefined) this.#claims.set(claim, new Set([node]));
    else if (nodes.add(node).size > 1) this.#contested.add(claim);
  }

  #unclaim(claim: string, node: string): void {
    const nodes = this.#claims.get(claim);
    nodes?.delete(node);
    if (nodes === undefined || nodes.size < 2) this.#contested.delete(claim);
    if (nodes?.size === 0) this.#claims.delete(claim);
  }

  #winner(claim: string): string | undefined {
    let first: string | undefined;
    for (const node of this.#claims.get(claim) ?? []) if (first === undefined || node < first) first = node;
    return first;
  }

  /** What the peer of a key is, without the prefixes that others get. */
  #resolve(publicKey: string): WireguardPeer | undefined {
    const node = this.#winner(keyClaim(publicKey));
    const peer = node === undefined ? undefined : this.#wanted.get(node);
    if (peer === undefined) return undefined;
    const allowed = peer.allowed.filter((prefix) => this.#winner(prefixClaim(formatPrefix(prefix))) === node);
    return allowed.length === peer.allowed.length ? peer : { ...peer, allowed };
  }
}

function keyClaim(publicKey: string): string {
  return `WireGuard key ${publicKey}`;
}

function prefixClaim(prefix: string): string {
  return `subnet ${prefix}`;
}

function claimsOf(peer: WireguardPeer | undefined): string[] {
  return peer === undefined ? [] : [keyClaim(peer.publicKey), ...peer.allowed.map((prefix) => prefixClaim(formatPrefix(prefix)))];
}

function same(a: WireguardPeer | undefined, b: WireguardPeer | undefined): boolean {
  if (a === undefined || b === undefined) return a === b;
  return peerChange(b, { ...a, handshakeAt: 0 }, 0) === undefined;
}
