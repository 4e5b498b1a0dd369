/**
 * What the nodes of these tests stand on: a network namespace for each, behind a router that also is the host outside of the cluster.
 *
 *     a ── br1 ┐                                   one segment:  every node is on br1
 *     b ── br1 ┤ router ── 203.0.113.1 (outside)   two segments: the last node is on br2, and a packet to it passes the router
 *     c ── br2 ┘
 *
 * The router has no route to any pod: what comes from a pod is answered only where its node has masqueraded it. A second cable of each
 * node goes to the API server. Pure: nothing is run.
 */
import { API_ADDRESS } from '../../../../src/lab/api/api-server.ts';

export type Layout = 'one segment' | 'two segments';

export interface NetworkNode {
  readonly name: string;
  /** Its network namespace. */
  readonly netns: string;
  /** Network namespace of its pod. */
  readonly podNetns: string;
  readonly segment: 1 | 2;
  /** On the underlay, without a length. */
  readonly v4: string;
  readonly v6: string;
  readonly podCIDR: string;
  readonly podCIDRv6: string;
  /** Of its pod. */
  readonly pod4: string;
  readonly pod6: string;
  /** On the cable to the API server. */
  readonly cable: string;
}

export const CLUSTER_V4 = '10.244.0.0/16';
export const CLUSTER_V6 = 'fd00:10:244::/48';
/** Addresses of the host outside. */
export const OUTSIDE_V4 = '203.0.113.1';
export const OUTSIDE_V6 = '2001:db8:113::1';
export const ROUTER = 'net-router';
const SEGMENTS = [1, 2] as const;

/** @param index counts the nodes from 0; the third is the one behind the router where there are two segments */
export function networkNode(name: string, index: number, layout: Layout): NetworkNode {
  const segment = layout === 'two segments' && index === 2 ? 2 : 1;
  const host = 10 + index;
  const subnet = index + 1;
  return {
    name,
    netns: `net-${name}`,
    podNetns: `pod-${name}`,
    segment,
    v4: `192.168.${segment}.${host}`,
    v6: `fd00:192:168:${segment}::${host}`,
    podCIDR: `10.244.${subnet}.0/24`,
    podCIDRv6: `fd00:10:244:${subnet}::/64`,
    pod4: `10.244.${subnet}.2`,
    pod6: `fd00:10:244:${subnet}::2`,
    cable: `198.19.0.${subnet}`,
  };
}

/** Lines for `ip -batch` in the sandbox's first namespace. */
export function cables(nodes: readonly NetworkNode[]): readonly string[] {
  return [
    ...[ROUTER, ...nodes.flatMap(({ netns, podNetns }) => [netns, podNetns])].map((name) => `netns add ${name}`),
    ...nodes.flatMap(({ name, netns, cable }) => [
      `link add eth0 netns ${netns} type veth peer name port-${name} netns ${ROUTER}`,
      `link add api-${name} type veth peer name api netns ${netns}`,
      `link set api-${name} up`,
      `route add ${cable}/32 dev api-${name}`,
    ]),
  ];
}

/** Undoes them; for `ip -force -batch`. */
export function teardown(nodes: readonly NetworkNode[]): readonly string[] {
  return [
    ...nodes.map(({ name }) => `link del api-${name}`),
    ...[ROUTER, ...nodes.flatMap(({ netns, podNetns }) => [podNetns, netns])].map((name) => `netns del ${name}`),
  ];
}

/** For the router's namespace. */
export function routerCommands(nodes: readonly NetworkNode[]): readonly string[] {
  return [
    'link set lo up',
    `addr add ${OUTSIDE_V4}/32 dev lo`,
    `addr add ${OUTSIDE_V6}/128 dev lo`,
    ...SEGMENTS.flatMap((segment) => [
      `link add br${segment} type bridge`,
      `link set br${segment} up`,
      `addr add 192.168.${segment}.1/24 dev br${segment}`,
      `addr add fd00:192:168:${segment}::1/64 dev br${segment} nodad`,
    ]),
    ...nodes.map(({ name, segment }) => `link set port-${name} master br${segment} up`),
  ];
}

/** For the node's namespace. */
export function nodeCommands({ segment, v4, v6, cable }: NetworkNode): readonly string[] {
  return [
    'link set lo up',
    'link set eth0 up',
    'link set api up',
    `addr add ${v4}/24 dev eth0`,
    `addr add ${v6}/64 dev eth0 nodad`,
    `route add default via 192.168.${segment}.1 dev eth0`,
    `route add default via fd00:192:168:${segment}::1 dev eth0`,
    `addr add ${cable}/32 dev api`,
    `route add ${API_ADDRESS}/32 dev api src ${cable}`,
  ];
}

/** Addresses are usable at once: no duplicate address detection. accept_ra is 1, as on a machine that was just started. */
const HOST_SYSCTLS: Readonly<Record<string, string>> = {
  'net.ipv6.conf.all.accept_dad': '0',
  'net.ipv6.conf.default.accept_dad': '0',
  'net.ipv4.conf.all.rp_filter': '0',
  'net.ipv4.conf.default.rp_filter': '0',
  'net.ipv6.conf.default.accept_ra': '1',
};

export const POD_SYSCTLS = HOST_SYSCTLS;

/** Of nodes and the router; those of a node's eth0, which is there before these are set, come with {@link CABLE_SYSCTLS}. */
export const NODE_SYSCTLS: Readonly<Record<string, string>> = {
  ...HOST_SYSCTLS,
  'net.ipv4.ip_forward': '1',
  'net.ipv6.conf.all.forwarding': '1',
};

/** Of a node: without its link-local address it could ask for no neighbour. */
export const CABLE_SYSCTLS: Readonly<Record<string, string>> = { 'net.ipv6.conf.eth0.accept_dad': '0' };
