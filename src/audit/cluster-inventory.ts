/**
 * An inventory from an API server: each kind is listed once, or, where the question is about a few pods by name, only what the answer can
 * depend on. Whoever may not list a kind in the whole cluster is asked for the namespaces that the question is about; what is missing from
 * the answer then is said.
 */
import type { ApiAnswer, ApiCall } from '../kubernetes/api/client.ts';
import { ApiError } from '../kubernetes/api/errors.ts';
import { keyOf, type ObjectKind, type ObjectOfKind, project } from '../kubernetes/projections.ts';
import { severityOf } from '../kubernetes/report.ts';
import { projectEndpointSlice, projectService } from '../kubernetes/service.ts';
import { Sharing } from '../kubernetes/sharing.ts';
import { projectWorkload, type Workload, WORKLOAD_KINDS, type WorkloadKind } from '../kubernetes/workload.ts';
import { formatAddress } from '../policy/address.ts';
import { isFields } from '../policy/problems.ts';
import { worldOf } from '../policy/world.ts';
import { WATCHED } from '../sources/kubernetes.ts';
import type { SourceProblem } from '../sources/source.ts';
import { SluiceError } from '../errors.ts';
import type { Inventory, MissingKind, PodName, Seen, WrittenPolicy } from './inventory.ts';
import { byName } from './manifest-inventory.ts';

/** What it needs of an {@link ApiClient}. */
export interface ApiCaller {
  call(call: ApiCall): Promise<ApiAnswer>;
}

export interface ClusterOptions {
  readonly client: ApiCaller;
  /** For people: where the API server is. */
  readonly server: string;
  /** Those that the question is about; what may not be listed in the whole cluster is listed in them. */
  readonly namespaces: readonly string[];
  /** The question is about these pods, and about nobody else: what a verdict between them depends on will do. */
  readonly pods?: readonly PodName[] | undefined;
  readonly seen?: Seen | undefined;
}

/**
 * Objects of a page. A server answers pages of this size from its memory (Kubernetes 1.31 on) about as fast as all at once, and neither
 * side has to hold more of them.
 */
const PAGE = 5_000;

export const WORKLOAD_PATHS: Readonly<Record<WorkloadKind, string>> = {
  Deployment: '/apis/apps/v1/deployments',
  StatefulSet: '/apis/apps/v1/statefulsets',
  DaemonSet: '/apis/apps/v1/daemonsets',
  ReplicaSet: '/apis/apps/v1/replicasets',
  Job: '/apis/batch/v1/jobs',
  CronJob: '/apis/batch/v1/cronjobs',
  ReplicationController: '/api/v1/replicationcontrollers',
};

/** What an answer lacks without a kind. */
const WITHOUT: Readonly<Record<ObjectKind, string>> = {
  Pod: 'An address of a pod that is not known counts as outside of the cluster.',
  Namespace: 'A namespace that is not known counts as having no labels but its name.',
  Node: 'Addresses of nodes count as outside of the cluster, and that a pod always talks with its own node is not seen.',
  NetworkPolicy: 'A pod of a namespace whose policies are not known counts as not isolated.',
};

/**
 * @throws SluiceError `API_FORBIDDEN` where pods or policies may not be listed anywhere, `API_UNREACHABLE` and the like where there is no
 * answer
 */
export async function readCluster(options: ClusterOptions): Promise<Inventory> {
  const reader = new ClusterReader(options);
  // A name that stands for nothing is best answered by who knows them all.
  const objects = (await reader.around(options.pods)) ?? (await reader.everything());
  let services: ReturnType<Inventory['services']> | undefined;
  let workloads: ReturnType<Inventory['workloads']> | undefined;
  return {
    ...objects,
    kind: 'cluster',
    origin: `the cluster at ${options.server}`,
    problems: reader.problems,
    missing: reader.missing,
    world: worldOf(objects),
    written: ({ namespace, name }) => reader.written.get(`${namespace}/${name}`),
    services: () => (services ??= reader.services()),
    workloads: () => (workloads ??= reader.workloads()),
  };
}

type ClusterObjects = Pick<Inventory, 'namespaces' | 'nodes' | 'policies' | 'pods'>;

/** Objects of one kind, each once. */
interface Collection<T> {
  readonly take: (value: unknown) => void;
  /** By namespace and name. */
  readonly sorted: () => readonly T[];
}

class ClusterReader {
  readonly problems: SourceProblem[] = [];
  readonly missing: MissingKind[] = [];
  readonly written = new Map<string, WrittenPolicy>();
  readonly #options: ClusterOptions;
  readonly #sharing = new Sharing();

  constructor(options: ClusterOptions) {
    this.#options = options;
  }

  async everything(): Promise<ClusterObjects> {
    const [namespaces, nodes, policies, pods] = await Promise.all([
      this.#projected('Namespace'),
      this.#projected('Node'),
      this.#projected('NetworkPolicy'),
      this.#projected('Pod'),
    ]);
    return { namespaces, nodes, policies, pods };
  }

