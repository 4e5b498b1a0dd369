/**
 * The NetworkPolicy that would admit a flow that is refused: as narrow as policies can be written, and with no other effect.
 *
 * What it promises: with the suggestions added, {@link evaluate} allows the flow, and no pod is isolated that was not before. The
 * second is kept by construction: a suggestion selects no pod that the policy does not select on whose account the flow is refused. (Not where other
 * pods of the node claim the pod's address: what selects one of them and not the others makes a dispute of it, row 40.)
 */
import { type Address, familyOf, formatAddress, widthOf } from './address.ts';
import { evaluate, type Question, type Refused, type Verdict } from './evaluate.ts';
import { hashOfText, type Labels } from './labels.ts';
import type { Direction, Pod, Policy } from './objects.ts';
import { isLabelKey, isLabelValue, type Requirement } from './selector.ts';
import { isDisputed, NAMESPACE_NAME_LABEL, type World } from './world.ts';

/** metav1.LabelSelector. */
export interface SelectorManifest {
  readonly matchLabels?: Readonly<Record<string, string>>;
  readonly matchExpressions?: readonly { readonly key: string; readonly operator: string; readonly values?: readonly string[] }[];
}

export interface PeerManifest {
  readonly namespaceSelector?: SelectorManifest;
  readonly podSelector?: SelectorManifest;
  readonly ipBlock?: { readonly cidr: string };
}

/** Absent `ports`: every protocol and port. */
export interface RuleManifest {
  readonly from?: readonly PeerManifest[];
  readonly to?: readonly PeerManifest[];
  readonly ports?: readonly { readonly protocol: string; readonly port?: number }[];
}

/** An object as `kubectl apply` takes it. */
export interface PolicyManifest {
  readonly apiVersion: 'networking.k8s.io/v1';
  readonly kind: 'NetworkPolicy';
  readonly metadata: { readonly name: string; readonly namespace: string };
  readonly spec: {
    readonly podSelector: SelectorManifest;
    readonly policyTypes: readonly ['Ingress'] | readonly ['Egress'];
    readonly ingress?: readonly RuleManifest[];
    readonly egress?: readonly RuleManifest[];
  };
}

export interface Suggestion {
  /** The direction that is refused, and that the policy is about: no other is touched. */
  readonly direction: Direction;
  readonly policy: PolicyManifest;
  /** What it lets through, in words: `TCP 5432 into pods app=db of shop, from pods app=web of shop`. */
  readonly admits: string;
  /** What it lets through beyond this flow because policies cannot say less, and what will make it useless; a sentence each. */
  readonly notes: readonly string[];
}

/**
 * Labels that the controllers of Kubernetes give to tell one pod, or one generation of pods, from the next: a policy that names them
 * is void after the next rollout (https://kubernetes.io/docs/reference/labels-annotations-taints/).
 */
const PASSING_LABELS: ReadonlySet<string> = new Set([
  'pod-template-hash',
  'rollouts-pod-template-hash',
  'controller-revision-hash',
  'pod-template-generation',
  'statefulset.kubernetes.io/pod-name',
  'apps.kubernetes.io/pod-index',
  'controller-uid',
  'job-name',
  'batch.kubernetes.io/controller-uid',
  'batch.kubernetes.io/job-name',
  'batch.kubernetes.io/job-completion-index',
]);

/** A name of an object has 253 characters at most; people read shorter ones. */
const LONGEST_NAME_PART = 40;

/**
 * One policy for each direction that refuses the flow, egress first; none where it is allowed.
 *
 * @param verdict what {@link evaluate} says of it, where that is known already
 * @throws PolicyError as {@link evaluate} does
 */
export function suggestPolicy(world: World, question: Question, verdict: Verdict = evaluate(world, question)): readonly Suggestion[] {
  return (['egress', 'ingress'] as const).flatMap((direction) => {
    const refused = verdict[direction];
    const isEgress = direction === 'egress';
    const subject = world.podAt(isEgress ? question.source : question.destination);
    // Where an address is disputed no policy helps (row 40).
    if (refused.reason !== 'refused' || subject === undefined || isDisputed(refused.policies)) return [];
    return [suggestionFor(world, direction, question, subject, isEgress ? question.destination : question.source, refused)];
  });
}

