/** The matrix itself: the evaluator asked about every pair of endpoints, as records. */
import { type Family, familyOf, formatAddress } from '../policy/address.ts';
import { type DirectionVerdict, evaluate } from '../policy/evaluate.ts';
import type { PolicyProtocol } from '../policy/objects.ts';
import type { World } from '../policy/world.ts';
import type { Endpoint } from './matrix-endpoints.ts';

/** One line of `-o json`. A pair with addresses of both families has a record for each. */
export interface MatrixRecord {
  /** `namespace/pod`, or an address. */
  readonly source: string;
  readonly sourceAddress: string;
  readonly destination: string;
  readonly destinationAddress: string;
  readonly family: Family;
  readonly port: number;
  readonly protocol: PolicyProtocol;
  /** Egress of the source and ingress of the destination both allow it. */
  readonly allowed: boolean;
  readonly egress: MatrixDirection;
  readonly ingress: MatrixDirection;
}

export interface MatrixDirection {
  readonly allowed: boolean;
  readonly reason: DirectionVerdict['reason'];
  /** `namespace/name` of the policy that admits it, or of all that isolate and do not; none where no policy was asked. */
  readonly policies: readonly string[];
}

export interface Port {
  readonly port: number;
  readonly protocol: PolicyProtocol;
}

/** Everyone who is asked about, and on what; lazily, since a matrix grows with the square of the pods. */
export function* matrix(
  world: World,
  sources: readonly Endpoint[],
  destinations: readonly Endpoint[],
  portsOf: (destination: Endpoint) => readonly Port[],
): Generator<MatrixRecord> {
  for (const destination of destinations) {
    for (const { port, protocol } of portsOf(destination)) {
      for (const source of sources) {
        for (const to of destination.addresses) {
          const family = familyOf(to);
          const from = source.addresses.find((address) => familyOf(address) === family);
          if (from === undefined) continue;
          const { allowed, egress, ingress } = evaluate(world, { source: from, destination: to, protocol, port });
          yield {
            source: source.name,
            sourceAddress: formatAddress(from),
            destination: destination.name,
            destinationAddress: formatAddress(to),
            family,
            port,
            protocol,
            allowed,
            egress: describe(egress),
            ingress: describe(ingress),
          };
        }
      }
    }
  }
}

function describe(verdict: DirectionVerdict): MatrixDirection {
  const { allowed, reason } = verdict;
  const policies = verdict.reason === 'admitted' ? [verdict.policy] : verdict.reason === 'refused' ? verdict.policies : [];
  return { allowed, reason, policies: policies.map(({ namespace, name }) => `${namespace}/${name}`) };
}
