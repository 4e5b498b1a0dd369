/**
 * A cluster on one machine: nodes, pods and a host outside as network namespaces, with a prober inside each. Works only in a
 * sandbox (scripts/sandbox.sh), so that it never touches the machine's own network and everything ends with the process.
 *
 *     const lab = await Lab.create({ nodes: [{ name: 'a' }, { name: 'b' }], pods: [{ namespace: 'dev', name: 'web', node: 'a' }, …] });
 *     const [result] = await lab.probe([{ from: 'dev/web', to: 'dev/db', port: 80, protocol: 'TCP', family: 4 }]);
 *     await lab.close();
 *
 * Names: a pod is `namespace/name`, a node `node/NAME`, a host outside its name (`outside`).
 */
import type { ChildProcess } from 'node:child_process';
import { type Address, type Family, familyOf, formatAddress, parseAddress } from '../policy/address.ts';
import type { PolicyProtocol } from '../policy/objects.ts';
import { LabError } from './errors.ts';
import { LabFlow, LabStream } from './flows.ts';
import { type Output, namespaceNames, run, setSysctls, spawnIn } from './namespaces.ts';
import { Prober } from './prober/prober.ts';
import type { Endpoint, Measured, ProbeProtocol, ProbeRequest, ProbeResult } from './prober/protocol.ts';
import { LabNetworks } from './networks.ts';
import { type LabService, serviceScript } from './services.ts';
import {
  type Commands,
  DEFAULT_OUTSIDE,
  DEFAULT_PORTS,
  type LabNode,
  type LabPod,
  type NodeSpec,
  type OutsideHosts,
  type PodSpec,
  nodeCommands,
  nodeLocalAddresses,
  outsideCommands,
  podCables,
  podCommands,
  podPortCommands,
  resolveNode,
  resolveOutside,
  resolvePod,
  underlayCables,
  underlayCommands,
} from './topology.ts';

export interface LabSpec {
  readonly nodes: readonly NodeSpec[];
  readonly pods?: readonly PodSpec[];
  /** Hosts outside the cluster by name, with their addresses. Default: `outside`, 192.0.2.10 and 2001:db8::10. */
  readonly outside?: Readonly<Record<string, readonly string[]>>;
  /**
   * Whether the network goes on being looked after: what somebody breaks is made whole again. Default: it is made, and left as it is.
   */
  readonly keepsNetwork?: boolean;
  /** What nodes and hosts outside listen on. Default: 80 and 81. */
  readonly ports?: readonly number[];
}

/** Where `to` may also be an address, as of a Service. */
export interface LabProbe {
  readonly from: string;
  readonly to: string;
  readonly port: number;
  readonly protocol: ProbeProtocol;
  /** Default: that of `to` where it is an address, otherwise IPv4. */
  readonly family?: Family;
  readonly expected?: Measured;
}

export interface ProbeOptions {
  /** How long what is expected to be allowed (or whose expectation is not given) may take. Default: 10,000. */
  readonly deadlineMs?: number;
  /** How much longer the rest is waited for. Default: 300. */
  readonly graceMs?: number;
}

/** Leases of a lab's nodes; in the sandbox's own /run. */
const LEASES = '/run/sluice-leases';
const PREFIXES = new Set<string>();

/** Names of namespaces have to be unique in the sandbox: the first lab of a process has plain names, a second one beside it has not. */
function claimPrefix(): string {
  let prefix = '';
  for (let count = 2; PREFIXES.has(prefix); count++) prefix = `lab${count}.`;
  PREFIXES.add(prefix);
  return prefix;
}

export class Lab {
  readonly nodes: readonly LabNode[];
  readonly outside: OutsideHosts;
  /** Network namespace of the host outside. */
  readonly outsideNetns: string;
  readonly #prefix: string;
  readonly #prober: Prober;
  readonly #pods = new Map<string, LabPod>();
  readonly #ports: readonly number[];
  readonly #services: LabService[] = [];
  readonly #processes = new Set<ChildProcess>();
  #networks: LabNetworks | undefined;
  readonly #mtus = new Map<string, number>();

