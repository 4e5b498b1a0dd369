/** The matrix pair by pair: a verdict for every two endpoints, port and family, as records. */
import { type Family, familyOf, formatAddress } from '../policy/address.ts';
import type { Equivalence } from '../policy/equivalence.ts';
import type { Party } from '../policy/equivalence-parties.ts';
import type { DirectionVerdict } from '../policy/evaluate.ts';
import type { Direction, PolicyProtocol } from '../policy/objects.ts';

export interface MatrixRecord {
  /** `namespace/pod`, or what else the endpoint is called. */
  readonly source: string;
  readonly sourceAddress: string;
  readonly destination: string;
  readonly destinationAddress: string;
  readonly family: Family;
  readonly port: number;
  readonly protocol: PolicyProtocol;
  /** Egress of the source and ingress of the destination both allow it. */
  readonly allowed: boolean;
  readonly egress: Reason;
  readonly ingress: Reason;
}

/** What one direction says of a connection, and why. */
export interface Reason {
  readonly allowed: boolean;
  readonly reason: DirectionVerdict['reason'];
  /** `namespace/name` of the policy that admits it, or of all that isolate and do not; none where no policy was asked. */
  readonly policies: readonly string[];
  /** Field paths of what admits it: the peer, or the rule where it is open to every peer; and the port, where the rule names ports. */
  readonly fields?: readonly string[];
}

export interface Port {
  readonly port: number;
  readonly protocol: PolicyProtocol;
}

/** Everyone who is asked about, and on what, a pod and itself included; lazily, since a matrix grows with the square of the pods. */
export function* matrix(
  equivalence: Equivalence,
  sources: readonly Party[],
  destinations: readonly Party[],
  portsOf: (destination: Party) => readonly Port[],
): Generator<MatrixRecord> {
  for (const destination of destinations) {
    for (const { port, protocol } of portsOf(destination)) {
      for (const source of sources) {
        for (const to of destination.addresses) {
          const family = familyOf(to);
          const from = source.addresses.find((address) => familyOf(address) === family);
          if (from === undefined) continue;
          const { allowed, egress, ingress } = equivalence.verdict({ source: from, destination: to, protocol, port });
          yield {
            source: source.name,
            sourceAddress: formatAddress(from),
            destination: destination.name,
            destinationAddress: formatAddress(to),
            family,
            port,
            protocol,
            allowed,
            egress: reasonOf(egress, 'egress'),
            ingress: reasonOf(ingress, 'ingress'),
          };
        }
      }
    }
  }
}

export function reasonOf(verdict: DirectionVerdict, direction: Direction): Reason {
  const { allowed, reason } = verdict;
  if (verdict.reason === 'refused') return { allowed, reason, policies: verdict.policies.map(nameOf) };
  if (verdict.reason !== 'admitted') return { allowed, reason, policies: [] };
  const rule = `spec.${direction}[${verdict.rule}]`;
  const peer = verdict.peer === undefined ? rule : `${rule}.${direction === 'ingress' ? 'from' : 'to'}[${verdict.peer}]`;
  const fields = verdict.port === undefined ? [peer] : [peer, `${rule}.ports[${verdict.port}]`];
  return { allowed, reason, policies: [nameOf(verdict.policy)], fields };
}

function nameOf({ namespace, name }: { readonly namespace: string; readonly name: string }): string {
  return `${namespace}/${name}`;
}
