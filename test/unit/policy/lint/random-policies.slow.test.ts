/** What checks say makes no difference, makes none: taken away, on random clusters, no verdict changes. */
import assert from 'node:assert/strict';
import { parseAddress } from '../../../../src/policy/address.ts';
import { type Address, familyOf } from '../../../../src/policy/address.ts';
import { evaluate } from '../../../../src/policy/evaluate.ts';
import type { LintCode } from '../../../../src/policy/lint/codes.ts';
import type { Finding } from '../../../../src/policy/lint/finding.ts';
import { lint } from '../../../../src/policy/lint/lint.ts';
import { interpretPolicy } from '../../../../src/policy/meaning.ts';
import type { Namespace, Node, Pod, Policy, Protocol } from '../../../../src/policy/objects.ts';
import { type World, worldOf } from '../../../../src/policy/world.ts';
import { type ObjectKind, project } from '../../../../src/kubernetes/projections.ts';
import { Sharing } from '../../../../src/kubernetes/sharing.ts';
import { type ApiObject, ClusterGenerator, NAMESPACES, NODES, OUTSIDE, PORTS } from '../../../random/cluster.ts';
import { parsePath } from '../../../../src/sources/field-path.ts';

type Spec = Record<string, unknown>;

interface RandomPolicy {
  readonly namespace: string;
  readonly name: string;
  readonly spec: Spec;
}

interface RandomCluster {
  readonly pods: readonly Pod[];
  readonly namespaces: readonly Namespace[];
  readonly nodes: readonly Node[];
  readonly policies: readonly RandomPolicy[];
}

const sharing = new Sharing();

function projected(kind: ObjectKind, objects: readonly ApiObject[]): unknown[] {
  return objects.filter((object) => object.kind === kind).map((object) => project(kind, object, sharing).object);
}

const CONTRADICTION = { matchLabels: { app: 'a' }, matchExpressions: [{ key: 'app', operator: 'NotIn', values: ['a'] }] };

/** Nine pods and one that serves names, in three namespaces; six policies. */
function draw(seed: number): RandomCluster {
  const generator = new ClusterGenerator(seed);
  const { dice } = generator;
  const pods = NAMESPACES.flatMap((namespace, i) =>
    ['a', 'b', 'c'].map((name, j) => generator.pod(namespace, name, dice.pick(NODES), 2 + i * 3 + j)),
  );
  const dns = generator.pod('y', 'dns', 'node-a', 40, [4, 6], { hostNetwork: false, terminal: false });
  const labels = { ...(dns.metadata['labels'] as Spec), 'k8s-app': 'kube-dns' };
  const server = { ...dns, metadata: { ...dns.metadata, labels }, spec: { nodeName: 'node-a', containers: [] } };
  const objects = [...NAMESPACES.map((name) => generator.namespace(name)), ...generator.nodes(), ...pods, server];
  return {
    pods: projected('Pod', objects) as Pod[],
    namespaces: projected('Namespace', objects) as Namespace[],
    nodes: projected('Node', objects) as Node[],
    policies: Array.from({ length: 6 }, (_, i) => {
      const namespace = dice.pick(NAMESPACES);
      const { spec } = generator.policy(namespace, `p${i}`) as unknown as { readonly spec: Spec };
      return { namespace, name: `p${i}`, spec: dice.chance(4) ? { ...spec, podSelector: CONTRADICTION } : spec };
    }),
  };
}

function interpreted(policies: readonly RandomPolicy[]): Policy[] {
  const all = policies.map(({ namespace, name, spec }) => interpretPolicy(namespace, name, spec));
  return all.sort((a, b) => (`${a.namespace}/${a.name}` < `${b.namespace}/${b.name}` ? -1 : 1));
}

function findingsOf({ policies, ...objects }: RandomCluster): readonly Finding[] {
  const read = interpreted(policies);
  const specs = new Map(policies.map(({ namespace, name, spec }) => [`${namespace}/${name}`, spec]));
  const input = { ...objects, policies: read, templates: [], services: [], isWhole: true };
  const spec = ({ namespace, name }: Policy): unknown => specs.get(`${namespace}/${name}`);
  return lint({ ...input, world: worldOf({ ...objects, policies: read }), spec }).findings;
}

const PROTOCOLS: readonly Protocol[] = ['TCP', 'UDP', 'SCTP'];