function suggestionFor(
  world: World,
  direction: Direction,
  { protocol, port }: Question,
  subject: Pod,
  peerAddress: Address,
  refused: Refused,
): Suggestion {
  const notes: string[] = [];
  const podSelector = subjectSelector(subject, refused.policies, notes);
  const peer = peerOf(world, subject.namespace, peerAddress, notes);
  const hasPorts = protocol === 'TCP' || protocol === 'UDP' || protocol === 'SCTP';
  if (!hasPorts) notes.push('A NetworkPolicy names TCP, UDP and SCTP only: everything else is admitted with every protocol and port.');
  // An entry without a port is every port of its protocol (row 13); 0 is none that a policy can name.
  const isNamed = hasPorts && port !== undefined && port > 0;
  if (hasPorts && !isNamed) notes.push(`A NetworkPolicy cannot name port ${port}: every ${protocol} port is admitted.`);
  const ports = hasPorts ? { ports: [isNamed ? { protocol, port } : { protocol }] } : {};
  const what = hasPorts ? `${protocol} ${isNamed ? port : 'to every port'}` : 'every protocol';
  const who = `${textOf(podSelector)} of ${subject.namespace}`;
  const isEgress = direction === 'egress';
  const spec: PolicyManifest['spec'] = isEgress
    ? { podSelector, policyTypes: ['Egress'], egress: [{ to: [peer.manifest], ...ports }] }
    : { podSelector, policyTypes: ['Ingress'], ingress: [{ from: [peer.manifest], ...ports }] };
  const name = nameOf([`allow-${direction}`, isEgress ? 'to' : 'from', peer.name, ...(isNamed ? [`${protocol}-${port}`] : [])], spec);
  return {
    direction,
    policy: {
      apiVersion: 'networking.k8s.io/v1',
      kind: 'NetworkPolicy',
      metadata: { name: freeName(name, refused.policies), namespace: subject.namespace },
      spec,
    },
    admits: isEgress ? `${what} out of ${who}, to ${peer.text}` : `${what} into ${who}, from ${peer.text}`,
    notes,
  };
}

/**
 * Selects the pod by its lasting labels, and nobody whom not also one of the isolating policies selects: otherwise the suggestion
 * would isolate pods that are open now. What that policy asks beyond the labels is asked as well.
 */
function subjectSelector(pod: Pod, isolating: readonly Policy[], notes: string[]): SelectorManifest {
  const labels = lastingLabels(pod.labels);
  const missing = isolating.map(({ subject }) => subject.requirements.filter(({ key }) => !labels.has(key)));
  // At least one policy isolates it, or the flow would not be refused.
  const [fewest = []] = missing.sort((a, b) => a.length - b.length);
  const matchLabels = new Map(labels);
  const matchExpressions: Requirement[] = [];
  for (const requirement of fewest) {
    const value = pod.labels.get(requirement.key);
    // The pod meets it, so its own value is one that does.
    if (value !== undefined) matchLabels.set(requirement.key, value);
    else matchExpressions.push(requirement);
  }
  const manifest = selectorManifest(matchLabels, matchExpressions);
  if (matchLabels.size === 0)
    notes.push(`${pod.namespace}/${pod.name} has no labels that tell it from others: it is admitted for ${textOf(manifest)}.`);
  return manifest;
}

interface PeerSuggestion {
  readonly manifest: PeerManifest;
  readonly text: string;
  /** For the policy's name. */
  readonly name: string;
}

