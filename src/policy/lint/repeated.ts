/** Peers and ports that others of the same rule cover, and ranges of ports that are all ports. Certain for every cluster. */
import type { Peer, Policy, PortMatch } from '../objects.ts';
import { PORT_MAX } from '../ports.ts';
import { DIRECTIONS, finding, type Finding, peerPath, rulePath } from './finding.ts';
import { isEmptyPeer, peerCovers, portCovered } from './implication.ts';
import type { Check } from './input.ts';

export const repeated: Check = {
  codes: ['PEER_REDUNDANT', 'PORT_REDUNDANT', 'PORT_RANGE_IS_EVERYTHING'],
  *run({ policies }): Iterable<Finding> {
    for (const policy of policies) {
      for (const direction of DIRECTIONS) {
        for (const rule of policy[direction] ?? []) {
          for (const [peer, cover] of coveredPeers(policy, rule.peers ?? [])) {
            const path = peerPath(direction, rule, peer);
            const message = `${peerPath(direction, rule, cover)} matches all that this peer does`;
            yield finding('PEER_REDUNDANT', policy, path, message, 'leave one of the two out, or narrow the other one');
          }
          for (const port of rule.ports ?? []) {
            const path = `${rulePath(direction, rule)}.ports[${port.index}]`;
            const others = (rule.ports ?? []).filter((other) => other !== port && !isTwinAfter(other, port));
            if (portCovered(port, others)) {
              yield finding('PORT_REDUNDANT', policy, path, 'other entries of this rule admit all that this one does', 'leave it out');
            } else if (port.kind === 'numbers' && port.first === 1 && port.last === PORT_MAX) {
              const message = `1 to ${PORT_MAX} is every port of ${port.protocol}`;
              yield finding('PORT_RANGE_IS_EVERYTHING', policy, path, message, `write {protocol: ${port.protocol}}, which says so`);
            }
          }
        }
      }
    }
  },
};

function* coveredPeers(policy: Policy, peers: readonly Peer[]): Iterable<readonly [peer: Peer, cover: Peer]> {
  const covers = (wide: Peer, narrow: Peer): boolean => peerCovers(wide, narrow, policy.namespace);
  // Each with each: a rule of many hundred peers is not looked at.
  if (peers.length > MOST_PEERS) return;
  for (const peer of peers) {
    if (isEmptyPeer(peer)) continue;
    // Pods of the own namespace beside namespaces that may be theirs are PEERS_MEAN_OR.
    const cover = peers.find(
      (other) => other !== peer && !isPair(peers, other, peer) && covers(other, peer) && !(other.index > peer.index && covers(peer, other)),
    );
    if (cover !== undefined) yield [peer, cover];
  }
}

const MOST_PEERS = 500;

function isPair(peers: readonly Peer[], wide: Peer, narrow: Peer): boolean {
  if (peers.length !== 2 || wide.kind !== 'pods' || narrow.kind !== 'pods') return false;
  return (
    wide.namespaces !== undefined &&
    wide.pods.requirements.length === 0 &&
    narrow.namespaces === undefined &&
    narrow.pods.requirements.length > 0
  );
}

/** The same once more, further down: of the two that one is one too many. */
function isTwinAfter(other: PortMatch, port: PortMatch): boolean {
  return other.index > port.index && portCovered(port, [other]) && portCovered(other, [port]);
}
