/**
 * A real kube-apiserver with a real etcd, on this machine and in this sandbox: for labs whose agents are fed by the API, and for tests.
 *
 * It listens on {@link API_ADDRESS}, an address of the loopback device of the sandbox; nodes of a lab have a cable of their own to it
 * ({@link ApiServer.connect}), beside their cluster's network. Certificates are the server's own, users have fixed tokens.
 */
import { type ChildProcess } from 'node:child_process';
import { generateKeyPairSync } from 'node:crypto';
import { closeSync, existsSync, mkdirSync, openSync, readFileSync, writeFileSync } from 'node:fs';
import { homedir } from 'node:os';
import { delimiter, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import { spawnSync } from 'node:child_process';
import { ApiClient } from '../../kubernetes/api/client.ts';
import { LabError } from '../errors.ts';
import type { Lab } from '../lab.ts';
import { run, spawnIn } from '../namespaces.ts';

/** Of the block for benchmarks (RFC 2544): no cluster has it. */
export const API_ADDRESS = '198.18.0.1';
/** The user that agents are: that of the service account in manifests/base. */
export const AGENT_USER = 'system:serviceaccount:sluice:sluice';

const START_MS = 60_000;
const POLL_MS = 50;
const SUBNET = '198.18';
const TOKENS = { admin: 'lab-admin', agent: 'lab-agent' } as const;

export interface ApiServerOptions {
  /** An empty directory, for certificates, storage, logs and kubeconfigs. */
  readonly state: string;
  /** Further flags of kube-apiserver. */
  readonly flags?: readonly string[];
  readonly port?: number;
}

export class ApiServer {
  readonly #state: string;
  readonly #programs: string;
  readonly #flags: readonly string[];
  readonly port: number;
  readonly #processes = new Map<string, ChildProcess>();
  #admin: ApiClient | undefined;
  #cables = 0;

  private constructor({ state, flags = [], port = 6443 }: ApiServerOptions, programs: string) {
    this.#state = state;
    this.#flags = flags;
    this.#programs = programs;
    this.port = port;
  }

  /** Resolves when it answers. @throws LabError `LAB_APISERVER_MISSING`, `LAB_APISERVER` with the end of its log */
  static async start(options: ApiServerOptions): Promise<ApiServer> {
    const server = new ApiServer(options, findPrograms());
    mkdirSync(options.state, { recursive: true });
    await run(undefined, ['ip', 'address', 'replace', `${API_ADDRESS}/32`, 'dev', 'lo']);
    server.#writeFiles();
    try {
      server.launchEtcd();
      await server.launch();
      return server;
    } catch (error) {
      await server.close();
      throw error;
    }
  }

  get url(): string {
    return `https://${API_ADDRESS}:${this.port}`;
  }

  get #etcdUrl(): string {
    return `http://127.0.0.1:${this.#etcdPort}`;
  }

  get #etcdPort(): number {
    return this.port + 10_000;
  }

  /** kubectl, of the same version. */
  get kubectl(): string {
    return join(this.#programs, 'kubectl');
  }

  #writeFiles(): void {
    const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
    writeFileSync(join(this.#state, 'service-accounts.key'), privateKey.export({ type: 'pkcs8', format: 'pem' }));
    const [, namespace] = AGENT_USER.split(':').slice(1);
    const tokens = [
      `${TOKENS.admin},admin,admin,system:masters`,
      `${TOKENS.agent},${AGENT_USER},agent,"system:serviceaccounts,system:serviceaccounts:${namespace}"`,
    ];
    writeFileSync(join(this.#state, 'tokens.csv'), `${tokens.join('\n')}\n`);
  }

  launchEtcd(): void {
    const peer = `http://127.0.0.1:${this.#etcdPort + 1}`;
    this.#spawn('etcd', [
      '--data-dir',
      join(this.#state, 'etcd'),
      '--unsafe-no-fsync',
      '--log-level=error',
      `--listen-client-urls=${this.#etcdUrl}`,
      `--advertise-client-urls=${this.#etcdUrl}`,
      `--listen-peer-urls=${peer}`,
      `--initial-advertise-peer-urls=${peer}`,
      `--initial-cluster=default=${peer}`,
    ]);
  }

  /** Starts kube-apiserver, which must not be running; resolves when it answers. */
  async launch(): Promise<void> {
    const file = (name: string): string => join(this.#state, name);
    const process = this.#spawn('kube-apiserver', [
      `--etcd-servers=${this.#etcdUrl}`,
      `--advertise-address=${API_ADDRESS}`,
      '--bind-address=0.0.0.0',
      `--secure-port=${this.port}`,
      `--cert-dir=${file('certificates')}`,
      `--token-auth-file=${file('tokens.csv')}`,
      '--service-account-issuer=https://kubernetes.default.svc',
      `--service-account-key-file=${file('service-accounts.key')}`,
      `--service-account-signing-key-file=${file('service-accounts.key')}`,
      '--service-cluster-ip-range=10.96.0.0/16',
      '--authorization-mode=RBAC',
      '--endpoint-reconciler-type=none',
      '--allow-privileged',
      // Nobody makes the service accounts that pods would need.
      '--disable-admission-plugins=ServiceAccount',
      ...this.#flags,
    ]);
    const until = performance.now() + START_MS;
    for (;;) {
      if (process.exitCode !== null || process.signalCode !== null) throw this.#failure('ended');
      if (existsSync(file('certificates/apiserver.crt'))) {
        this.#admin ??= await ApiClient.open({ file: this.kubeconfig('admin'), userAgent: 'sluice-lab' });
        if (await isReady(this.#admin)) return;
      }
      if (performance.now() > until) throw this.#failure(`is not ready after ${START_MS / 1000} s`);
      await sleep(POLL_MS);
    }
  }

  #failure(what: string): LabError {
    const lines = readFileSync(join(this.#state, 'kube-apiserver.log'), 'utf8').trimEnd().split('\n').slice(-5);
    return new LabError('LAB_APISERVER', `kube-apiserver ${what}; its log ends with:\n${lines.join('\n')}`);
  }

  #spawn(program: 'etcd' | 'kube-apiserver', args: readonly string[]): ChildProcess {
    const log = openSync(join(this.#state, `${program}.log`), 'a');
    const child = spawnIn(undefined, [join(this.#programs, program), ...args], { stdio: ['ignore', log, log] });
    closeSync(log);
    this.#processes.set(program, child);
    return child;
  }

  /** Ends one of the two, and waits until it has ended. */
  async kill(program: 'etcd' | 'kube-apiserver', signal: NodeJS.Signals = 'SIGKILL'): Promise<void> {
    const child = this.#processes.get(program);
    this.#processes.delete(program);
    if (child === undefined || child.exitCode !== null || child.signalCode !== null) return;
    const ended = new Promise((resolve) => {
      child.once('exit', resolve);
    });
    child.kill(signal);
    await ended;
  }

  /** Stops or goes on with a process without ending it: silence. */
  signal(program: 'etcd' | 'kube-apiserver', signal: 'SIGSTOP' | 'SIGCONT'): void {
    this.#processes.get(program)?.kill(signal);
  }

  /** Requests of somebody who may do everything. */
  get admin(): ApiClient {
    if (this.#admin === undefined) throw new Error('the API server has not been started');
    return this.#admin;
  }

  /** Path of a kubeconfig of a user; `url` for a way that leads there by somebody else, such as a proxy. */
  kubeconfig(user: keyof typeof TOKENS, { url = this.url, name = user }: { readonly url?: string; readonly name?: string } = {}): string {
    const path = join(this.#state, `${name}.kubeconfig`);
    const config = {
      apiVersion: 'v1',
      kind: 'Config',
      clusters: [
        {
          name: 'lab',
          cluster: {
            server: url,
            'certificate-authority': join(this.#state, 'certificates/apiserver.crt'),
            ...(url === this.url ? {} : { 'tls-server-name': 'kubernetes.default.svc' }),
          },
        },
      ],
      users: [{ name: user, user: { token: TOKENS[user] } }],
      contexts: [{ name: 'lab', context: { cluster: 'lab', user } }],
      'current-context': 'lab',
    };
    const text = JSON.stringify(config, undefined, 2);
    // Somebody may be reading it: it is not truncated for nothing.
    if (!existsSync(path) || readFileSync(path, 'utf8') !== text) writeFileSync(path, text);
    return path;
  }

  /** Gives each node of a lab a way to the API server that no policy is about. */
  async connect(lab: Lab): Promise<void> {
    for (const { netns } of lab.nodes) {
      const number = ++this.#cables;
      const [device, address] = [`api${this.port}-${number}`, `${SUBNET}.${number >> 8}.${(number & 255) + 1}`];
      await run(undefined, ['ip', 'link', 'add', device, 'type', 'veth', 'peer', 'name', 'api', 'netns', netns]);
      await run(undefined, ['ip', 'link', 'set', device, 'up']);
      await run(undefined, ['ip', 'route', 'add', `${address}/32`, 'dev', device]);
      await run(netns, ['ip', 'address', 'add', `${address}/32`, 'dev', 'api']);
      await run(netns, ['ip', 'link', 'set', 'api', 'up']);
      await run(netns, ['ip', 'route', 'add', `${API_ADDRESS}/32`, 'dev', 'api', 'src', address]);
    }
  }

  // --- etcd, behind the API server's back

  /** Writes an object as it is, past all that the API would check: what an old version may have stored. @param path below `/registry/` */
  async store(path: string, object: unknown): Promise<void> {
    await this.#etcd('/v3/kv/put', { key: base64(`/registry/${path}`), value: base64(JSON.stringify(object)) });
  }

  /** Forgets all history: watches that want to go on from before are told 410. */
  async compact(): Promise<void> {
    const { header } = (await this.#etcd('/v3/kv/range', { key: base64('/registry/none') })) as { header: { revision: string } };
    await this.#etcd('/v3/kv/compaction', { revision: header.revision, physical: true });
  }

  async #etcd(path: string, body: unknown): Promise<unknown> {
    const answer = await fetch(`${this.#etcdUrl}${path}`, { method: 'POST', body: JSON.stringify(body) });
    if (!answer.ok) throw new LabError('LAB_APISERVER', `etcd answers ${path} with ${answer.status}: ${await answer.text()}`);
    return await answer.json();
  }

  async close(): Promise<void> {
    this.#admin?.close();
    await this.kill('kube-apiserver');
    await this.kill('etcd');
  }
}

async function isReady(client: ApiClient): Promise<boolean> {
  return await client.call({ method: 'GET', path: '/readyz' }).then(
    () => true,
    () => false,
  );
}

function base64(text: string): string {
  return Buffer.from(text).toString('base64');
}

const PROGRAMS = ['kube-apiserver', 'etcd', 'kubectl'] as const;

/** Where the programs are: $SLUICE_APISERVER, where scripts/build-apiserver.sh keeps them, or the PATH. */
export function findPrograms(): string {
  const script = fileURLToPath(new URL('../../../scripts/build-apiserver.sh', import.meta.url));
  const built = (): string =>
    spawnSync('sh', [script, '--find'], { encoding: 'utf8', env: { HOME: homedir(), ...process.env } }).stdout.trim();
  const candidates = [process.env['SLUICE_APISERVER'] ?? '', built(), ...(process.env['PATH'] ?? '').split(delimiter)];
  const found = candidates.find((directory) => directory !== '' && PROGRAMS.every((program) => existsSync(join(directory, program))));
  if (found !== undefined) return found;
  throw new LabError('LAB_APISERVER_MISSING', `there is no ${PROGRAMS.join(', no ')} here`, {
    hint: 'Build them with: sh scripts/build-apiserver.sh   (needs Go; some four minutes, once)',
  });
}