  private constructor(spec: LabSpec, prefix: string, prober: Prober) {
    this.#prefix = prefix;
    this.#prober = prober;
    this.#ports = spec.ports ?? DEFAULT_PORTS;
    this.nodes = spec.nodes.map((node, index) => resolveNode(node, index, prefix));
    this.outside = resolveOutside(spec.outside ?? DEFAULT_OUTSIDE);
    this.outsideNetns = `${prefix}outside`;
    const names = new Set<string>([this.outsideNetns, this.#underlay]);
    for (const node of this.nodes) {
      if (names.has(node.netns))
        throw new LabError(
          'LAB_TOPOLOGY',
          `the node name ${node.name} is taken: names of nodes are unique, and not "outside" or "underlay"`,
        );
      names.add(node.netns);
    }
  }

  get #underlay(): string {
    return `${this.#prefix}underlay`;
  }

  /**
   * @throws LabError `LAB_SANDBOX` outside a sandbox, `LAB_TOPOLOGY` where the specification contradicts itself, `LAB_COMMAND`
   *   where the kernel or a program refuses
   */
  static async create(spec: LabSpec): Promise<Lab> {
    if (process.env['SLUICE_SANDBOX'] === undefined) {
      throw new LabError('LAB_SANDBOX', 'the lab changes networks, and so runs only in namespaces of its own', {
        hint: 'Run it with: sh scripts/sandbox.sh COMMAND',
      });
    }
    const prefix = claimPrefix();
    const prober = new Prober();
    let lab: Lab | undefined;
    try {
      lab = new Lab(spec, prefix, prober);
      await lab.#build(spec);
      return lab;
    } catch (error) {
      if (lab === undefined) {
        PREFIXES.delete(prefix);
        await prober.close();
      } else await lab.close();
      throw error;
    }
  }

  async #build({ pods: specs = [], keepsNetwork }: LabSpec): Promise<void> {
    const pods = specs.map((spec) => this.#resolve(spec));
    const hosts = [...this.nodes.map((node) => node.netns), this.outsideNetns];
    const wired = pods.filter((pod) => !pod.hostNetwork);
    await batch(undefined, 'ip', underlayCables(this.#underlay, hosts));
    await Promise.all([
      apply(this.#underlay, underlayCommands(hosts)),
      apply(this.outsideNetns, outsideCommands(this.outside, this.nodes)),
      ...this.nodes.map((node) => apply(node.netns, nodeCommands(node, this.nodes, this.outside))),
    ]);
    this.#networks = await LabNetworks.start(this.nodes, `${LEASES}/${this.#prefix}lab`);
    for (const { name } of this.nodes) {
      const mtu = this.#networks.mtu(name);
      if (mtu !== undefined) this.#mtus.set(name, mtu);
    }
    await batch(
      undefined,
      'ip',
      wired.flatMap((pod) => podCables(pod, this.#nodeOf(pod), this.#mtu(pod.node))),
    );
    await Promise.all([
      ...this.nodes.map((node) => batch(node.netns, 'ip', wired.filter((pod) => pod.node === node.name).flatMap(podPortCommands))),
      ...wired.map((pod) => apply(pod.netns, podCommands(pod, this.#nodeOf(pod)))),
    ]);
    if (keepsNetwork !== true) await this.#leaveNetwork();
    const endpoints: Endpoint[] = [
      ...this.nodes.map((node) => ({
        name: `node/${node.name}`,
        netns: node.netns,
        addresses: nodeLocalAddresses(node),
        ports: this.#ports,
      })),
      ...[...this.outside].map(([name, addresses]) => ({ name, netns: this.outsideNetns, addresses, ports: this.#ports })),
      ...pods.map(podEndpoint),
    ];
    await Promise.all(endpoints.map((endpoint) => this.#prober.ask('addEndpoint', endpoint)));
  }

  /** Ends looking after the network; what it has made stays. */
  async #leaveNetwork(): Promise<void> {
    await this.#networks?.stop();
    this.#networks = undefined;
  }

  /** What pods of a node may send at most, bytes. */
  #mtu(node: string): number {
    const known = this.#mtus.get(node);
    if (known === undefined) throw new LabError('LAB_TOPOLOGY', `node ${node} has no podCIDR, and so no network for pods`);
    return known;
  }

  #resolve(spec: PodSpec): LabPod {
    const node = this.node(spec.node);
    const taken = new Set([...this.#pods.values()].flatMap((pod) => pod.addresses));
    const pod = resolvePod(spec, node, taken, this.#prefix);
    if (this.#pods.has(pod.key)) throw new LabError('LAB_TOPOLOGY', `pod ${pod.key} is there already`);
    const clash = pod.hostNetwork ? undefined : pod.addresses.find((address) => taken.has(address));
    if (clash !== undefined) throw new LabError('LAB_TOPOLOGY', `pod ${pod.key}: ${formatAddress(clash)} belongs to another pod`);
    this.#pods.set(pod.key, pod);
    return pod;
  }

  #nodeOf(pod: LabPod): LabNode {
    return this.node(pod.node);
  }

  /** @throws LabError `LAB_TOPOLOGY` where there is none of this name */
  node(name: string): LabNode {
    const node = this.nodes.find((each) => each.name === name);
    if (node === undefined) {
      throw new LabError(
        'LAB_TOPOLOGY',
        `there is no node ${name === '' ? 'without a name' : name}; nodes are ${this.nodes.map((each) => each.name).join(', ')}`,
      );
    }
    return node;
  }

  /** @param key `namespace/name` @throws LabError `LAB_TOPOLOGY` where there is none of this name */
  pod(key: string): LabPod {
    const pod = this.#pods.get(key);
    if (pod === undefined) throw new LabError('LAB_TOPOLOGY', `there is no pod ${key}`);
    return pod;
  }

  get pods(): readonly LabPod[] {
    return [...this.#pods.values()];
  }

  /** Gives a pod its network and its servers. */
  async addPod(spec: PodSpec): Promise<LabPod> {
    const pod = this.#resolve(spec);
    try {
      if (!pod.hostNetwork) {
        const node = this.#nodeOf(pod);
        await batch(undefined, 'ip', podCables(pod, node, this.#mtu(node.name)));
        await batch(node.netns, 'ip', podPortCommands(pod));
        await apply(pod.netns, podCommands(pod, node));
      }
      await this.#prober.ask('addEndpoint', podEndpoint(pod));
    } catch (error) {
      this.#pods.delete(pod.key);
      throw error;
    }
    return pod;
  }

  /** Takes its network away, as when its containers have ended. Its address is free from then on. */
  async removePod(key: string): Promise<void> {
    const pod = this.pod(key);
    await this.#prober.ask('removeEndpoint', { name: key });
    this.#pods.delete(key);
    if (pod.hostNetwork) return;
    // Not left to the end of the namespace, which the kernel takes its time for.
    await batch(this.#nodeOf(pod).netns, 'ip', [`link del ${pod.interface}`]);
    await batch(undefined, 'ip', [`netns del ${pod.netns}`]);
  }

  /** Name of the network namespace of a pod (`namespace/name`), a node (`node/NAME` or `NAME`) or a host outside. */
  netns(name: string): string {
    if (this.outside.has(name)) return this.outsideNetns;
    if (name.startsWith('node/')) return this.node(name.slice(5)).netns;
    return name.includes('/') ? this.pod(name).netns : this.node(name).netns;
  }

  /** Addresses of a pod, a node or a host outside. */
  addresses(name: string): readonly Address[] {
    const outside = this.outside.get(name);
    if (outside !== undefined) return outside;
    if (name.startsWith('node/')) return this.node(name.slice(5)).addresses;
    return this.pod(name).addresses;
  }

  /**
   * Runs a program in the namespace of a node, pod or host outside, as `lab.exec('node/a', ['nft', 'list', 'ruleset'])`.
   *
   * @throws LabError `LAB_COMMAND` where its status is not 0, unless `check` is false
   */
  exec(where: string, argv: readonly string[], options: { readonly input?: string; readonly check?: boolean } = {}): Promise<Output> {
    return run(this.netns(where), argv, options);
  }

  /** Starts a program there that goes on until it is killed, or the lab is closed. */
  spawn(where: string, argv: readonly string[], options: Parameters<typeof spawnIn>[2]): ChildProcess {
    const child = spawnIn(this.netns(where), argv, options);
    this.#processes.add(child);
    child.once('exit', () => this.#processes.delete(child));
    return child;
  }

  #request(probe: LabProbe): ProbeRequest {
    const { from, to, port, protocol, expected } = probe;
    const literal = parseAddress(to);
    const family = probe.family ?? (literal === undefined ? 4 : familyOf(literal));
    return {
      netns: this.netns(from),
      source: this.#address(from, family),
      destination: literal ?? this.#address(to, family),
      port,
      protocol,
      expected,
    };
  }

  #address(name: string, family: Family): Address {
    const address = this.addresses(name).find((each) => familyOf(each) === family);
    if (address === undefined) throw new LabError('LAB_TOPOLOGY', `${name} has no IPv${family} address`);
    return address;
  }

  /** Makes all probes at once; results in their order. */
  probe(probes: readonly LabProbe[], options: ProbeOptions = {}): Promise<readonly ProbeResult[]> {
    const { deadlineMs = 10_000, graceMs = 300 } = options;
    return this.#prober.ask('probe', { probes: probes.map((probe) => this.#request(probe)), options: { deadlineMs, graceMs } });
  }

  /** Opens a long-lived flow. @throws LabError `LAB_PROBER` where it does not come about within the time (default: 5,000 ms) */
  async openFlow(probe: LabProbe & { readonly protocol: 'TCP' | 'UDP' }, options: { readonly timeoutMs?: number } = {}): Promise<LabFlow> {
    const { netns, source, destination, port } = this.#request(probe);
    const { flow } = await this.#prober.ask('openFlow', {
      netns,
      source,
      destination,
      port,
      protocol: probe.protocol,
      timeoutMs: options.timeoutMs ?? 5000,
    });
    return new LabFlow(this.#prober, flow);
  }

  /** Starts probes at a constant rate. `timeoutMs` (default: 2,000) is how long each may take. */
  async startStream(probe: LabProbe, options: { readonly perSecond: number; readonly timeoutMs?: number }): Promise<LabStream> {
    const { netns, source, destination, port, protocol } = this.#request(probe);
    const { perSecond, timeoutMs = 2000 } = options;
    const { stream } = await this.#prober.ask('startStream', { netns, source, destination, port, protocol, perSecond, timeoutMs });
    return new LabStream(this.#prober, stream);
  }

  /**
   * Makes a Service address on every node (kube-proxy's way: DNAT, and masquerade for hairpin), or changes its backends.
   *
   * @param backends pods and target port; none: the address leads nowhere any more
   */
  async addService(
    address: string,
    port: number,
    backends: readonly { readonly pod: string; readonly port: number }[],
    protocol: PolicyProtocol = 'TCP',
  ): Promise<void> {
    const vip = parseAddress(address);
    if (vip === undefined) throw new LabError('LAB_TOPOLOGY', `the Service address "${address}" is no IP address`);
    const at = this.#services.findIndex((each) => each.address === vip && each.port === port && each.protocol === protocol);
    if (at >= 0) this.#services.splice(at, 1);
    const targets = backends.map((backend) => ({ address: this.#address(backend.pod, familyOf(vip)), port: backend.port }));
    if (targets.length > 0) this.#services.push({ address: vip, port, protocol, backends: targets });
    const script = serviceScript(this.#services);
    await Promise.all(this.nodes.map((node) => run(node.netns, ['nft', '-f', '-'], { input: script })));
  }

  /** Ends everything: processes that were started here, sockets, namespaces. */
  async close(): Promise<void> {
    for (const child of this.#processes) child.kill('SIGKILL');
    await this.#prober.close();
    await this.#leaveNetwork();
    const own = new Set([this.#underlay, this.outsideNetns, ...this.nodes.map((node) => node.netns), ...this.pods.map((pod) => pod.netns)]);
    const lines = namespaceNames()
      .filter((name) => own.has(name))
      .map((name) => `netns del ${name}`);
    this.#pods.clear();
    await batch(undefined, 'ip', lines);
    PREFIXES.delete(this.#prefix);
  }
}

function podEndpoint(pod: LabPod): Endpoint {
  return { name: pod.key, netns: pod.netns, addresses: pod.addresses, ports: pod.ports };
}

async function batch(netns: string | undefined, program: 'ip', lines: readonly string[]): Promise<void> {
  if (lines.length > 0) await run(netns, [program, '-batch', '-'], { input: `${lines.join('\n')}\n` });
}

async function apply(netns: string, commands: Commands): Promise<void> {
  if (commands.sysctls !== undefined) setSysctls(netns, commands.sysctls);
  await batch(netns, 'ip', commands.ip);
}
