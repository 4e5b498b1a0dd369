/**
 * flanneld or `sluice network` on a node, as a process in the node's network namespace. Both get the same flags; what one of them needs
 * beside those, and how it says that it is ready, is here and nowhere else.
 */
import assert from 'node:assert/strict';
import type { ChildProcess } from 'node:child_process';
import { closeSync, openSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { spawnIn } from '../../../../src/lab/namespaces.ts';
import { PROGRAM } from '../../../kernel/support/agent-process.ts';
import { eventually } from '../../../kernel/support/eventually.ts';
import { findFlanneld } from './describe-with-flanneld.ts';

export const DAEMON_KINDS = ['flanneld', 'sluice'] as const;
export type DaemonKind = (typeof DAEMON_KINDS)[number];

export interface DaemonOptions {
  readonly node: string;
  readonly netns: string;
  readonly kubeconfig: string;
  /** net-conf.json */
  readonly netConf: string;
  readonly subnetFile: string;
  /** The node's own directory: what a daemon writes beside the subnet file goes here. */
  readonly state: string;
  /** Keeps the log apart from others'. */
  readonly name: string;
}

interface Program {
  command(options: DaemonOptions): readonly string[];
  /** What its log says when the node's object and the subnet file are written. */
  readonly ready: RegExp;
}

const PROGRAMS: Readonly<Record<DaemonKind, Program>> = {
  flanneld: {
    command: () => [findFlanneld() ?? assert.fail('there is no flanneld')],
    ready: /Waiting for all goroutines to exit/,
  },
  sluice: {
    command: ({ state }) => [process.execPath, PROGRAM, 'network', `--cni-conf-file=${join(state, '10-flannel.conflist')}`],
    ready: /"message":"the network is ready"/,
  },
};

/** With SLUICE_INTEROP_BASELINE=1 flanneld runs in the place of sluice: what fails then is the tests' own fault. */
export const BASELINE = process.env['SLUICE_INTEROP_BASELINE'] === '1';

/** How much of a log is shown. */
const LINES = 15;
const COLUMNS = 300;

export class Daemon {
  readonly kind: DaemonKind;
  readonly node: string;
  readonly #log: string;
  readonly #ready: RegExp;
  readonly #process: ChildProcess;
  readonly #end: Promise<void>;
  #ended = false;

  constructor(kind: DaemonKind, options: DaemonOptions) {
    const { node, netns, kubeconfig, netConf, subnetFile, state, name } = options;
    const program = PROGRAMS[BASELINE ? 'flanneld' : kind];
    this.kind = kind;
    this.node = node;
    this.#log = join(state, `${name}.log`);
    this.#ready = program.ready;
    const log = openSync(this.#log, 'a');
    const flags = [
      '--kube-subnet-mgr',
      `--kubeconfig-file=${kubeconfig}`,
      `--net-config-path=${netConf}`,
      `--subnet-file=${subnetFile}`,
      '--iface=eth0',
      '--ip-masq',
      '--iptables-resync=1',
    ];
    this.#process = spawnIn(netns, [...program.command(options), ...flags], {
      stdio: ['ignore', log, log],
      env: { ...process.env, PATH: `${process.env['PATH'] ?? ''}:/usr/sbin:/sbin`, NODE_NAME: node },
    });
    closeSync(log);
    this.#end = new Promise((resolve) => {
      this.#process.once('exit', () => {
        this.#ended = true;
        resolve();
      });
    });
  }

  get running(): boolean {
    return !this.#ended;
  }

  /** What it has printed. */
  log(): string {
    return readFileSync(this.#log, 'utf8');
  }

  tail(): string {
    const lines = this.log().trimEnd().split('\n').slice(-LINES);
    // flanneld prints whole leases, byte by byte.
    return [`--- ${this.kind} on ${this.node}${this.running ? '' : ' (ended)'}`, ...lines.map((line) => line.slice(0, COLUMNS))].join('\n');
  }

  /** Waits until it has done for its own node what there is to do. */
  async ready(): Promise<void> {
    await eventually(
      () => {
        assert.ok(this.running, this.tail());
        return this.#ready.test(this.log());
      },
      () => `${this.kind} on ${this.node} is ready\n${this.tail()}`,
    );
  }

  async end(signal: NodeJS.Signals = 'SIGTERM'): Promise<void> {
    if (this.running) this.#process.kill(signal);
    await this.#end;
  }
}
