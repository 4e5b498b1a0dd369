/** Packets and flows as the kernel tells of them, between pods of the model of policy tests. */
import assert from 'node:assert/strict';
import type { LoggedPacket, Tuple } from 'nftables-js';
import { addressBytes } from '../../../../src/policy/address.ts';
import { type World, worldOf } from '../../../../src/policy/world.ts';
import { describeDenied, type ObservedFlow } from '../../../../src/observability/observe/describe.ts';
import type { Denied } from '../../../../src/observability/observed-flow.ts';
import { address, ip, MODEL, policy } from '../../policy/model.ts';

/** The model, with namespace x closed for ingress by two policies. */
export function worldFor(): World {
  return worldOf({ ...MODEL, policies: [policy({ podSelector: {} }, 'closed'), policy({ podSelector: {} }, 'also-closed')] });
}

/** An IPv4 packet (RFC 791) with the first four bytes of its transport header. */
export function packetBytes(source: string, destination: string, protocol: number, first: number, second: number): Uint8Array {
  const bytes = new Uint8Array(24);
  bytes.set([0x45, 0, 0, 24]);
  bytes.set([64, protocol], 8);
  bytes.set(addressBytes(address(source)), 12);
  bytes.set(addressBytes(address(destination)), 16);
  bytes.set([first >> 8, first & 0xff, second >> 8, second & 0xff], 20);
  return bytes;
}

export function loggedPacket(prefix: string, payload: Uint8Array, at: number): LoggedPacket {
  return {
    protocolFamily: 2,
    etherType: 0x0800,
    prefix,
    hook: 'forward',
    mark: 0,
    indev: undefined,
    outdev: undefined,
    physindev: undefined,
    physoutdev: undefined,
    hwaddr: undefined,
    timestampUs: at * 1_000,
    payload,
    sequence: undefined,
  };
}

/** y/b was refused by x/a. */
export function deniedFlow({ port, at }: { readonly port: number; readonly at: number }): ObservedFlow<Denied> {
  const packet = loggedPacket('ingress/x/a', packetBytes(ip('y/b'), ip('x/a'), 6, 40_000, port), at);
  const flow = describeDenied({ world: worldFor(), node: 'n1', isSynced: true }, packet, at);
  assert.ok(flow);
  return flow;
}

export function tuple(source: string, destination: string, protocol: number, sourcePort: number, destinationPort: number): Tuple {
  return {
    source: addressBytes(address(source)),
    destination: addressBytes(address(destination)),
    protocol,
    sourcePort,
    destinationPort,
    icmp: undefined,
  };
}
