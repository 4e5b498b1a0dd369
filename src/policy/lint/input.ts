/** What checks of policies are given, and what each of them is. */
import type { Address } from '../address.ts';
import type { Namespace, Node, Pod, Policy, PolicyProtocol } from '../objects.ts';
import type { World } from '../world.ts';
import type { Addresses } from './addresses.ts';
import type { LintCode } from './codes.ts';
import type { Covering } from './covering.ts';
import type { Finding } from './finding.ts';
import type { Vocabulary } from './near-miss.ts';
import type { PodGroups } from './pods.ts';

/** Of a Service what policies are judged by. */
export interface LintService {
  readonly namespace: string;
  readonly name: string;
  /** That clients speak to, and that are translated before policy is asked (row 22). None of a headless one. */
  readonly addresses: readonly Address[];
  readonly headless: boolean;
  /** Labels of the pods behind it; undefined: it has none of its own choosing. */
  readonly selector: Readonly<Record<string, string>> | undefined;
  readonly ports: readonly {
    readonly protocol: PolicyProtocol;
    readonly port: number;
    /** A number, or the name of a port of each pod behind it. */
    readonly targetPort: number | string;
  }[];
}

export interface LintInput {
  readonly pods: readonly Pod[];
  /** What workloads make pods of; without addresses. Where a workload has no pods they stand for those that are to come. */
  readonly templates: readonly Pod[];
  readonly namespaces: readonly Namespace[];
  readonly nodes: readonly Node[];
  readonly services: readonly LintService[];
  /** Ordered by namespace and name. */
  readonly policies: readonly Policy[];
  readonly world: World;
  /**
   * Whether pods and namespaces are all that the cluster has. Of a directory of manifests, which may be one team's, nobody knows: then
   * that something is not there is only said of namespaces that have pods or workloads in it.
   */
  readonly isWhole: boolean;
  /** The `spec` of a policy as it was written, untrusted; undefined where it is not known. */
  spec(policy: Policy): unknown;
}

/** The input, and what several checks want to know of it. */
export interface LintCluster extends LintInput {
  readonly groups: PodGroups;
  readonly addresses: Addresses;
  readonly covering: Covering;
  /** Labels of all pods and workloads of a namespace; without a namespace, of all. */
  podLabels(namespace?: string): Vocabulary;
  /** Labels of all namespaces. */
  readonly namespaceLabels: Vocabulary;
}

export interface Check {
  /** All that it may find. */
  readonly codes: readonly LintCode[];
  /** `pods`: it says nothing where no pod and no workload is known. */
  readonly needs?: 'pods';
  run(cluster: LintCluster): Iterable<Finding>;
}
