/**
 * The pod network of a lab: `sluice network` for every node, in this process, with leases in a directory that all of them share. Each
 * has its sockets in its own node's namespace; what is in the kernel is what a daemon of its own would leave there.
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Poller } from 'nftables-js';
import { LeaseDirectory } from '../network/lease-directory.ts';
import type { NetConf } from '../network/net-conf.ts';
import { NodeNetwork } from '../network/node-network.ts';
import { type Family, familyOf, formatPrefix, networkAddress, type Prefix, prefixRange } from '../policy/address.ts';
import { LabError } from './errors.ts';
import { inNamespace } from './namespaces.ts';
import type { LabNode } from './topology.ts';

const READY_MS = 30_000;
const POLL_MS = 2;

export class LabNetworks {
  readonly #poller = new Poller();
  readonly #directory: string;
  readonly #networks = new Map<string, NodeNetwork>();
  readonly #failures: string[] = [];

  private constructor(directory: string) {
    this.#directory = directory;
  }

  /**
   * Resolves when every node has all it needs for its peers.
   * @param directory for the leases: a file for each node; made here
   * @throws LabError `LAB_NETWORK` what was being waited for
   */
  static async start(nodes: readonly LabNode[], directory: string): Promise<LabNetworks> {
    const networks = new LabNetworks(directory);
    try {
      mkdirSync(directory, { recursive: true });
      const members = nodes.filter(({ podCIDRs }) => podCIDRs.length > 0);
      for (const node of members) networks.#lease(node);
      for (const node of members) networks.#launch(node, members);
      await Promise.all(members.map((node) => networks.#ready(node, members)));
      return networks;
    } catch (error) {
      await networks.stop();
      throw error;
    }
  }

  /** What pods of a node may send at most, bytes. */
  mtu(node: string): number | undefined {
    return this.#networks.get(node)?.configuration?.mtu;
  }

  /** Ends watching; packets go on. */
  async stop(): Promise<void> {
    await Promise.all([...this.#networks.values()].map((network) => network.stop()));
    this.#networks.clear();
    this.#poller.close();
    rmSync(this.#directory, { recursive: true, force: true });
  }

  /** Which subnets a node gets is the lab's choice: its file says so before it comes. */
  #lease({ name, podCIDRs }: LabNode): void {
    const of = (family: Family): string | undefined => {
      const subnet = podCIDRs.find(({ address }) => familyOf(address) === family);
      return subnet === undefined ? undefined : formatPrefix(subnet);
    };
    writeFileSync(join(this.#directory, `${name}.json`), JSON.stringify({ node: name, subnet: of(4), ipv6Subnet: of(6) }));
  }

  #launch(node: LabNode, nodes: readonly LabNode[]): void {
    const conf = netConf(node, nodes);
    const { name, netns } = node;
    const network = NodeNetwork.start({
      node: name,
      conf,
      leases: new LeaseDirectory({ directory: this.#directory, node: name, conf, subnetFile: undefined, onRepair: () => undefined }),
      interfaces: {
        iface: ['eth0'],
        ifaceRegex: [],
        ifaceCanReach: undefined,
        publicIP: undefined,
        publicIPv6: undefined,
        ipv4: conf.enableIPv4,
        ipv6: conf.enableIPv6,
      },
      poller: this.#poller,
      observer: {
        changed: () => undefined,
        failed: (doing, error) =>
          void this.#failures.push(`node ${name}, ${doing}: ${error instanceof Error ? error.message : String(error)}`),
        peerProblems: () => undefined,
        compared: () => undefined,
        ready: () => undefined,
        waiting: () => undefined,
      },
      subnetFile: undefined,
      // The host outside sees pods' own addresses.
      masquerade: false,
      rules: undefined,
      blackholeRoute: false,
      bridge: 'cni0',
      cni: undefined,
      inNode: (action) => inNamespace(netns, action),
    });
    this.#networks.set(name, network);
  }

  async #ready({ name }: LabNode, nodes: readonly LabNode[]): Promise<void> {
    const network = this.#networks.get(name);
    if (network === undefined) return;
    const until = performance.now() + READY_MS;
    while (network.leases.size < nodes.length - 1 || network.unready.length > 0) {
      if (performance.now() > until) {
        const why = [...network.unready, ...this.#failures].join('\n');
        throw new LabError('LAB_NETWORK', `the network of node ${name} is not ready after ${READY_MS / 1000} s: ${why}`);
      }
      await sleep(POLL_MS);
    }
    await network.settled();
  }
}

/** Of the families that a node has; its networks hold all nodes' podCIDRs. */
function netConf({ podCIDRs }: LabNode, nodes: readonly LabNode[]): NetConf {
  const has = (family: Family): boolean => podCIDRs.some(({ address }) => familyOf(address) === family);
  const all = (family: Family): Prefix | undefined =>
    common(nodes.flatMap((node) => node.podCIDRs.filter(({ address }) => familyOf(address) === family)));
  return {
    enableIPv4: has(4),
    enableIPv6: has(6),
    enableNFTables: true,
    network: all(4),
    ipv6Network: all(6),
    subnetLen: undefined,
    subnetMin: undefined,
    subnetMax: undefined,
    ipv6SubnetLen: undefined,
    ipv6SubnetMin: undefined,
    ipv6SubnetMax: undefined,
    backend: { type: 'vxlan', vni: 1, port: 8472, mtu: undefined, gbp: false, learning: false, directRouting: false },
    warnings: [],
  };
}

/** The longest prefix, but one bit, that holds all of them: of a network there is always more than one subnet. */
function common(prefixes: readonly Prefix[]): Prefix | undefined {
  const [first] = prefixes;
  if (first === undefined) return undefined;
  let length = first.length - 2;
  const holds = (each: Prefix): boolean => {
    const { first: from, last } = prefixRange({ address: networkAddress(first.address, length), length });
    return each.address >= from && each.address <= last && each.length > length;
  };
  while (length > 0 && !prefixes.every(holds)) length--;
  return { address: networkAddress(first.address, Math.max(length, 0)), length: Math.max(length, 0) };
}