  /**
   * What a verdict between these pods depends on, which is the same however large the cluster is: the pods, all others that claim one of
   * their addresses (rows 33, 40: those that have it as their first, and, for second ones, all pods of their nodes, which is where an address
   * is given again), the policies and labels of their namespaces, and their nodes. Undefined: one of them is not there, or nothing is asked.
   */
  async around(names: readonly PodName[] | undefined): Promise<ClusterObjects | undefined> {
    if (names === undefined) return undefined;
    const pods = this.#collect('Pod');
    for (const { namespace, name } of names) {
      if (await this.#get(`${inNamespace(WATCHED.Pod, namespace)}/${name}`, 'Pod', pods.take)) continue;
      this.problems.length = 0;
      return undefined;
    }
    const asked = pods.sorted();
    const namespaces = this.#collect('Namespace');
    const nodes = this.#collect('Node');
    const policies = this.#collect('NetworkPolicy');
    const nodeNames = new Set(asked.flatMap(({ node }) => (node === '' ? [] : [node])));
    const claims = [
      ...[...nodeNames].map((node) => `spec.nodeName=${node}`),
      ...asked.flatMap(({ addresses }) => addresses.map((address) => `status.podIP=${formatAddress(address)}`)),
    ];
    await Promise.all([
      ...claims.map((fieldSelector) => this.#each(WATCHED.Pod, 'Pod', WITHOUT.Pod, pods.take, { fieldSelector })),
      ...[...new Set(names.map(({ namespace }) => namespace))].flatMap((namespace) => [
        this.#get(`${WATCHED.Namespace}/${namespace}`, 'Namespace', namespaces.take),
        this.#eachOfNamespace(WATCHED.NetworkPolicy, 'NetworkPolicy', namespace, policies.take),
      ]),
      ...[...nodeNames].map((node) => this.#get(`${WATCHED.Node}/${node}`, 'Node', nodes.take)),
    ]);
    return { namespaces: namespaces.sorted(), nodes: nodes.sorted(), policies: policies.sorted(), pods: pods.sorted() };
  }

  async #projected<K extends ObjectKind>(kind: K): Promise<readonly ObjectOfKind[K][]> {
    const objects = this.#collect(kind);
    await this.#each(WATCHED[kind], kind, WITHOUT[kind], objects.take);
    return objects.sorted();
  }

  #collect<K extends ObjectKind>(kind: K): Collection<ObjectOfKind[K]> {
    const objects = new Map<string, ObjectOfKind[K]>();
    const take = (value: unknown): void => {
      const { object, key, problems } = project(kind, value, this.#sharing);
      const origin = `${kind} ${key ?? 'without a name'}`;
      const isKnown = key !== undefined && objects.has(key);
      if (!isKnown)
        for (const problem of problems) this.problems.push({ ...problem, severity: severityOf(problem), origin, object: origin });
      if (object === undefined) return;
      objects.set(keyOf(kind, object), object);
      if (kind === 'NetworkPolicy' && isFields(value)) {
        this.written.set(keyOf(kind, object), { spec: value['spec'], place: (path) => ({ path }) });
      }
    };
    return { take, sorted: () => [...objects.values()].sort((a, b) => byName(named(a), named(b))) };
  }

  /** Whether it is there. One that may not be read counts as there, and is missing. */
  async #get(path: string, kind: ObjectKind, take: (value: unknown) => void): Promise<boolean> {
    try {
      const { object } = await this.#options.client.call({ method: 'GET', path });
      this.#options.seen?.(kind, object);
      take(object);
      return true;
    } catch (error) {
      if (error instanceof ApiError && error.status === 404) return false;
      if (!isForbidden(error)) throw explained(error, this.#options.server);
      // Listing says more of what is needed.
      if (kind === 'Pod') return false;
      this.missing.push({
        what: `${kind.toLowerCase()} ${path.slice(path.lastIndexOf('/') + 1)}`,
        reason: error.message,
        consequence: WITHOUT[kind],
      });
      return true;
    }
  }

  async #eachOfNamespace(path: string, kind: ObjectKind, namespace: string, take: (value: unknown) => void): Promise<void> {
    try {
      await this.#list(inNamespace(path, namespace), (value) => {
        this.#options.seen?.(kind, value);
        take(value);
      });
    } catch (error) {
      if (isForbidden(error)) throw forbidden(resourceOf(path), error, this.#options.server, [namespace]);
      throw explained(error, this.#options.server);
    }
  }

  async services(): ReturnType<Inventory['services']> {
    const services = this.#others('/api/v1/services', 'Service', projectService);
    const slices = this.#others('/apis/discovery.k8s.io/v1/endpointslices', 'EndpointSlice', projectEndpointSlice);
    return { services: await services, slices: await slices };
  }

  async workloads(): Promise<readonly Workload[]> {
    const kinds = WORKLOAD_KINDS.map((kind) =>
      this.#others(WORKLOAD_PATHS[kind], kind, (value) => projectWorkload(kind, value, this.#sharing)),
    );
    return (await Promise.all(kinds)).flat();
  }

  async #others<T extends { readonly namespace: string; readonly name: string }>(
    path: string,
    kind: string,
    projectOne: (value: unknown) => T | string,
  ): Promise<T[]> {
    const objects: T[] = [];
    await this.#each(path, kind, `A ${kind} is not known.`, (value) => {
      const projected = projectOne(value);
      if (typeof projected !== 'string') objects.push(projected);
    });
    return objects.sort(byName);
  }

  /** Hands on every object of a kind; of the namespaces in question where not all may be listed. */
  async #each(
    path: string,
    kind: string,
    consequence: string,
    read: (value: unknown) => void,
    query: Readonly<Record<string, string>> = {},
  ): Promise<void> {
    const take = (value: unknown): void => {
      this.#options.seen?.(kind, value);
      read(value);
    };
    try {
      await this.#list(path, take, query);
      return;
    } catch (error) {
      if (!isForbidden(error)) throw explained(error, this.#options.server);
      await this.#eachOfNamespaces(path, kind, consequence, error, take, query);
    }
  }

  async #eachOfNamespaces(
    path: string,
    kind: string,
    consequence: string,
    refusal: ApiError,
    take: (value: unknown) => void,
    query: Readonly<Record<string, string>>,
  ): Promise<void> {
    const { namespaces, server } = this.#options;
    const resource = resourceOf(path);
    const wanted = kind === 'Node' ? [] : namespaces;
    const refused: string[] = [];
    for (const namespace of wanted) {
      try {
        if (kind === 'Namespace') take((await this.#options.client.call({ method: 'GET', path: `${path}/${namespace}` })).object);
        else await this.#list(inNamespace(path, namespace), take, query);
      } catch (error) {
        const isAbsent = error instanceof ApiError && error.status === 404;
        if (!isForbidden(error) && !isAbsent) throw explained(error, server);
        refused.push(namespace);
      }
    }
    if ((kind === 'Pod' || kind === 'NetworkPolicy') && refused.length === wanted.length)
      throw forbidden(resource, refusal, server, wanted);
    const read = wanted.filter((namespace) => !refused.includes(namespace));
    const what = read.length === 0 ? resource : `${resource} of other namespaces than ${read.join(', ')}`;
    if (this.missing.every((known) => known.what !== what)) this.missing.push({ what, reason: refusal.message, consequence });
  }

  async #list(path: string, take: (value: unknown) => void, asked: Readonly<Record<string, string>> = {}): Promise<void> {
    let next = '';
    do {
      const query = { ...asked, limit: String(PAGE), ...(next === '' ? {} : { continue: next }) };
      const { object } = await this.#options.client.call({ method: 'GET', path, query });
      const metadata = isFields(object) ? object['metadata'] : undefined;
      const items = isFields(object) ? (object['items'] ?? []) : undefined;
      if (!isFields(metadata) || !Array.isArray(items)) throw new ApiError('API_GARBLED', `what came from ${path} is no list`);
      for (const item of items) take(item);
      next = typeof metadata['continue'] === 'string' ? metadata['continue'] : '';
    } while (next !== '');
  }
}

