/** `sluice network`: the flannel-compatible network of this node, until told to stop. */
import { readFileSync } from 'node:fs';
import { flushCompileCache } from 'node:module';
import { hostname } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { Command } from 'commander';
import packageJson from '../../package.json' with { type: 'json' };
import { AgentClaim, NETWORK_ROLE } from '../enforcement/nftables/agent-claim.ts';
import { SluiceError, systemErrorCode } from '../errors.ts';
import type { ApiClient } from '../kubernetes/api/client.ts';
import { type Conflist, conflist } from '../network/cni/conflist.ts';
import type { LeaseSource } from '../network/lease-source.ts';
import { type NetConf, parseNetConf } from '../network/net-conf.ts';
import type { Configuration } from '../network/node-network.ts';
import { type NetworkDaemon, startNetwork } from '../network-daemon.ts';
import { createLog, errorFields, type Logger, openLogWriter } from '../observability/log.ts';
import type { NetworkMetrics } from '../observability/network-metrics.ts';
import { formatAddress } from '../policy/address.ts';
import { isFields } from '../policy/problems.ts';
import { type NetworkSettings, readSettings, settingOptions } from './network-settings.ts';

/** How soon one takes over when the one before it ends. */
const CLAIM_AGAIN_MS = 100;

type NetworkFlags = Readonly<Record<string, unknown>> & { readonly config?: string; readonly printConfig?: true };

export function command(): Command {
  const network = new Command('network').description(
    'The pod network of this node, as flanneld makes it: its lease, the ways to all other nodes, and what pods need, kept until told to ' +
      'stop. What is in the kernel stays.',
  );
  for (const option of settingOptions()) network.addOption(option);
  return network
    .option('--config <file>', 'YAML with settings, named as the flags are: ipMasq: true (also: $SLUICE_CONFIG)')
    .option('--print-config', 'print all settings as YAML, with where each comes from, and end')
    .addHelpText(
      'after',
      '\nEach setting can be given in the environment: --ip-masq is SLUICE_IP_MASQ, or FLANNELD_IP_MASQ as for flanneld.\nIt logs one JSON ' +
        'object a line. Exit status: 0 when it was told to stop (SIGTERM, SIGINT), 1 when it could not start, 2 called wrongly.',
    )
    .action(run);
}

async function run(flags: NetworkFlags): Promise<void> {
  const { config = process.env['SLUICE_CONFIG'], printConfig = false, ...given } = flags;
  const { settings, text } = readSettings(given, process.env, config);
  if (printConfig) {
    process.stdout.write(text);
    return;
  }
  const conf = parseNetConf(readNetConf(settings.netConfigPath), settings.netConfigPath);
  const cniList = readTemplate(settings, conf);
  const client = await openClient(settings);
  const ending = new AbortController();
  const running: { daemon?: NetworkDaemon } = {};
  const writer = openLogWriter();
  let log = createLog(settings.logLevel, {}, writer);
  const stop = (signal: NodeJS.Signals): void => {
    log.info({ signal }, 'stopping');
    ending.abort();
    (running.daemon?.stop() ?? Promise.resolve()).then(
      () => process.exit(0),
      (error: unknown) => {
        log.error(errorFields(error), 'stopping failed');
        process.exit(1);
      },
    );
  };
  // Before anything is waited for: as the first process of a container it would be deaf to them.
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
  const node = settings.node ?? (client === undefined ? undefined : await nodeOfPod(client, log, ending.signal)) ?? hostname();
  log = createLog(settings.logLevel, { node }, writer);
  for (const warning of conf.warnings) log.warn({ file: settings.netConfigPath }, warning);
  await claimNode(log, ending.signal);
  const metrics = await openMetrics(settings);
  metrics?.describeLog(() => writer.dropped);
  const onRepair = (what: string): void => running.daemon?.observer.changed('announcement', what, 'repair');
  const leases = await openLeases(settings, conf, node, client, onRepair);
  running.daemon = startNetwork({
    node,
    conf,
    leases,
    interfaces: {
      iface: settings.iface,
      ifaceRegex: settings.ifaceRegex,
      ifaceCanReach: settings.ifaceCanReach,
      publicIP: settings.publicIp,
      publicIPv6: settings.publicIpv6,
      ipv4: conf.enableIPv4,
      ipv6: conf.enableIPv6,
    },
    subnetFile: settings.subnetFile,
    masquerade: settings.ipMasq,
    rules: {
      forward: settings.iptablesForwardRules,
      randomFully: !settings.ipMasqFullyRandomDisable,
      iptablesResyncSeconds: settings.iptablesResync,
    },
    blackholeRoute: settings.ipBlackholeRoute,
    bridge: settings.bridge,
    cni: settings.cniConfFile === undefined ? undefined : { file: settings.cniConfFile, list: cniList },
    log,
    healthAddress: settings.healthzPort === 0 ? undefined : { host: formatAddress(settings.healthzIp), port: settings.healthzPort },
    metrics,
    metricsAddress: settings.metricsAddress,
  });
  // Otherwise written at a regular end, and the next start needs it above all when this is killed.
  flushCompileCache();
  // Nothing else keeps the process alive while nothing happens: the kernel is waited for in a thread that does not.
  setInterval(() => undefined, 2 ** 31 - 1);
}

function readNetConf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new SluiceError(
      'NET_CONF_UNREADABLE',
      `the network configuration ${path} cannot be read: ${systemErrorCode(cause) ?? String(cause)}`,
      {
        hint: 'Name it with --net-config-path; in a cluster it is net-conf.json of the ConfigMap kube-flannel-cfg.',
        exitStatus: 2,
        cause,
      },
    );
  }
}

