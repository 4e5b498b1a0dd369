/** `sluice agent`: enforce the policies of a source on this node until told to stop. */
import { accessSync, constants } from 'node:fs';
import { flushCompileCache } from 'node:module';
import { dirname } from 'node:path';
import { Command } from 'commander';
import packageJson from '../../package.json' with { type: 'json' };
import { startAgent } from '../agent.ts';
import { SluiceError } from '../errors.ts';
import type { ApiClient } from '../kubernetes/api/client.ts';
import type { Logger } from '../observability/log.ts';
import { createLog, errorFields, openLogWriter } from '../observability/log.ts';
import type { AgentMetrics } from '../observability/metrics.ts';
import type { Source } from '../sources/source.ts';
import { type AgentSettings, readSettings, settingOptions } from './agent-settings.ts';
import { explainRefusal } from './net-admin.ts';

type AgentFlags = Readonly<Record<string, unknown>> & { readonly config?: string; readonly printConfig?: true };

export function command(): Command {
  const agent = new Command('agent').description(
    'Enforce NetworkPolicies on this node until told to stop; the rules stay in force afterwards. ' +
      'Objects come from an API server, or from a directory.',
  );
  for (const option of settingOptions()) agent.addOption(option);
  return agent
    .option('--config <file>', 'YAML with settings, named as the flags are: logGroup: 100 (also: $SLUICE_CONFIG)')
    .option('--print-config', 'print all settings as YAML, with where each comes from, and end')
    .addHelpText(
      'after',
      '\nEach setting can be given in the environment: --log-group is SLUICE_LOG_GROUP. A flag counts before the environment, and that before ' +
        'the file.\nIt logs one JSON object a line. Exit status: 0 when it was told to stop (SIGTERM, SIGINT), 1 when it could not start, ' +
        '2 called wrongly.',
    )
    .action(run);
}

async function run(flags: AgentFlags): Promise<void> {
  const { config = process.env['SLUICE_CONFIG'], printConfig = false, ...given } = flags;
  const { settings, text } = readSettings(given, process.env, config);
  if (printConfig) {
    process.stdout.write(text);
    return;
  }
  if (settings.statusFile !== undefined) checkDirectory(settings.statusFile);
  const writer = openLogWriter();
  const log = createLog(settings.logLevel, { node: settings.node }, writer);
  // Loaded before metrics begin to watch the event loop, which loading holds up.
  const client = await openClient(settings);
  const metrics = await openMetrics(settings);
  metrics?.describeLog(() => writer.dropped);
  const source = await openSource(settings, client, log, metrics);
  const ending = new AbortController();
  const agent = await startAgent({
    source,
    node: settings.node,
    log,
    bridges: settings.bridge,
    cutMark: settings.cutMark,
    auditing: { mode: settings.mode, namespaces: settings.auditNamespaces },
    nftables: { ownership: settings.ownership, logGroup: settings.logGroup === 0 ? undefined : settings.logGroup },
    observeSocket: settings.observeSocket,
    statusFile: settings.statusFile,
    healthAddress: settings.healthAddress,
    metrics,
    policyEvents: settings.policyEvents && client !== undefined ? await openEvents(client, settings, log) : undefined,
    onReady: client === undefined ? undefined : () => void removeTaint(client, settings, log, ending.signal),
    metricsAddress: settings.metricsAddress,
    metricsAccess: settings.metricsAuthentication === 'token' && client !== undefined ? await openAccess(client) : undefined,
  }).catch((error: unknown) => {
    throw explainRefusal(error, 'the agent');
  });
  // Otherwise written at a regular end, and the next start needs it above all when this agent is killed.
  flushCompileCache();
  const stop = (signal: NodeJS.Signals): void => {
    log.info({ signal }, 'stopping');
    ending.abort();
    agent.stop().then(
      () => process.exit(0),
      (error: unknown) => {
        log.error(errorFields(error), 'stopping failed');
        process.exit(1);
      },
    );
  };
  process.once('SIGTERM', stop);
  process.once('SIGINT', stop);
  // Nothing else keeps the process alive while nothing happens: the kernel is waited for in a thread that does not.
  setInterval(() => undefined, 2 ** 31 - 1);
}

async function openMetrics({ metricsAddress, metricsByRule }: AgentSettings): Promise<AgentMetrics | undefined> {
  if (metricsAddress === undefined) return undefined;
  const { AgentMetrics } = await import('../observability/metrics.ts');
  return new AgentMetrics({ version: packageJson.version, byRule: metricsByRule });
}

async function openEvents(client: ApiClient, { node }: AgentSettings, log: Logger) {
  const { PolicyEvents } = await import('../observability/policy-events.ts');
  return new PolicyEvents({ client, node, onError: (error) => log.warn(errorFields(error), 'an Event about a policy could not be sent') });
}

async function removeTaint(client: ApiClient, { startupTaint: key, node }: AgentSettings, log: Logger, signal: AbortSignal): Promise<void> {
  if (key === undefined) return;
  const { removeStartupTaint } = await import('../kubernetes/api/startup-taint.ts');
  const onError = (error: unknown): void =>
    log.warn({ ...errorFields(error), taint: key }, 'the startup taint cannot be removed; it is tried again');
  if (await removeStartupTaint({ client, node, key, signal, onError })) log.info({ taint: key }, 'the startup taint is removed');
}

async function openAccess(client: ApiClient) {
  const { MetricsAccess } = await import('../observability/metrics-access.ts');
  return new MetricsAccess(client);
}

/** Undefined where objects come from a directory. */
async function openClient({ source, kubeconfig, context }: AgentSettings): Promise<ApiClient | undefined> {
  if (source !== undefined) return undefined;
  const { ApiClient } = await import('../kubernetes/api/client.ts');
  return await ApiClient.open({ file: kubeconfig, context, userAgent: `sluice/${packageJson.version}` });
}

async function openSource(
  { source: directory = '.' }: AgentSettings,
  client: ApiClient | undefined,
  log: Logger,
  metrics: AgentMetrics | undefined,
): Promise<Source> {
  if (client === undefined) {
    const { DirectorySource } = await import('../sources/directory.ts');
    return new DirectorySource(directory);
  }
  const [{ KubernetesSource }, { WatchLog }] = await Promise.all([
    import('../sources/kubernetes.ts'),
    import('../observability/watch-log.ts'),
  ]);
  const watchLog = new WatchLog(log);
  return new KubernetesSource({
    client,
    observer: {
      failed(kind, error, retryMs) {
        watchLog.failed(kind, error, retryMs);
        metrics?.watchFailed(kind, error);
      },
      heard(kind) {
        watchLog.heard(kind);
        metrics?.heard(kind);
      },
      listing(kind, reason) {
        watchLog.listing(kind, reason);
        metrics?.listing(kind, reason);
      },
      listed(kind, count) {
        watchLog.listed(kind, count);
        metrics?.listed(kind, count);
      },
    },
  });
}

/** Said before anything is done: once rules are in force, a file that cannot be written helps nobody. */
function checkDirectory(statusFile: string): void {
  try {
    accessSync(dirname(statusFile), constants.W_OK);
  } catch (error) {
    throw new SluiceError('STATUS_FILE', `the status file ${statusFile} cannot be written`, {
      hint: `Its directory ${dirname(statusFile)} has to exist and be writable.`,
      exitStatus: 2,
      cause: error,
    });
  }
}
