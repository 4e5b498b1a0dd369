/** `sluice doctor`: what is wrong with the pod network of this node, and what mends it. Looks at the node and at the leases. */
import { readFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { Command, Option } from 'commander';
import packageJson from '../../package.json' with { type: 'json' };
import { examine } from '../doctor/checks.ts';
import { collect } from '../doctor/collect.ts';
import { readClusterLeases, readDirectoryLeases } from '../doctor/collect-leases.ts';
import type { LeaseRecords, NodeSettings, Reading } from '../doctor/evidence.ts';
import { isInOrder } from '../doctor/report.ts';
import { word } from '../doctor/shell-text.ts';
import { doctorTable } from '../doctor/table.ts';
import { SluiceError, systemErrorCode } from '../errors.ts';
import type { ApiClient } from '../kubernetes/api/client.ts';
import { ApiError } from '../kubernetes/api/errors.ts';
import { type NetConf, parseNetConf } from '../network/net-conf.ts';
import { annotationNames } from '../network/node-lease.ts';
import { paintFor } from '../output/colour.ts';
import { isFields } from '../policy/problems.ts';
import { type NetworkSettings, readSettings, settingOptions } from './network-settings.ts';

/** Those of `sluice network` that say what there should be. */
const SETTINGS: ReadonlySet<string> = new Set<keyof NetworkSettings>([
  'netConfigPath',
  'kubeconfigFile',
  'kubeApiUrl',
  'kubeAnnotationPrefix',
  'node',
  'leaseDir',
  'iface',
  'ifaceRegex',
  'ifaceCanReach',
  'publicIp',
  'publicIpv6',
  'subnetFile',
  'bridge',
  'cniConfFile',
]);

/** Where container runtimes, and Debian, have the plugins. */
const CNI_BIN_DIRS = ['/opt/cni/bin', '/usr/lib/cni'];
/** Of a terminal that does not say, and of a pipe: what fits anywhere. */
const WIDTH = 80;
/** What takes longer is said to be under way. */
const PATIENCE_MS = 1_000;

type DoctorFlags = Readonly<Record<string, unknown>> & {
  readonly output: 'table' | 'json';
  readonly probe?: true;
  readonly cniBinDir: readonly string[];
  readonly config?: string;
};

export function command(): Command {
  const doctor = new Command('doctor').description(
    'What is wrong with the pod network of this node, and the commands that mend it, whichever daemon makes the network: sluice network ' +
      'or flanneld. Looks at the kernel, at files, and at the leases of the nodes; changes nothing.',
  );
  for (const option of settingOptions()) if (SETTINGS.has(option.attributeName())) doctor.addOption(option);
  return doctor
    .addOption(
      new Option('--cni-bin-dir <directory...>', 'where the container runtime looks for plugins').default(
        CNI_BIN_DIRS,
        CNI_BIN_DIRS.join(', '),
      ),
    )
    .option('--probe', 'also send each peer a few echo requests, as large as packets between nodes get; otherwise nobody hears of this')
    .addOption(new Option('-o, --output <format>', 'for people or for programs').choices(['table', 'json']).default('table'))
    .option('--config <file>', 'the settings of sluice network, as YAML (also: $SLUICE_CONFIG)')
    .addHelpText(
      'after',
      '\nFlags are those of the network daemon: what that was started with is to be said here too. Each can be given in the environment, as for ' +
        'sluice network.\nExit status: 0 in order, 1 when something is wrong or could not be looked at, 2 called wrongly.',
    )
    .action(run);
}

async function run(flags: DoctorFlags): Promise<void> {
  const { output, probe = false, cniBinDir, config = process.env['SLUICE_CONFIG'], ...given } = flags;
  const { settings } = readSettings(given, process.env, config);
  // Before anything is waited for: a wrong one is a wrong call.
  annotationNames(settings.kubeAnnotationPrefix);
  const conf = parseNetConf(readNetConf(settings.netConfigPath), settings.netConfigPath);
  const progress = new Progress();
  const { client, blind } = await openClient(settings);
  try {
    const node = settings.node ?? (client === undefined ? undefined : await nodeOfPod(client)) ?? hostname();
    const evidence = await collect({
      settings: nodeSettings(settings, node, conf, cniBinDir),
      conf,
      readLeases: async () => await readLeases(settings, node, conf, client, blind),
      probes: probe,
      onStep: (doing) => progress.step(doing, probe && doing.startsWith('sending')),
    });
    progress.step('comparing what there is with what there should be');
    const report = examine(evidence);
    progress.end();
    if (!isInOrder(report)) process.exitCode = 1;
    if (output === 'json') process.stdout.write(`${JSON.stringify(report, undefined, 2)}\n`);
    else {
      const { stdout } = process;
      const width = stdout.columns > 0 ? stdout.columns : WIDTH;
      for (const line of doctorTable(node, report, paintFor(stdout), width)) stdout.write(`${line}\n`);
    }
  } finally {
    progress.end();
    client?.close();
  }
}

function nodeSettings(settings: NetworkSettings, node: string, conf: NetConf, cniBinDirs: readonly string[]): NodeSettings {
  const { kubeconfigFile, kubeApiUrl } = settings;
  return {
    node,
    netConfigPath: settings.netConfigPath,
    annotationPrefix: settings.kubeAnnotationPrefix,
    kubectl: [
      'kubectl',
      ...(kubeconfigFile === undefined ? [] : [`--kubeconfig ${word(kubeconfigFile)}`]),
      ...(kubeApiUrl === undefined ? [] : [`--server ${word(kubeApiUrl)}`]),
    ].join(' '),
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
    bridge: settings.bridge,
    cniConfFile: settings.cniConfFile,
    cniBinDirs,
  };
}

function readNetConf(path: string): string {
  try {
    return readFileSync(path, 'utf8');
  } catch (cause) {
    throw new SluiceError(
      'NET_CONF_UNREADABLE',
      `the network configuration ${path} cannot be read: ${systemErrorCode(cause) ?? String(cause)}`,
      {
        hint:
          'Name it with --net-config-path. In a cluster it is in a ConfigMap:\n' +
          String.raw`kubectl -n kube-flannel get configmap kube-flannel-cfg -o jsonpath='{.data.net-conf\.json}' > net-conf.json`,
        exitStatus: 2,
        cause,
      },
    );
  }
}

/** `blind`: why the cluster cannot be asked, where nobody has said how to. */
async function openClient({
  leaseDir,
  kubeconfigFile,
  kubeApiUrl,
}: NetworkSettings): Promise<{ readonly client?: ApiClient; readonly blind?: string }> {
  if (leaseDir !== undefined) return {};
  const { ApiClient } = await import('../kubernetes/api/client.ts');
  try {
    return { client: await ApiClient.open({ file: kubeconfigFile, server: kubeApiUrl, userAgent: `sluice/${packageJson.version}` }) };
  } catch (error) {
    if (!(error instanceof SluiceError) || kubeconfigFile !== undefined || kubeApiUrl !== undefined) throw error;
    return { blind: `the leases cannot be read: ${error.message} (--kubeconfig-file, --lease-dir)` };
  }
}

/** As the network daemon finds out where it runs; undefined where nobody says, or the server does not answer. */
async function nodeOfPod(client: ApiClient): Promise<string | undefined> {
  const { POD_NAME: name, POD_NAMESPACE: namespace } = process.env;
  if (name === undefined || namespace === undefined) return undefined;
  try {
    const path = `/api/v1/namespaces/${encodeURIComponent(namespace)}/pods/${encodeURIComponent(name)}`;
    const { object } = await client.call({ method: 'GET', path });
    const spec = isFields(object) ? object['spec'] : undefined;
    const node = isFields(spec) ? spec['nodeName'] : undefined;
    return typeof node === 'string' && node !== '' ? node : undefined;
  } catch (error) {
    // Reading the leases will say what is wrong.
    if (error instanceof ApiError) return undefined;
    throw error;
  }
}

async function readLeases(
  settings: NetworkSettings,
  node: string,
  conf: NetConf,
  client: ApiClient | undefined,
  blind: string | undefined,
): Promise<Reading<LeaseRecords>> {
  if (settings.leaseDir !== undefined) return readDirectoryLeases(settings.leaseDir, node, conf);
  if (client === undefined) return { blind: blind ?? 'the leases cannot be read' };
  const origin = settings.kubeApiUrl ?? settings.kubeconfigFile ?? 'the API server';
  return await readClusterLeases({ client, origin, node, conf, prefix: settings.kubeAnnotationPrefix });
}

/** What is being done, on stderr, once it has taken more than {@link PATIENCE_MS}. */
class Progress {
  readonly #startedAt = performance.now();
  readonly #paint = paintFor(process.stderr);
  #doing: string | undefined;
  #timer: NodeJS.Timeout | undefined = setTimeout(() => this.#tell(), PATIENCE_MS);

  /** @param isSlow it will take long, with nothing else done meanwhile */
  step(doing: string, isSlow = false): void {
    this.#doing = doing;
    if (isSlow || performance.now() - this.#startedAt > PATIENCE_MS) this.#tell();
  }

  end(): void {
    clearTimeout(this.#timer);
    this.#timer = undefined;
  }

  #tell(): void {
    if (this.#doing !== undefined) process.stderr.write(`${this.#paint('dim', `${this.#doing} …`)}\n`);
    this.#doing = undefined;
  }
}
