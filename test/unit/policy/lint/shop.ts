/**
 * The cluster that the checks of policies are tested on, the one of docs/lint.md: namespace shop with web, api, db, an agent on the
 * network of its node and a Job's pod that has ended; monitoring with prometheus; kube-system with DNS; one namespace that is empty.
 * Pods have addresses of both families: those of node-a from 10.244.0.0/24 and fd00:244::/64, those of node-b from 10.244.1.0/24 and
 * fd00:244:1::/64.
 */
import { parse } from 'yaml';
import { parseAddress, parsePrefix } from '../../../../src/policy/address.ts';
import type { LintCode } from '../../../../src/policy/lint/codes.ts';
import type { Finding } from '../../../../src/policy/lint/finding.ts';
import type { LintInput, LintService } from '../../../../src/policy/lint/input.ts';
import { lint } from '../../../../src/policy/lint/lint.ts';
import { interpretPolicy } from '../../../../src/policy/meaning.ts';
import type { Namespace, Node, Pod, Policy, PolicyProtocol } from '../../../../src/policy/objects.ts';
import { worldOf } from '../../../../src/policy/world.ts';

type Texts = Readonly<Record<string, string>>;

/** `key=value,key=value` */
function labels(text: string): ReadonlyMap<string, string> {
  return new Map(text === '' ? [] : text.split(',').map((entry) => entry.split('=') as [string, string]));
}

interface PodFields extends Partial<Pick<Pod, 'hostNetwork' | 'terminal'>> {
  /** `http=8080, dns=53/UDP, 9090` */
  readonly ports?: string;
  readonly ips?: readonly string[];
}

/** `namespace/name`, and its labels as `key=value,key=value`. */
export function pod(key: string, labelText: string, { ports = '', ips = [], ...fields }: PodFields = {}): Pod {
  const [namespace = '', name = ''] = key.split('/');
  const declared = ports === '' ? [] : ports.split(', ').map(readPort);
  return {
    namespace,
    name,
    uid: key,
    node: 'node-a',
    labels: labels(labelText),
    addresses: ips.map((ip) => {
      const address = parseAddress(ip);
      if (address === undefined) throw new Error(`the test has a bad address: ${ip}`);
      return address;
    }),
    hostNetwork: false,
    terminal: false,
    createdAt: 0,
    ports: declared.filter(({ name }) => name !== ''),
    declaredPorts: declared.map(({ protocol, port }) => ({ protocol, port })),
    ...fields,
  };
}

function readPort(text: string): { readonly name: string; readonly protocol: PolicyProtocol; readonly port: number } {
  const [, name = '', port = '', protocol = 'TCP'] = /^(?:([a-z-]+)=)?(\d+)(?:\/(\w+))?$/u.exec(text) ?? [];
  return { name, port: Number(port), protocol: protocol as PolicyProtocol };
}

export function namespace(name: string, labelText = ''): Namespace {
  return { name, labels: new Map([...labels(labelText), ['kubernetes.io/metadata.name', name]]) };
}

function node(name: string, address: string, podCIDRs: readonly string[]): Node {
  const own = parseAddress(address);
  return {
    name,
    addresses: own === undefined ? [] : [own],
    podCIDRs: podCIDRs.flatMap((cidr) => parsePrefix(cidr) ?? []),
  };
}

export function service(key: string, address: string, selector: Texts | undefined, ports: LintService['ports']): LintService {
  const [namespace = '', name = ''] = key.split('/');
  const own = parseAddress(address);
  return { namespace, name, addresses: own === undefined ? [] : [own], headless: own === undefined, selector, ports };
}

