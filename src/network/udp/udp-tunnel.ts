/** The tunnel of the backend udp: a TUN device and the proxy that carries its packets, made anew together when the device is gone. */
import { closeSync } from 'node:fs';
import type { IPv4 } from '../../policy/address.ts';
import type { Tunnel } from '../backends/backend.ts';
import type { FamilyLease, Lease } from '../lease.ts';
import { UdpProxy } from './proxy.ts';
import { openTun } from './tun.ts';

export interface UdpTunnelOptions {
  /** Name of the TUN device. */
  readonly device: string;
  /** Of this node's interface: what is sent has it as its source. */
  readonly address: IPv4;
  /** Of the TUN device: what errors about packets have as their source. */
  readonly tunAddress: IPv4;
  /** UDP, the same on all nodes. */
  readonly port: number;
  readonly mtu: number;
  readonly onError: (error: unknown) => void;
  /** Calls it with this thread in the node's network namespace. */
  readonly inNode: <T>(action: () => T) => T;
}

export class UdpTunnel implements Tunnel {
  readonly #options: UdpTunnelOptions;
  readonly #peers = new Map<string, FamilyLease>();
  #proxy: UdpProxy | undefined;
  /** Until then the one before has the port and the device. */
  #ending: Promise<void> = Promise.resolve();
  #closed = false;

  constructor(options: UdpTunnelOptions) {
    this.#options = options;
  }

  /** @throws SluiceError where there is no TUN, or the port is taken */
  async create(): Promise<void> {
    const { device, address, tunAddress, port, mtu, onError, inNode } = this.#options;
    await this.#end();
    if (this.#closed) return;
    const proxy: UdpProxy = inNode(() => {
      const tun = openTun(device);
      const failed = (error: unknown): void => {
        onError(error);
        // Its device would stay, and swallow packets; without one it is made again.
        if (this.#proxy === proxy) void this.#end();
      };
      try {
        return UdpProxy.start({ tunFd: tun.fd, address, tunAddress, port, mtu, onError: failed });
      } catch (error) {
        closeSync(tun.fd);
        throw error;
      }
    });
    this.#proxy = proxy;
    for (const peer of this.#peers.values()) this.#route(peer);
  }

  /** Resolves when port and device are free. */
  #end(): Promise<void> {
    const proxy = this.#proxy;
    this.#proxy = undefined;
    if (proxy !== undefined) this.#ending = this.#ending.then(() => proxy.close()).catch(this.#options.onError);
    return this.#ending;
  }

  setPeer({ node, v4 }: Lease): void {
    const before = this.#peers.get(node);
    if (
      before !== undefined &&
      (v4 === undefined || before.subnet.address !== v4.subnet.address || before.subnet.length !== v4.subnet.length)
    )
      this.#proxy?.removeRoute(before.subnet);
    if (v4 === undefined) {
      this.#peers.delete(node);
      return;
    }
    this.#peers.set(node, v4);
    this.#route(v4);
  }

  removePeer({ node }: Lease): void {
    const before = this.#peers.get(node);
    this.#peers.delete(node);
    if (before !== undefined) this.#proxy?.removeRoute(before.subnet);
  }

  #route({ subnet, publicAddress }: FamilyLease): void {
    if (typeof publicAddress === 'number') this.#proxy?.setRoute(subnet, { address: publicAddress, port: this.#options.port });
  }

  /** Also of one that is just being made. */
  async close(): Promise<void> {
    this.#closed = true;
    await this.#end();
  }
}
