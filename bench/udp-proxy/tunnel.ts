/** Two network namespaces that are nodes of a udp network: joined by a veth pair, each with a TUN device and a proxy for it. */
import type { ChildProcess } from 'node:child_process';
import { once } from 'node:events';
import { run, spawnIn } from '../../src/lab/namespaces.ts';

/** Of one end: `a` or `b`. */
export interface TunnelEnd {
  readonly netns: string;
  /** Of the veth. */
  readonly underlay: string;
  /** Of the TUN device, alone in its subnet. */
  readonly address: string;
  readonly subnet: string;
}

export const DEVICE = 'flannel0';
export const PORT = 8285;
/** That of the veth, 1500, without the headers of IP and UDP. */
export const MTU = 1472;

export interface TunnelEnds {
  readonly a: TunnelEnd;
  readonly b: TunnelEnd;
}

export function tunnelEnds(name: string): TunnelEnds {
  const end = (letter: string, number: number): TunnelEnd => ({
    netns: `${name}-${letter}`,
    underlay: `192.0.2.${number}`,
    address: `10.99.${number}.0`,
    subnet: `10.99.${number}.0/24`,
  });
  return { a: end('a', 1), b: end('b', 2) };
}

/** Makes the two namespaces, and the link between them. */
export async function makeUnderlay({ a, b }: TunnelEnds): Promise<void> {
  await run(undefined, ['ip', 'netns', 'add', a.netns]);
  await run(undefined, ['ip', 'netns', 'add', b.netns]);
  await run(a.netns, ['ip', 'link', 'add', 'eth0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', b.netns]);
  for (const { netns, underlay } of [a, b]) {
    await run(netns, ['ip', 'link', 'set', 'lo', 'up']);
    await run(netns, ['ip', 'address', 'add', `${underlay}/24`, 'dev', 'eth0']);
    await run(netns, ['ip', 'link', 'set', 'eth0', 'up']);
  }
}

export async function removeUnderlay({ a, b }: TunnelEnds): Promise<void> {
  for (const { netns } of [a, b]) await run(undefined, ['ip', 'netns', 'del', netns], { check: false });
}

/** Gives the device, which is there, what flanneld gives it. */
export async function configureDevice({ netns, address }: TunnelEnd): Promise<void> {
  await run(netns, ['ip', 'address', 'add', `${address}/32`, 'dev', DEVICE]);
  await run(netns, ['ip', 'link', 'set', DEVICE, 'mtu', String(MTU), 'up']);
  await run(netns, ['ip', 'route', 'add', '10.99.0.0/16', 'dev', DEVICE]);
}

/** Starts a proxy as a process of its own, and waits until it carries packets. @param program with the arguments of proxy-process.ts to come */
export async function startProxy(program: readonly string[], own: TunnelEnd, peer: TunnelEnd): Promise<ChildProcess> {
  const args = [DEVICE, own.underlay, String(PORT), own.address, String(MTU), peer.subnet, peer.underlay, String(PORT)];
  const child = spawnIn(own.netns, [...program, ...args], { stdio: ['ignore', 'pipe', 'inherit'] });
  if (child.stdout === null) throw new Error('a pipe was asked for');
  const [said] = (await Promise.race([once(child.stdout, 'data'), once(child, 'exit')])) as [unknown];
  if (!String(said).startsWith('ready')) throw new Error(`${program.join(' ')} ended with status ${String(said)}`);
  await configureDevice(own);
  return child;
}