function peerOf(world: World, namespace: string, address: Address, notes: string[]): PeerSuggestion {
  const pod = world.podAt(address);
  const labels = pod === undefined ? new Map<string, string>() : lastingLabels(pod.labels);
  if (pod !== undefined && labels.size > 0 && isSelectable(world, namespace, pod)) {
    const podSelector = selectorManifest(labels, []);
    const namespaceSelector = { matchLabels: { [NAMESPACE_NAME_LABEL]: pod.namespace } };
    // Without a namespaceSelector a peer is of the policy's own namespace (row 5).
    const manifest = pod.namespace === namespace ? { podSelector } : { namespaceSelector, podSelector };
    return { manifest, text: `${textOf(podSelector)} of ${pod.namespace}`, name: shortNameOf(pod) };
  }
  const family = familyOf(address);
  const text = formatAddress(address);
  if (pod !== undefined)
    notes.push(`${pod.namespace}/${pod.name} has no labels to select it by: its address is admitted, which another pod may have one day.`);
  else if (world.nodeAt(address) !== undefined) notes.push(`${text} is a node's: every hostNetwork pod of that node is admitted with it.`);
  return { manifest: { ipBlock: { cidr: `${text}/${widthOf(family)}` } }, text, name: text.replaceAll(/[.:]+/g, '-') };
}

/** What people call it: the label that https://kubernetes.io/docs/concepts/overview/working-with-objects/common-labels/ has for that, or what came before it. */
function shortNameOf({ labels, namespace }: Pod): string {
  return labels.get('app.kubernetes.io/name') ?? labels.get('app') ?? labels.get('k8s-app') ?? namespace;
}

/** Whether its namespace can be named by the label that the API gives it. */
function isSelectable(world: World, namespace: string, pod: Pod): boolean {
  return pod.namespace === namespace || world.namespaceLabels(pod.namespace).get(NAMESPACE_NAME_LABEL) === pod.namespace;
}

/** Those that outlast a rollout; all, where there are no others. Files may hold labels that no selector can name: never those. */
function lastingLabels(labels: Labels): ReadonlyMap<string, string> {
  const nameable = [...labels].filter(([key, value]) => isLabelKey(key) && isLabelValue(value));
  const lasting = nameable.filter(([key]) => !PASSING_LABELS.has(key));
  return new Map(lasting.length > 0 ? lasting : nameable);
}

function selectorManifest(labels: ReadonlyMap<string, string>, expressions: readonly Requirement[]): SelectorManifest {
  return {
    ...(labels.size === 0 ? {} : { matchLabels: Object.fromEntries([...labels].sort(([a], [b]) => (a < b ? -1 : 1))) }),
    ...(expressions.length === 0
      ? {}
      : {
          matchExpressions: expressions.map(({ key, operator, values }) =>
            operator === 'Exists' || operator === 'DoesNotExist' ? { key, operator } : { key, operator, values },
          ),
        }),
  };
}

/** `pods app=web`, as `kubectl get -l` takes it. */
function textOf({ matchLabels = {}, matchExpressions = [] }: SelectorManifest): string {
  const labels = Object.entries(matchLabels).map(([key, value]) => `${key}=${value}`);
  const expressions = matchExpressions.map(({ key, operator, values = [] }) =>
    operator === 'DoesNotExist' ? `!${key}` : operator === 'Exists' ? key : `${key} ${operator.toLowerCase()} (${values.join(',')})`,
  );
  const all = [...labels, ...expressions];
  return all.length === 0 ? 'all pods' : `pods ${all.join(',')}`;
}

/** Says what the policy is about, and ends with a hash of what it says: the same suggestion has the same name. */
function nameOf(parts: readonly string[], spec: PolicyManifest['spec']): string {
  const text = parts.map((part) =>
    part
      .toLowerCase()
      .replaceAll(/[^a-z0-9]+/g, '-')
      .slice(0, LONGEST_NAME_PART),
  );
  const hash = (hashOfText(JSON.stringify(spec), 0) >>> 0).toString(36);
  return `${text.join('-')}-${hash}`.replaceAll(/-{2,}/g, '-');
}

/** A policy of this name would be replaced. */
function freeName(name: string, taken: readonly Policy[]): string {
  // Once over: there may be thousands, and their names may be those that are tried here.
  const names = new Set<string>();
  for (const policy of taken) names.add(policy.name);
  let free = name;
  for (let count = 2; names.has(free); count++) free = `${name}-${count}`;
  return free;
}