export const SHOP = {
  pods: [
    pod('shop/web-1', 'app=web,tier=front', { ports: 'http=8080', ips: ['10.244.0.11', 'fd00:244::11'] }),
    pod('shop/api-1', 'app=api,tier=back', { ports: 'http=8081, grpc=9090', ips: ['10.244.0.12', 'fd00:244::12'] }),
    pod('shop/db-0', 'app=db,tier=back', { ports: 'postgres=5432', ips: ['10.244.1.13', 'fd00:244:1::13'] }),
    pod('shop/tools', 'app=tools', { ips: ['10.244.1.14', 'fd00:244:1::14'] }),
    pod('shop/agent-x', 'app=agent', { ports: 'metrics=9100', ips: ['192.168.0.1'], hostNetwork: true }),
    pod('shop/migrate-7', 'app=migrate', { terminal: true }),
    pod('monitoring/prometheus-0', 'app=prometheus', { ports: 'http=9090', ips: ['10.244.1.21', 'fd00:244:1::21'] }),
    pod('monitoring/grafana-0', 'app=grafana', { ports: 'http=3000', ips: ['10.244.1.22', 'fd00:244:1::22'] }),
    pod('kube-system/coredns-1', 'k8s-app=kube-dns', { ports: 'dns=53/UDP, dns-tcp=53', ips: ['10.244.0.2', 'fd00:244::2'] }),
    pod('kube-system/resolver-1', 'app=resolver', { ports: '5300/UDP', ips: ['10.244.0.3', 'fd00:244::3'] }),
  ],
  namespaces: [
    namespace('shop', 'team=store'),
    namespace('monitoring', 'team=ops,name=monitoring'),
    namespace('kube-system', 'team=infra'),
    namespace('empty', 'team=store'),
  ],
  nodes: [
    node('node-a', '192.168.0.1', ['10.244.0.0/24', 'fd00:244::/64']),
    node('node-b', '192.168.0.2', ['10.244.1.0/24', 'fd00:244:1::/64']),
  ],
  services: [
    service('shop/web', '10.96.0.20', { app: 'web' }, [{ protocol: 'TCP', port: 80, targetPort: 8080 }]),
    service('kube-system/kube-dns', '10.96.0.10', { 'k8s-app': 'kube-dns' }, [{ protocol: 'UDP', port: 53, targetPort: 53 }]),
  ],
  templates: [] as Pod[],
};

export interface Written {
  readonly policy: Policy;
  readonly spec: unknown;
}

/** Specs in YAML, apart by `---`; `# namespace: x` and `# name: x` as first lines. They are p1, p2 … of shop unless said otherwise. */
export function policies(text: string): Written[] {
  return text.split(/^---$/mu).map((part, i) => {
    const said = (field: string): string | undefined => new RegExp(`^# ${field}: (\\S+)$`, 'mu').exec(part)?.[1];
    const spec: unknown = parse(part);
    return { policy: interpretPolicy(said('namespace') ?? 'shop', said('name') ?? `p${i + 1}`, spec), spec };
  });
}

export type Cluster = Partial<Pick<LintInput, 'pods' | 'templates' | 'namespaces' | 'nodes' | 'services' | 'isWhole'>>;

export function inputOf(written: readonly Written[], changes: Cluster = {}): LintInput {
  const objects = { ...SHOP, isWhole: true, ...changes, policies: written.map(({ policy }) => policy) };
  const specs = new Map(written.map(({ policy, spec }) => [policy, spec]));
  return { ...objects, world: worldOf(objects), spec: (policy) => specs.get(policy) };
}

/** Findings of these codes; without codes, all but that pods are not isolated, which is so of most of the cluster. */
export function found(text: string, codes: readonly LintCode[] = [], changes: Cluster = {}): readonly Finding[] {
  const { findings } = lint(inputOf(policies(text), changes));
  return findings.filter(({ code }) => (codes.length === 0 ? code !== 'PODS_NOT_ISOLATED' : codes.includes(code)));
}

/** `p1 spec.podSelector POLICY_SELECTS_NOTHING` */
export function brief(findings: readonly Finding[]): string[] {
  return findings.map(({ object, path, code }) => [object.name, path, code].filter((part) => part !== '').join(' '));
}
