/**
 * Objects of somebody who means ill, in forms that the API server takes, each from its seed alone: a small valid object, of which one field or
 * two are as long, as deep, as many or as odd as that field can be.
 */
import { type ApiObject, Dice } from '../../random/cluster.ts';
import type { Draft, HostilePlace } from './draft.ts';
import { METADATA_FIELDS, NAMESPACE_FIELDS, POD_FIELDS, POLICY_FIELDS, type HostileField } from './fields.ts';
import { MEANINGFUL_NAMES } from './texts.ts';

/** What is done with an object beside making and deleting it. */
export type Motion = 'relabelled' | 'terminating' | 'replaced' | 'status';

export interface HostileObject {
  readonly seed: number;
  readonly object: ApiObject;
  /** Of a pod: what its node would say of it. */
  readonly status?: Readonly<Record<string, unknown>>;
  /** The fields that are hostile. */
  readonly fields: readonly string[];
  readonly motion: Motion | undefined;
}

const KINDS = ['NetworkPolicy', 'NetworkPolicy', 'NetworkPolicy', 'Pod', 'Pod', 'Namespace'] as const;

export function drawHostile(seed: number, place: HostilePlace): HostileObject {
  const dice = new Dice(Math.imul(seed, 0x9e37_79b1));
  const kind = dice.pick(KINDS);
  const own: readonly HostileField[] = { NetworkPolicy: POLICY_FIELDS, Pod: POD_FIELDS, Namespace: NAMESPACE_FIELDS }[kind];
  const isPair = dice.chance(50);
  const [first, second] = dice.shuffle([...own, ...METADATA_FIELDS.filter(({ kinds }) => kinds === undefined || kinds.includes(kind))]);
  // A field of its own kind is always there; a second one may be one that every object has.
  const lead = own.includes(first as HostileField) ? first : dice.pick(own);
  const fields = [lead, ...(isPair ? [first === lead ? second : first] : [])].filter((field) => field !== undefined);

  const draft: Draft = {
    dice,
    place,
    metadata: { name: nameOf(dice, seed), ...(kind === 'Namespace' ? {} : { namespace: place.namespace }) },
    spec: baseSpec(kind, dice, place),
    status: kind === 'Pod' ? podStatus(seed) : {},
    // Together they have to fit into one object.
    bytes: Math.floor(1_000_000 / fields.length),
  };
  for (const field of fields) field.draw(draft);
  const apiVersion = kind === 'NetworkPolicy' ? 'networking.k8s.io/v1' : 'v1';
  const object: ApiObject = { apiVersion, kind, metadata: draft.metadata, spec: draft.spec };
  const motions: readonly (Motion | undefined)[] =
    kind === 'Pod' ? [undefined, 'relabelled', 'terminating', 'replaced', 'status'] : [undefined, undefined, 'relabelled', 'replaced'];
  return {
    seed,
    object,
    ...(kind === 'Pod' ? { status: draft.status } : {}),
    fields: fields.map(({ name }) => name),
    motion: dice.pick(motions),
  };
}

/** Never the same as another seed's: two of them may be there at once. */
function nameOf(dice: Dice, seed: number): string {
  return dice.chance(20) ? `${dice.pick(MEANINGFUL_NAMES)}-${seed}` : `h${seed}`;
}

function baseSpec(kind: ApiObject['kind'], dice: Dice, { node, otherNode, podLabels }: HostilePlace): Record<string, unknown> {
  switch (kind) {
    case 'NetworkPolicy':
      return {
        podSelector: dice.chance(70) ? {} : { matchLabels: podLabels },
        ...dice.pick([{}, { policyTypes: ['Ingress'] }, { policyTypes: ['Egress'] }, { policyTypes: ['Ingress', 'Egress'] }]),
      };
    case 'Pod':
      return { nodeName: dice.chance(60) ? node : otherNode, containers: [{ name: 'main', image: 'registry.invalid/none' }] };
    case 'Namespace':
    case 'Node':
      return {};
  }
}

/** Addresses of a block that nobody else of the cluster has. */
function podStatus(seed: number): Record<string, unknown> {
  const [high, low] = [(seed >> 8) & 127, seed & 255];
  const addresses = [`10.245.${high}.${low}`, `fd00:10:245:0:0:0:${high}:${low.toString(16)}`];
  return { phase: 'Running', podIP: addresses[0], podIPs: addresses.map((ip) => ({ ip })) };
}