function resourceOf(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}

function inNamespace(path: string, namespace: string): string {
  const resource = resourceOf(path);
  return `${path.slice(0, -resource.length)}namespaces/${namespace}/${resource}`;
}

function named(object: { readonly name: string; readonly namespace?: string }): { readonly namespace: string; readonly name: string } {
  return { namespace: object.namespace ?? '', name: object.name };
}

function isForbidden(error: unknown): error is ApiError {
  return error instanceof ApiError && error.status === 403;
}

function forbidden(resource: string, refusal: ApiError, server: string, namespaces: readonly string[]): SluiceError {
  const where = namespaces.length === 0 ? 'in all namespaces' : `in ${namespaces.join(', ')}`;
  return new SluiceError('API_FORBIDDEN', `${resource} may not be listed ${where} (${server}): ${refusal.message}`, {
    hint:
      `Needed is a role with the verb list for ${resource}` +
      (namespaces.length === 0 ? ', or name a namespace (-n) in which you have it.' : ` in these namespaces.`),
    cause: refusal,
  });
}

/** An error of the API for people; any other as it is. */
function explained(error: unknown, server: string): unknown {
  if (!(error instanceof ApiError)) return error;
  const unauthorized = error.status === 401;
  return new SluiceError(unauthorized ? 'API_UNAUTHORIZED' : error.code, `reading from ${server} failed: ${error.message}`, {
    hint: unauthorized
      ? 'The credentials of the kubeconfig are not accepted: log in again, or name another context with --context.'
      : error.code === 'API_UNREACHABLE' || error.code === 'API_SILENT'
        ? 'Is it running, and is --context the right one? A directory of manifests can be asked instead (--source).'
        : undefined,
    cause: error,
  });
}
