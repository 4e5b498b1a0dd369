/** Everything that checks look at, read once. Nothing on this node is changed, and nobody else hears of it unless peers are to be probed. */
import { dirname } from 'node:path';
import { SluiceError } from '../errors.ts';
import type { NetConf } from '../network/net-conf.ts';
import { isOverlayName } from '../network/devices.ts';
import type { Lease } from '../network/lease.ts';
import type { Address } from '../policy/address.ts';
import { readCniFiles, readLinkFiles, readText } from './collect-files.ts';
import { readKernelRelease, readModules, readSysctls, readTables } from './collect-kernel.ts';
import { readChecksumOffload } from './collect-offload.ts';
import { readLegacy, readRules } from './collect-rules.ts';
import type { Evidence, LeaseRecords, NodeSettings, Reading } from './evidence.ts';
import { type Echo, pathMtu, type PathProbe, probePaths } from './path-probe.ts';
import { familiesOfLease, planOf } from './plan.ts';

export interface CollectOptions {
  readonly settings: NodeSettings;
  readonly conf: NetConf;
  /** Reads the leases, from wherever they are. */
  readonly readLeases: () => Promise<Reading<LeaseRecords>>;
  /** Whether peers are sent echo requests. */
  readonly probes: boolean;
  /** What is being done now, as in `reading the nodes of the cluster`. */
  readonly onStep: (doing: string) => void;
}

export async function collect({ settings, conf, readLeases, probes, onStep }: CollectOptions): Promise<Evidence> {
  const kernelRelease = readKernelRelease();
  onStep('reading the leases');
  const leases = await readLeases();
  const peers = 'seen' in leases ? leases.seen.peers : [];
  onStep('reading links, routes and neighbours');
  const tables = readTables(peers, settings.interfaces);
  const links = 'seen' in tables ? tables.seen.links : [];
  const bridges = new Set(links.filter(({ kind }) => kind === 'bridge').map(({ index }) => index));
  const interfaces = links.filter(({ master }) => master === undefined || !bridges.has(master)).map(({ name }) => name);
  const sysctls = readSysctls(interfaces);
  onStep('reading the rules of the packet filters');
  const rules = readRules();
  const legacy = { 4: await readLegacy(4), 6: await readLegacy(6) };
  onStep('reading files');
  const evidence: Evidence = {
    settings,
    conf,
    kernelRelease,
    tables,
    sysctls,
    leases,
    subnetFile: settings.subnetFile === undefined ? { seen: undefined } : readText(settings.subnetFile),
    cni: readCniFiles(settings.cniConfFile === undefined ? '' : dirname(settings.cniConfFile), settings.cniBinDirs),
    rules,
    legacy,
    modules: readModules(kernelRelease),
    linkFiles: readLinkFiles(),
    checksumOffload: new Map(links.filter(({ name }) => isOverlayName(name)).map(({ name }) => [name, readChecksumOffload(name)])),
    paths: { seen: new Map() },
  };
  const plan = planOf(evidence);
  if (!('seen' in plan)) return evidence;
  const families = plan.seen.families.map(({ family }) => family);
  onStep(probes ? `sending echo requests to ${peers.length} peers` : 'asking the kernel for the ways to the peers');
  return { ...evidence, paths: readPaths(peers, (family) => families.includes(family), probes ? plan.seen.outerMtu : undefined) };
}

/** @param size of a probe; undefined: none is made */
function readPaths(
  peers: readonly Lease[],
  isUsed: (family: 4 | 6) => boolean,
  size: number | undefined,
): Reading<ReadonlyMap<Address, PathProbe>> {
  const addresses = new Set<Address>();
  for (const lease of peers)
    for (const [family, { publicAddress }] of familiesOfLease(lease)) if (isUsed(family)) addresses.add(publicAddress);
  let echoes: ReadonlyMap<Address, Echo> = new Map();
  try {
    if (size !== undefined) echoes = probePaths([...addresses], size);
  } catch (error) {
    if (error instanceof SluiceError) return { blind: `${error.message}. ${error.hint ?? ''}`.trim() };
    throw error;
  }
  // After the probe, which may have made a router tell.
  return { seen: new Map([...addresses].map((address) => [address, { mtu: pathMtu(address), echo: echoes.get(address) }])) };
}