/** What the container runtime is told, made from flannel's template where there is one. Checked before anything is done. */
function readTemplate(settings: NetworkSettings, conf: NetConf): (configuration: Configuration) => Conflist {
  const path = settings.cniConfTemplate ?? join(dirname(settings.netConfigPath), 'cni-conf.json');
  let template: unknown;
  try {
    template = JSON.parse(readFileSync(path, 'utf8'));
  } catch (cause) {
    // One that nobody has named need not be there.
    if (settings.cniConfTemplate !== undefined || systemErrorCode(cause) !== 'ENOENT') {
      throw new SluiceError(
        'CNI_CONF_UNREADABLE',
        `the template ${path} cannot be read: ${cause instanceof Error ? cause.message : String(cause)}`,
        {
          hint: 'It is cni-conf.json of the ConfigMap kube-flannel-cfg; name it with --cni-conf-template.',
          exitStatus: 2,
          cause,
        },
      );
    }
  }
  const make = ({ mtu, families }: Pick<Configuration, 'mtu' | 'families'>): Conflist =>
    conflist({
      mtu,
      subnets: families.map(({ subnet }) => subnet),
      networks: families.map(({ network }) => network),
      ipMasq: settings.ipMasq,
      bridge: settings.bridge ?? 'cni0',
      template,
    });
  const networks = [conf.network, conf.ipv6Network].filter((network) => network !== undefined);
  make({
    mtu: 1450,
    families: networks.map((network) => ({
      family: 4,
      subnet: network,
      network,
      own: network.address,
      public: network.address,
      source: network.address,
    })),
  });
  return make;
}

/** Undefined where leases come from a directory. */
async function openClient({ leaseDir, kubeconfigFile, kubeApiUrl }: NetworkSettings): Promise<ApiClient | undefined> {
  if (leaseDir !== undefined) return undefined;
  const { ApiClient } = await import('../kubernetes/api/client.ts');
  return await ApiClient.open({ file: kubeconfigFile, server: kubeApiUrl, userAgent: `sluice/${packageJson.version}` });
}

/** As flanneld finds out where it runs; undefined where nobody says. Waits until the API server does. */
async function nodeOfPod(client: ApiClient, log: Logger, signal: AbortSignal): Promise<string | undefined> {
  const { POD_NAME: name, POD_NAMESPACE: namespace } = process.env;
  if (name === undefined || namespace === undefined) return undefined;
  const [{ Backoff }, { ApiError }] = await Promise.all([import('../kubernetes/api/backoff.ts'), import('../kubernetes/api/errors.ts')]);
  const backoff = new Backoff();
  const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(name)}`;
  for (;;) {
    try {
      const { object } = await client.call({ method: 'GET', path, signal });
      const spec = isFields(object) ? object['spec'] : undefined;
      const node = isFields(spec) ? spec['nodeName'] : undefined;
      return typeof node === 'string' && node !== '' ? node : undefined;
    } catch (error) {
      if (!(error instanceof ApiError)) throw error;
      const retryMs = Math.round(backoff.failed(error.retryAfterMs));
      if (!signal.aborted)
        log.error({ ...errorFields(error), retryMs }, 'the pod that this runs in, and so the node, is not known yet; asked for again');
      await waitOrEnd(retryMs, signal);
    }
  }
}

/** Waits for another one on this node to end, and says so once. Held until this process ends, however it does. */
async function claimNode(log: Logger, signal: AbortSignal): Promise<void> {
  for (let isFirst = true; ; isFirst = false) {
    try {
      AgentClaim.take(NETWORK_ROLE);
      return;
    } catch (error) {
      if (systemErrorCode(error) === 'EPERM') {
        throw new SluiceError('NOT_PERMITTED', 'the network is not permitted to make devices and routes', {
          hint: 'CAP_NET_ADMIN is needed, in the network namespace of the node.',
          cause: error,
        });
      }
      if (systemErrorCode(error) !== NETWORK_ROLE.code) throw error;
      if (isFirst) log.error(errorFields(error), 'waiting for the other sluice network of this node to end');
      await waitOrEnd(CLAIM_AGAIN_MS, signal);
    }
  }
}

/** Does not resolve any more once it is told to stop: the process is about to exit. */
async function waitOrEnd(ms: number, signal: AbortSignal): Promise<void> {
  await sleep(ms, undefined, { signal }).catch(() => new Promise(() => undefined));
}

async function openMetrics({ metricsAddress }: NetworkSettings): Promise<NetworkMetrics | undefined> {
  if (metricsAddress === undefined) return undefined;
  const { NetworkMetrics } = await import('../observability/network-metrics.ts');
  return new NetworkMetrics({ version: packageJson.version });
}

async function openLeases(
  settings: NetworkSettings,
  conf: NetConf,
  node: string,
  client: ApiClient | undefined,
  onRepair: (what: string) => void,
): Promise<LeaseSource> {
  if (client === undefined) {
    const { LeaseDirectory } = await import('../network/lease-directory.ts');
    return new LeaseDirectory({ directory: settings.leaseDir ?? '.', node, conf, subnetFile: settings.subnetFile, onRepair });
  }
  const { KubernetesLeases } = await import('../network/kubernetes-leases.ts');
  return new KubernetesLeases({
    client,
    node,
    conf,
    prefix: settings.kubeAnnotationPrefix,
    setsCondition: settings.setNodeNetworkUnavailable,
    onRepair,
  });
}
