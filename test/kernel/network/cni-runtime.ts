/**
 * What a container runtime does with a CNI configuration list (CNI specification 0.3.1 to 1.0.0; libcni): one plugin after the other,
 * each with what the ones before it made, and backwards for the end. With the real plugins of the machine.
 */
import { existsSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { namespacePath, run } from '../../../src/lab/namespaces.ts';
import type { Conflist } from '../../../src/network/cni/conflist.ts';

/** Debian's, and where others have them. */
const DIRECTORIES = ['/usr/lib/cni', '/opt/cni/bin', '/usr/libexec/cni'];
const PLUGINS = ['bridge', 'host-local', 'portmap'];

export interface CniResult {
  readonly ips: readonly { readonly address: string; readonly gateway: string }[];
  readonly interfaces: readonly { readonly name: string; readonly mac: string; readonly sandbox?: string }[];
  readonly routes: readonly { readonly dst: string; readonly gw?: string }[];
}

/** Values that plugins get by what they declare in `capabilities`. */
export type RuntimeConfig = Readonly<Record<string, unknown>>;

export class CniRuntime {
  readonly #node: string;
  readonly #plugins: string;
  readonly #state: string;
  readonly #results = new Map<string, { readonly result: CniResult; readonly runtimeConfig: RuntimeConfig }>();

  /**
   * @param node the network namespace that plugins are called in
   * @param state an empty directory: the plugins' /var/lib
   */
  constructor(node: string, state: string) {
    const plugins = DIRECTORIES.find((directory) => PLUGINS.every((plugin) => existsSync(join(directory, plugin))));
    if (plugins === undefined) {
      throw new Error(`there is no ${PLUGINS.join(', no ')} in ${DIRECTORIES.join(', ')}; apt-get install containernetworking-plugins`);
    }
    this.#node = node;
    this.#plugins = plugins;
    this.#state = state;
    mkdirSync(state, { recursive: true });
  }

  /** Attaches a pod: a network namespace of the same name. @throws LabError with what the plugin said */
  async add(list: Conflist, pod: string, runtimeConfig: RuntimeConfig = {}): Promise<CniResult> {
    let result: CniResult | undefined;
    for (const index of list.plugins.keys()) {
      const { stdout } = await this.#call('ADD', list, index, pod, runtimeConfig, result);
      result = JSON.parse(stdout) as CniResult;
    }
    if (result === undefined) throw new Error('a list without plugins');
    this.#results.set(pod, { result, runtimeConfig });
    return result;
  }

  /** Detaches a pod, whether or not it was attached. */
  async del(list: Conflist, pod: string): Promise<void> {
    const { result, runtimeConfig } = this.#results.get(pod) ?? { result: undefined, runtimeConfig: {} };
    for (const index of [...list.plugins.keys()].toReversed()) await this.#call('DEL', list, index, pod, runtimeConfig, result);
    this.#results.delete(pod);
  }

  #call(
    command: 'ADD' | 'DEL',
    { name, cniVersion, plugins }: Conflist,
    index: number,
    pod: string,
    runtimeConfig: RuntimeConfig,
    prevResult: CniResult | undefined,
  ): ReturnType<typeof run> {
    const plugin = plugins[index] ?? { type: '' };
    const capabilities = (plugin['capabilities'] ?? {}) as Readonly<Record<string, boolean>>;
    const granted = Object.fromEntries(Object.entries(runtimeConfig).filter(([key]) => capabilities[key] === true));
    const conf = {
      ...plugin,
      name,
      cniVersion,
      ...(Object.keys(granted).length === 0 ? {} : { runtimeConfig: granted }),
      ...(prevResult === undefined ? {} : { prevResult }),
    };
    const environment = {
      CNI_COMMAND: command,
      CNI_CONTAINERID: `container-${pod}`,
      CNI_NETNS: namespacePath(pod),
      CNI_IFNAME: 'eth0',
      CNI_PATH: this.#plugins,
      CNI_ARGS: `IgnoreUnknown=1;K8S_POD_NAME=${pod}`,
    };
    // In a mount namespace of its own: plugins keep their records below /var/lib, which is the machine's.
    const own = ['unshare', '--mount', 'sh', '-c', `mount --bind ${this.#state} /var/lib && exec "$@"`, 'sh'];
    const variables = Object.entries(environment).map(([key, value]) => `${key}=${value}`);
    return run(this.#node, [...own, 'env', ...variables, join(this.#plugins, plugin.type)], { input: JSON.stringify(conf) });
  }
}
