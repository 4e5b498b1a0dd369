/** What a node may have between its pods: Sluice's rules, a linear list of iptables rules, a single conntrack rule, or nothing. */
import { Poller } from 'nftables-js';
import { Cluster } from '../../src/cluster/cluster.ts';
import { DEFAULT_CUT_MARK } from '../../src/enforcement/conntrack/flow-sweep.ts';
import { NftablesEnforcement } from '../../src/enforcement/nftables/nftables-enforcement.ts';
import { Sharing } from '../../src/kubernetes/sharing.ts';
import type { Lab } from '../../src/lab/lab.ts';
import { inNamespace } from '../../src/lab/namespaces.ts';
import { formatAddress, ipv4 } from '../../src/policy/address.ts';
import { NodeRuleset } from '../../src/ruleset/node-ruleset.ts';
import { pages } from '../feed.ts';
import type { ApiObject } from '../synthetic-cluster.ts';

export const PORT = 8080;

/** What a variant is set up on. */
export interface BenchNode {
  readonly lab: Lab;
  readonly name: string;
  /** Names of its two pods. */
  readonly client: string;
  readonly server: string;
}

export interface Variant {
  readonly name: string;
  /** Whether bridged packets pass through the hooks of IPv4. */
  readonly filtered: boolean;
  /** Program that it needs, beside those of the lab. */
  readonly needs?: string;
  /** Returns what takes back what the network namespace does not. */
  readonly setUp: (node: BenchNode) => Promise<(() => void) | undefined>;
}

export const BASELINE = 'one conntrack rule';

export function variants(sluicePods: readonly number[], iptablesPods: readonly number[]): Variant[] {
  return [
    { name: BASELINE, filtered: true, setUp: conntrackRule },
    ...sluicePods.map((pods): Variant => ({ name: `Sluice, ${pods} isolated pods`, filtered: true, setUp: (node) => sluice(node, pods) })),
    ...iptablesPods.map(
      (pods): Variant => ({
        name: `iptables list, ${pods} isolated pods`,
        filtered: true,
        needs: 'iptables-restore',
        setUp: (node) => iptables(node, pods),
      }),
    ),
    // Equal to the baseline: how far apart equals are in this run.
    { name: `${BASELINE}, again`, filtered: true, setUp: conntrackRule },
    { name: 'filtering on, no rules', filtered: true, setUp: async () => undefined },
    { name: 'filtering off', filtered: false, setUp: async () => undefined },
  ];
}

async function conntrackRule({ lab, name }: BenchNode): Promise<undefined> {
  const table = 'table inet baseline { chain forward { type filter hook forward priority 0; ct state established accept; }; }\n';
  await lab.exec(`node/${name}`, ['nft', '-f', '-'], { input: table });
}

/** Twenty pods a namespace, all of them isolated in both directions, and reaching each other on one port. */
async function sluice(node: BenchNode, pods: number): Promise<() => void> {
  const cluster = new Cluster(node.name);
  const ruleset = new NodeRuleset(cluster);
  for (const page of pages(isolatedPods(node, pods), new Sharing())) ruleset.update(cluster.apply(page));
  const isolated = Math.min(ruleset.isolatedPods('ingress'), ruleset.isolatedPods('egress'));
  if (isolated !== pods) throw new Error(`${isolated} pods are isolated, and not ${pods}`);
  const poller = new Poller();
  const enforcement = inNamespace(node.lab.netns(`node/${node.name}`), () =>
    NftablesEnforcement.open({ ownership: 'auto', logGroup: 100, cutMark: DEFAULT_CUT_MARK, poller, onDrift: () => undefined }),
  );
  await enforcement.synchronize(ruleset);
  return () => {
    enforcement.close();
    poller.close();
  };
}

const PODS_A_NAMESPACE = 20;

export function* isolatedPods({ lab, name, client, server }: BenchNode, pods: number): Generator<ApiObject> {
  for (let index = 0; index < pods; index++) {
    const namespace = `team-${Math.floor(index / PODS_A_NAMESPACE)}`;
    if (index % PODS_A_NAMESPACE === 0) yield* namespacePolicies(namespace);
    // The two real ones are in the middle, where no list begins or ends.
    const real = index === Math.floor(pods / 2) ? client : index === Math.floor(pods / 2) + 1 ? server : undefined;
    const addresses = real === undefined ? [standIn(index)] : lab.addresses(real).map(formatAddress);
    yield {
      apiVersion: 'v1',
      kind: 'Pod',
      metadata: { name: `web-${index}`, namespace, labels: { app: 'web' } },
      spec: { nodeName: name, containers: [{ name: 'web', ports: [{ containerPort: PORT }] }] },
      status: { phase: 'Running', podIPs: addresses.map((ip) => ({ ip })) },
    };
  }
}

/** An address that is nobody's. */
function standIn(index: number): string {
  return formatAddress(ipv4(0x0a80_0000 + index));
}

function* namespacePolicies(namespace: string): Generator<ApiObject> {
  const ports = [{ protocol: 'TCP', port: PORT }];
  const peers = [{ podSelector: { matchLabels: { app: 'web' } } }];
  const policy = (name: string, spec: unknown): ApiObject => ({
    apiVersion: 'networking.k8s.io/v1',
    kind: 'NetworkPolicy',
    metadata: { name, namespace },
    spec,
  });
  yield { apiVersion: 'v1', kind: 'Namespace', metadata: { name: namespace, labels: { 'kubernetes.io/metadata.name': namespace } } };
  yield policy('deny-all', { podSelector: {}, policyTypes: ['Ingress', 'Egress'] });
  yield policy('web', {
    podSelector: { matchLabels: { app: 'web' } },
    policyTypes: ['Ingress', 'Egress'],
    ingress: [{ from: peers, ports }],
    egress: [{ to: peers, ports }],
  });
}

/**
 * In the manner of kube-router: two rules a pod in one list that every packet walks along, each to a chain of the pod's own, which
 * lets established flows pass, asks the policy, and refuses.
 */
async function iptables({ lab, name, client, server }: BenchNode, pods: number): Promise<undefined> {
  const addressOf = (pod: string): string => lab.addresses(pod).map(formatAddress)[0] ?? '';
  const chains: string[] = [];
  const list: string[] = [];
  const rules: string[] = [];
  for (let index = 0; index < pods; index++) {
    const real = index === Math.floor(pods / 2) ? client : index === Math.floor(pods / 2) + 1 ? server : undefined;
    const address = real === undefined ? standIn(index) : addressOf(real);
    const chain = `KUBE-POD-FW-${index}`;
    chains.push(`:${chain} - [0:0]`, `:KUBE-NWPLCY-${index} - [0:0]`);
    list.push(`-A KUBE-FORWARD -d ${address} -j ${chain}`, `-A KUBE-FORWARD -s ${address} -j ${chain}`);
    rules.push(
      `-A ${chain} -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT`,
      `-A ${chain} -j KUBE-NWPLCY-${index}`,
      `-A ${chain} -m mark ! --mark 0x10000/0x10000 -j DROP`,
      `-A ${chain} -j MARK --set-mark 0/0x10000`,
      `-A KUBE-NWPLCY-${index} -p tcp --dport ${PORT} -j MARK --set-mark 0x10000/0x10000`,
    );
  }
  const lines = ['*filter', ':FORWARD ACCEPT [0:0]', ':KUBE-FORWARD - [0:0]', ...chains, '-A FORWARD -j KUBE-FORWARD', ...list, ...rules];
  await lab.exec(`node/${name}`, ['iptables-restore'], { input: `${[...lines, 'COMMIT'].join('\n')}\n` });
}