/** The verdicts between all pods and two addresses outside, on all ports that are of interest: one letter a question. */
function verdicts({ policies, ...objects }: RandomCluster, isWhole = false): string {
  const world: World = worldOf({ ...objects, policies: interpreted(policies) });
  const outside = OUTSIDE.flatMap((text) => parseAddress(text) ?? []);
  const addresses: readonly Address[] = [...new Set([...objects.pods.flatMap((pod) => pod.addresses), ...outside])];
  let text = '';
  for (const source of addresses) {
    for (const destination of addresses) {
      if (familyOf(source) !== familyOf(destination)) continue;
      const ask = (protocol: Protocol, port?: number): void => {
        const { allowed, egress, ingress } = evaluate(world, { source, destination, protocol, port });
        text += isWhole ? Number(allowed) : Number(egress.allowed) + 2 * Number(ingress.allowed);
      };
      for (const protocol of PROTOCOLS) for (const port of [0, 79, ...PORTS, 9999]) ask(protocol, port);
      ask('ICMP');
    }
  }
  return text;
}

/** The cluster with something else at this place of a policy; undefined: it is taken out, of a list too. */
function withChange(cluster: RandomCluster, { object }: Finding, path: string, value: unknown): RandomCluster {
  const policies = cluster.policies.flatMap((policy) => {
    if (policy.namespace !== object.namespace || policy.name !== object.name) return [policy];
    if (path === '') return [];
    const changed = structuredClone({ spec: policy.spec });
    const segments = parsePath(path);
    const last = segments.pop() ?? '';
    const parent = segments.reduce((at: unknown, segment) => (at as Spec)[segment], changed) as Spec | unknown[];
    if (value !== undefined) (parent as Spec)[last] = value;
    else if (Array.isArray(parent)) parent.splice(Number(last), 1);
    else delete parent[last];
    return [{ ...policy, spec: changed.spec }];
  });
  return { ...cluster, policies };
}

/** Matches nothing, and leaves the places of all others as they are. */
const NOBODY = {};

type Change = (cluster: RandomCluster, finding: Finding) => RandomCluster;

const withoutPolicy: Change = (cluster, finding) => withChange(cluster, finding, '', undefined);
const withoutPeer: Change = (cluster, finding) =>
  withChange(cluster, finding, finding.path.replace(/\.(?:pod|namespace)Selector$|\.ipBlock.*$/u, ''), NOBODY);
const withoutPort: Change = (cluster, finding) => withChange(cluster, finding, finding.path.replace(/\.port$/u, ''), { port: 0 });
const withoutField: Change = (cluster, finding) => withChange(cluster, finding, finding.path, undefined);

const CHANGES: Partial<Readonly<Record<LintCode, Change>>> = {
  POLICY_SELECTS_NOTHING: withoutPolicy,
  POLICY_SELECTS_ENDED_PODS: withoutPolicy,
  POLICY_REDUNDANT: withoutPolicy,
  SELECTOR_CONTRADICTS: (cluster, finding) => (finding.path === 'spec.podSelector' ? withoutPolicy : withoutPeer)(cluster, finding),
  PEER_SELECTS_NOTHING: withoutPeer,
  PEER_OWN_NAMESPACE_ONLY: withoutPeer,
  PEER_MEANS_AND: withoutPeer,
  PEERS_MEAN_OR: withoutPeer,
  PEER_SELECTS_HOST_NETWORK: withoutPeer,
  PEER_REDUNDANT: withoutPeer,
  OTHER_SIDE_REFUSES: withoutPeer,
  EXCEPT_READMITTED: withoutField,
  EXCEPT_REPEATED: withoutField,
  EXCEPT_OUTSIDE_BLOCK: withoutField,
  EXCEPT_COVERS_BLOCK: withoutPeer,
  PORT_NAME_UNDECLARED: withoutPort,
  PORT_NAME_TO_BLOCK: withoutPort,
  PORT_REDUNDANT: withoutPort,
  RULES_WITHOUT_EFFECT: withoutField,
  EMPTY_RULES_WITHOUT_EFFECT: withoutField,
  EMPTY_LIST_ADMITS_ALL: withoutField,
  RULE_SHADOWED: (cluster, finding) => withChange(cluster, finding, finding.path, { ports: [{ port: 0 }] }),
  ALLOW_ALL_OVERRIDES: (cluster, { related }) =>
    related.reduce((before, { object, path }) => withChange(before, { object } as Finding, path, { ports: [{ port: 0 }] }), cluster),
};

const SEEDS = 250;

