/**
 * The agents of a lab: one `sluice agent` process in the network namespace of each node, its log and status in files of its own.
 */
import { closeSync, existsSync, mkdirSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ChildProcess } from 'node:child_process';
import type { StatusDocument } from '../observability/status.ts';
import { directoryRevision } from '../sources/directory.ts';
import { LabError } from './errors.ts';
import type { Lab } from './lab.ts';

const PROGRAM = fileURLToPath(new URL('../../bin/sluice.js', import.meta.url));
const POLL_MS = 10;

/** Where agents have their objects from. */
export interface AgentSource {
  /** What they are started with. */
  readonly args: readonly string[];
  /** What they say is in force when they have taken in everything that is there now. */
  revision(): string | Promise<string>;
}

export function directorySource(directory: string): AgentSource {
  return { args: ['--source', directory], revision: () => directoryRevision(directory) };
}

export interface AgentsOptions {
  readonly source: AgentSource;
  /** Where logs and status files go. */
  readonly state: string;
  /** Further arguments of `sluice agent`. */
  readonly args?: readonly string[];
}

interface RunningAgent {
  readonly node: string;
  readonly process: ChildProcess;
  readonly log: string;
  readonly statusFile: string;
  ended: string | undefined;
}

export class LabAgents {
  readonly #lab: Lab;
  readonly #options: AgentsOptions;
  readonly #agents = new Map<string, RunningAgent>();

  private constructor(lab: Lab, options: AgentsOptions) {
    this.#lab = lab;
    this.#options = options;
  }

  /** Starts one on every node, and waits until all are ready. @throws LabError `LAB_AGENT` with the end of its log where one is not */
  static async start(lab: Lab, options: AgentsOptions): Promise<LabAgents> {
    mkdirSync(options.state, { recursive: true });
    const agents = new LabAgents(lab, options);
    for (const { name } of lab.nodes) agents.launch(name);
    await Promise.all(lab.nodes.map(({ name }) => agents.ready(name)));
    return agents;
  }

  /** Starts the agent of a node, which must not be running. Its log goes on where the last one ended. */
  launch(node: string): void {
    const log = this.logFile(node);
    const statusFile = join(this.#options.state, `${node}.status.json`);
    const fd = openSync(log, 'a');
    const argv = [process.execPath, PROGRAM, 'agent', ...this.#options.source.args, '--node', node, '--status-file', statusFile];
    // Nodes of a lab have one /run between them.
    argv.push('--observe-socket', join(this.#options.state, `${node}.observe.sock`));
    const child = this.#lab.spawn(`node/${node}`, [...argv, ...(this.#options.args ?? [])], { stdio: ['ignore', fd, fd] });
    closeSync(fd);
    const agent: RunningAgent = { node, process: child, log, statusFile, ended: undefined };
    child.once('exit', (code, signal) => {
      agent.ended = signal ?? `status ${code}`;
    });
    this.#agents.set(node, agent);
  }

  logFile(node: string): string {
    return join(this.#options.state, `${node}.log`);
  }

  /** @throws LabError `LAB_AGENT` where none was ever started */
  #agent(node: string): RunningAgent {
    const agent = this.#agents.get(node);
    if (agent === undefined) throw new LabError('LAB_AGENT', `node ${node} has no agent`);
    return agent;
  }

  /** Process id of a node's agent, inside the sandbox. */
  pid(node: string): number {
    return this.#agent(node).process.pid ?? 0;
  }

  /** The last state that the agent wrote; undefined before the first. */
  status(node: string): StatusDocument | undefined {
    const { statusFile } = this.#agent(node);
    return existsSync(statusFile) ? (JSON.parse(readFileSync(statusFile, 'utf8')) as StatusDocument) : undefined;
  }

  /** @throws LabError `LAB_AGENT` where an agent has ended by itself */
  check(): void {
    for (const agent of this.#agents.values()) {
      if (agent.ended !== undefined) throw this.#failure(agent, `ended (${agent.ended})`);
    }
  }

  #failure(agent: RunningAgent, what: string): LabError {
    const lines = readFileSync(agent.log, 'utf8').trimEnd().split('\n').slice(-5);
    return new LabError('LAB_AGENT', `the agent of node ${agent.node} ${what}; its log ends with:\n${lines.join('\n')}`);
  }

  /** Waits until the agent says that its rules are in force. */
  async ready(node: string, timeoutMs = 30_000): Promise<void> {
    const agent = this.#agent(node);
    const before = performance.now();
    while (this.status(node)?.ready !== true) {
      if (agent.ended !== undefined) throw this.#failure(agent, `ended (${agent.ended})`);
      if (performance.now() - before > timeoutMs) throw this.#failure(agent, `is not ready after ${timeoutMs / 1000} s`);
      await sleep(POLL_MS);
    }
  }

  /** Waits until every agent has in force what is there now; false where one has not within the time. */
  async inForce(withinMs: number): Promise<boolean> {
    const revision = await this.#options.source.revision();
    const until = performance.now() + withinMs;
    for (const node of this.#agents.keys()) {
      while (!(this.status(node)?.ready === true && this.status(node)?.revision === revision)) {
        this.check();
        if (performance.now() > until) return false;
        await sleep(POLL_MS);
      }
    }
    return true;
  }

  /** Sends a signal to a node's agent, and waits until it has ended. */
  async end(node: string, signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    const agent = this.#agent(node);
    this.#agents.delete(node);
    if (agent.ended !== undefined) return;
    const ended = new Promise((resolve) => {
      agent.process.once('exit', resolve);
    });
    agent.process.kill(signal);
    await ended;
  }

  /** Ends all of them; what is in the kernel stays. */
  async endAll(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    await Promise.all([...this.#agents.keys()].map((node) => this.end(node, signal)));
  }
}

function sleep(ms: number): Promise<void> {
  return new Promise((resolve) => {
    setTimeout(resolve, ms);
  });
}
