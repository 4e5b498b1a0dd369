/** The network daemon of one node: wires leases, the node's network, log, metrics and probes together, and nothing more. */
import { Poller } from 'nftables-js';
import { NodeNetwork, type NodeNetworkOptions, type NetworkObserver } from './network/node-network.ts';
import { errorFields, type Logger } from './observability/log.ts';
import { HttpServer, type ListenAddress, type Page, text } from './observability/http-server.ts';
import type { NetworkMetrics } from './observability/network-metrics.ts';

export interface NetworkDaemonOptions extends Omit<NodeNetworkOptions, 'poller' | 'observer' | 'inNode'> {
  readonly log: Logger;
  readonly healthAddress: ListenAddress | undefined;
  readonly metrics: NetworkMetrics | undefined;
  readonly metricsAddress: ListenAddress | undefined;
}

export interface NetworkDaemon {
  readonly network: NodeNetwork;
  readonly observer: NetworkObserver;
  /** Ends watching; packets go on as they do (udp: they stop). */
  stop(): Promise<void>;
}

/** Starts it; what cannot be done yet is waited for. */
export function startNetwork(options: NetworkDaemonOptions): NetworkDaemon {
  const { log, metrics, healthAddress, metricsAddress } = options;
  const poller = new Poller();
  const observer: NetworkObserver = {
    changed(object, what, cause) {
      metrics?.changed(object, cause);
      const level = cause === 'repair' ? 'warn' : object === 'link' || cause === 'stale' ? 'info' : 'debug';
      log[level]({ object, cause }, what);
    },
    failed(doing, error) {
      metrics?.failed();
      log.error({ ...errorFields(error), doing }, 'this could not be done; it is tried again');
    },
    peerProblems(node, problems) {
      if (problems.length === 0) log.info({ peer: node }, 'nothing is wrong with this peer any more');
      for (const problem of problems) log.warn({ peer: node, code: 'PEER' }, problem);
    },
    compared(durationMs, changes) {
      metrics?.compared(durationMs);
      log[changes > 0 ? 'info' : 'debug']({ changes, durationMs: Math.round(durationMs * 10) / 10 }, 'compared with the kernel');
    },
    ready({ backend, external, mtu, devices }) {
      log.info({ backend, interface: external.name, mtu, devices, peers: network.leases.size }, 'the network is ready');
    },
    waiting(why) {
      if (why !== undefined) log.info({ why }, 'waiting');
    },
  };
  const network = NodeNetwork.start({
    ...options,
    poller,
    observer,
    inNode: (action) => action(),
  });
  metrics?.describe(() => ({
    ready: network.unready.length === 0,
    peers: network.leases.size,
    troubledPeers: network.troubledPeers,
    entries: network.entryCount,
    refused: network.refusals,
  }));
  const listen = (address: ListenAddress, pages: ConstructorParameters<typeof HttpServer>[0]['pages']): HttpServer =>
    new HttpServer({
      address,
      pages,
      onFault: (error) => log.warn({ ...errorFields(error), ...address }, 'a port cannot be listened on; tried again every second'),
      onError: (path, error) => log.error({ ...errorFields(error), path }, 'a page could not be made'),
    });
  const servers: HttpServer[] = [];
  if (healthAddress !== undefined)
    servers.push(listen(healthAddress, { '/healthz': () => text(200, 'ok\n'), '/readyz': () => readiness(network) }));
  if (metrics !== undefined && metricsAddress !== undefined) servers.push(listen(metricsAddress, { '/metrics': () => metrics.page() }));
  return {
    network,
    observer,
    async stop() {
      for (const server of servers) server.close();
      await network.stop();
      poller.close();
      log.info('stopped; packets go on as they do');
    },
  };
}

function readiness(network: NodeNetwork): Page {
  const { unready } = network;
  return unready.length === 0 ? text(200, 'ok\n') : text(503, `${unready.join('\n')}\n`);
}