describe('what lint says makes no difference', () => {
  it('makes none: without it every verdict of random clusters stays', function () {
    this.timeout(600_000);
    const tried = new Map<string, number>();
    for (let seed = 1; seed <= SEEDS; seed++) {
      const cluster = draw(seed);
      const before = { each: verdicts(cluster), whole: verdicts(cluster, true) };
      for (const finding of findingsOf(cluster)) {
        const change = CHANGES[finding.code];
        if (change === undefined || (tried.get(finding.code) ?? 0) >= 60) continue;
        tried.set(finding.code, (tried.get(finding.code) ?? 0) + 1);
        const isWhole = finding.code === 'OTHER_SIDE_REFUSES';
        const after = verdicts(change(cluster, finding), isWhole);
        const what = `seed ${seed}: ${finding.code} of ${finding.object.namespace}/${finding.object.name} at ${finding.path}: ${finding.message}`;
        assert.equal(after === (isWhole ? before.whole : before.each), true, `${what}\n${JSON.stringify(cluster.policies, null, 1)}`);
      }
    }
    const rare = Object.keys(CHANGES).filter((code) => (tried.get(code) ?? 0) < 3);
    assert.deepEqual(rare, [], `drawn: ${JSON.stringify([...tried])}`);
  });

  it('makes none when all rules and policies that make none are taken away together', function () {
    this.timeout(600_000);
    let removed = 0;
    for (let seed = 1; seed <= 100; seed++) {
      const cluster = draw(seed);
      // From the end, so that places before it stay what they are.
      const makesNone = findingsOf(cluster)
        .filter(({ code }) => code === 'RULE_SHADOWED' || code === 'POLICY_REDUNDANT')
        .toReversed();
      removed += makesNone.length;
      const without = makesNone.reduce(
        (before, finding) =>
          finding.path === '' ? withoutPolicy(before, finding) : withChange(before, finding, finding.path, { ports: [{ port: 0 }] }),
        cluster,
      );
      assert.equal(verdicts(without) === verdicts(cluster), true, `seed ${seed}`);
    }
    assert.ok(removed > 50, `only ${removed} were found`);
  });
});

describe('what lint says of DNS', () => {
  it('is so: of the pods that a policy leaves without names none reaches DNS, and no others are', function () {
    this.timeout(600_000);
    const seen = { without: 0, with: 0, tcpOnly: 0 };
    for (let seed = 1; seed <= SEEDS; seed++) {
      const cluster = draw(seed);
      const world = worldOf({ ...cluster, policies: interpreted(cluster.policies) });
      const [server] = cluster.pods.filter(({ labels }) => labels.get('k8s-app') === 'kube-dns');
      assert.ok(server);
      const findings = findingsOf(cluster).filter(({ code }) => code.startsWith('DNS_'));
      for (const pod of cluster.pods) {
        if (pod === server || pod.hostNetwork || pod.terminal) continue;
        const isolating = world.isolating(pod, 'egress');
        const reaches = (protocol: Protocol): boolean =>
          pod.addresses.some((source) =>
            server.addresses.some(
              (destination) =>
                familyOf(source) === familyOf(destination) && evaluate(world, { source, destination, protocol, port: 53 }).egress.allowed,
            ),
          );
        const said = new Set(
          findings
            .filter(({ object }) => isolating.some(({ namespace, name }) => namespace === object.namespace && name === object.name))
            .map(({ code }) => code),
        );
        const expected = reaches('UDP') ? (reaches('TCP') ? undefined : 'DNS_UDP_ONLY') : reaches('TCP') ? 'DNS_TCP_ONLY' : 'DNS_FORGOTTEN';
        const rules = isolating.flatMap((policy) => policy.egress ?? []);
        const admitsSomething = rules.some(
          ({ peers, ports }) =>
            ports?.length !== 0 &&
            (peers?.some((peer) => peer.kind !== 'nothing' && (peer.kind === 'pods' || peer.ranges.length > 0)) ?? true),
        );
        const isOfAddresses = rules.every(
          ({ peers }) =>
            peers?.every(
              (peer) => peer.kind !== 'pods' && (peer.kind === 'nothing' || peer.text.includes('/32') || peer.text.includes('/128')),
            ) ?? false,
        );
        if (expected === undefined || !admitsSomething || isOfAddresses) {
          seen.with++;
          continue;
        }
        assert.ok(said.has(expected), `seed ${seed}: ${pod.namespace}/${pod.name} ${expected}, and what is said is ${[...said].join()}`);
        seen.without++;
        if (expected === 'DNS_TCP_ONLY') seen.tcpOnly++;
      }
      // Nobody reaches DNS where it is said that nobody does.
      for (const { code, object, message } of findings) {
        if (code !== 'DNS_FORGOTTEN') continue;
        const [names = ''] = message.split(', which it isolates');
        const [first = ''] = names.split(/, | and /u);
        const pod = cluster.pods.find(({ namespace, name }) => namespace === object.namespace && name === first);
        assert.ok(pod, `${first} of ${names}`);
        for (const source of pod.addresses) {
          for (const destination of server.addresses) {
            if (familyOf(source) !== familyOf(destination)) continue;
            for (const protocol of ['TCP', 'UDP'] as const) {
              assert.equal(evaluate(world, { source, destination, protocol, port: 53 }).egress.allowed, false, `seed ${seed}: ${first}`);
            }
          }
        }
      }
    }
    assert.ok(seen.without > 100 && seen.with > 100 && seen.tcpOnly > 5, JSON.stringify(seen));
  });
});
