/**
 * A lab in which policies are enforced by real agents, one process a node, that watch one directory: objects are written there, and
 * are in force when both agents say so.
 */
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { directorySource, LabAgents } from '../../src/lab/agents.ts';
import { Lab } from '../../src/lab/lab.ts';
import { setSysctls } from '../../src/lab/namespaces.ts';
import type { ProbeResult } from '../../src/lab/prober/protocol.ts';
import { serviceScript } from '../../src/lab/services.ts';
import { formatAddress } from '../../src/policy/address.ts';
import { type World, worldOf } from '../../src/policy/world.ts';
import { directoryRevision } from '../../src/sources/directory.ts';
import { loadDirectory } from '../../src/sources/load-directory.ts';
import { type ApiObject, NODES } from './cluster.ts';
import { LAB_SPEC, manifestOf, objectName } from './lab-cluster.ts';
import { type Expectation, MASQUERADE, type Probe, SERVICES } from './probes.ts';

const POLL_MS = 5;
const IN_FORCE_MS = 30_000;
/** How long what should be denied is waited for after the last answer: many times what an answer takes. */
const GRACE_MS = 120;

/** Connection tracking forgets ended probes soon: thousands of them would be judged anew with every change. */
const SHORT_TIMEOUTS: Readonly<Record<string, string>> = {
  'net.netfilter.nf_conntrack_tcp_timeout_time_wait': '2',
  'net.netfilter.nf_conntrack_tcp_timeout_close': '2',
  'net.netfilter.nf_conntrack_tcp_timeout_close_wait': '2',
  'net.netfilter.nf_conntrack_tcp_timeout_last_ack': '2',
  'net.netfilter.nf_conntrack_icmp_timeout': '2',
  'net.netfilter.nf_conntrack_icmpv6_timeout': '2',
};

export class EnforcedLab {
  readonly lab: Lab;
  readonly #agents: LabAgents;
  readonly #state: string;
  readonly #directory: string;
  /** Text of each file in the directory. */
  readonly #written = new Map<string, string>();

  private constructor(lab: Lab, agents: LabAgents, state: string, directory: string) {
    this.lab = lab;
    this.#agents = agents;
    this.#state = state;
    this.#directory = directory;
  }

  static async create(): Promise<EnforcedLab> {
    const state = mkdtempSync(join(tmpdir(), 'sluice-random-'));
    const directory = join(state, 'cluster');
    mkdirSync(directory);
    const lab = await Lab.create(LAB_SPEC);
    try {
      const script = serviceScript(SERVICES) + MASQUERADE;
      await Promise.all(lab.nodes.map(({ name }) => lab.exec(`node/${name}`, ['nft', '-f', '-'], { input: script })));
      const agents = await LabAgents.start(lab, {
        source: directorySource(directory),
        state: join(state, 'agents'),
        args: ['--audit-namespaces'],
      });
      for (const { netns } of lab.nodes) setSysctls(netns, SHORT_TIMEOUTS);
      return new EnforcedLab(lab, agents, state, directory);
    } catch (error) {
      await lab.close();
      throw error;
    }
  }

  /** Makes the directory hold these objects, one a file; files of objects that are as before stay untouched. */
  write(objects: readonly ApiObject[]): void {
    const files = new Map(objects.map((object) => [`${objectName(object)}.yaml`, manifestOf(object)]));
    for (const name of this.#written.keys()) {
      if (files.has(name)) continue;
      rmSync(join(this.#directory, name));
      this.#written.delete(name);
    }
    for (const [name, text] of files) {
      if (this.#written.get(name) === text) continue;
      writeFileSync(join(this.#directory, name), text);
      this.#written.set(name, text);
    }
  }

  /** Waits until every agent has what the directory says now in force. @param state what that is, for the error */
  async inForce(state: string): Promise<void> {
    const revision = directoryRevision(this.#directory);
    const until = performance.now() + IN_FORCE_MS;
    for (const node of NODES) {
      for (;;) {
        this.#agents.check();
        const status = this.#agents.status(node);
        if (status?.ready === true && status.revision === revision) break;
        if (performance.now() > until) throw new Error(`${node} has not brought ${state} into force: ${JSON.stringify(status)}`);
        await sleep(POLL_MS);
      }
    }
  }

  /** What the directory says, read as a command would read it. */
  async world(): Promise<World> {
    return worldOf(await loadDirectory(this.#directory));
  }

  /** Ends the agent of a node as a crash would; its rules stay in the kernel. */
  kill(node: string): Promise<void> {
    return this.#agents.end(node, 'SIGKILL');
  }

  restart(node: string): void {
    this.#agents.launch(node);
  }

  probe(planned: readonly { readonly probe: Probe; readonly expectation: Expectation }[]): Promise<readonly ProbeResult[]> {
    return this.lab.probe(
      planned.map(({ probe: { from, to, via, port, protocol, family }, expectation: { allowed } }) => ({
        from,
        to: via === undefined ? to : formatAddress(via),
        port,
        protocol,
        family,
        expected: allowed ? 'allowed' : 'denied',
      })),
      { deadlineMs: 5000, graceMs: GRACE_MS },
    );
  }

  async close(): Promise<void> {
    await this.#agents.endAll('SIGKILL');
    await this.lab.close();
    rmSync(this.#state, { recursive: true, force: true });
  }
}
