/**
 * Where the API server is and who we are there: a kubeconfig, or a pod's service account, read by the KubeConfig of
 * `@kubernetes/client-node`, which knows certificates, tokens, token files, exec plugins, OIDC and proxies.
 */
import { registerHooks } from 'node:module';
import type { RequestOptions } from 'node:https';
import type { KubeConfig } from '@kubernetes/client-node';
import { SluiceError, systemErrorCode } from '../../errors.ts';

export interface KubeconfigOptions {
  /** Undefined: $KUBECONFIG, then ~/.kube/config, then the service account of the pod that this runs in; as kubectl, but for the last. */
  readonly file?: string | undefined;
  /** Undefined: the current one. */
  readonly context?: string | undefined;
  /** In place of the server that the file names. */
  readonly server?: string | undefined;
}

/** What every request needs, credentials included: fresh, for tokens expire. */
export interface Credentials {
  /** `https://10.96.0.1:443`, possibly with a path. */
  readonly server: URL;
  readonly options: RequestOptions;
}

export class Kubeconfig {
  readonly #options: KubeconfigOptions;
  #config: KubeConfig;

  private constructor(options: KubeconfigOptions, config: KubeConfig) {
    this.#options = options;
    this.#config = config;
  }

  /** @throws SluiceError `KUBECONFIG_UNREADABLE`, `KUBECONFIG_CONTEXT`, `KUBECONFIG_MISSING` */
  static async load(options: KubeconfigOptions): Promise<Kubeconfig> {
    return new Kubeconfig(options, await read(options));
  }

  /** Reads everything again: what the server no longer accepts may have been replaced. */
  async reload(): Promise<void> {
    this.#config = await read(this.#options);
  }

  async credentials(): Promise<Credentials> {
    const options: RequestOptions = { headers: {} };
    await this.#config.applyToHTTPSOptions(options);
    const cluster = this.#config.getCurrentCluster();
    // read() has seen to it that there is one.
    const server = new URL(cluster?.server ?? '');
    // The library's own agent is for proxies; it keeps the certificates that it was made with.
    if (cluster?.proxyUrl === undefined) delete options.agent;
    return { server, options };
  }
}

async function read({ file, context, server }: KubeconfigOptions): Promise<KubeConfig> {
  const { KubeConfig } = await loadLibrary();
  const config = new KubeConfig();
  const what = file ?? 'the default kubeconfig';
  try {
    if (file !== undefined) config.loadFromFile(file);
    else config.loadFromDefault();
  } catch (cause) {
    const fault = systemErrorCode(cause) ?? (cause instanceof Error ? cause.message.split('\n')[0] : String(cause));
    throw new SluiceError('KUBECONFIG_UNREADABLE', `the kubeconfig ${what} cannot be read: ${fault}`, {
      hint: 'Name a readable one with --kubeconfig, or a directory of manifests with --source.',
      exitStatus: 2,
      cause,
    });
  }
  if (context !== undefined) {
    if (config.getContextObject(context) === null) {
      const names = config.getContexts().map(({ name }) => name);
      throw new SluiceError('KUBECONFIG_CONTEXT', `${what} has no context ${context}`, {
        hint: names.length === 0 ? 'It has none at all.' : `It has: ${names.join(', ')}.`,
        exitStatus: 2,
      });
    }
    config.setCurrentContext(context);
  }
  const cluster = config.getCurrentCluster();
  if (server !== undefined && cluster !== null) Object.assign(cluster, { server, name: 'given' });
  // What the library makes up where it finds nothing.
  const isMadeUp = file === undefined && cluster?.server === 'http://localhost:8080' && cluster.name === 'cluster';
  if (cluster === null || isMadeUp) {
    throw new SluiceError('KUBECONFIG_MISSING', isMadeUp ? 'there is no kubeconfig, and no service account' : `${what} names no cluster`, {
      hint: 'Name a kubeconfig with --kubeconfig (or $KUBECONFIG), or a directory of manifests with --source.',
      exitStatus: 2,
    });
  }
  // Of a server without TLS there is nothing to verify; the library wants to be told.
  if (cluster.server.startsWith('http:')) Object.assign(cluster, { skipTLSVerify: true });
  return config;
}

let library: Promise<{ readonly KubeConfig: new () => KubeConfig }> | undefined;

/**
 * The one class of the library that is used. Its module also imports the generated classes of the whole API, for an API client that
 * nobody here makes: 600 files, 40 MB and 160 ms. They are left out.
 */
function loadLibrary(): NonNullable<typeof library> {
  library ??= (async () => {
    const hooks = registerHooks({
      resolve: (specifier, context, next) =>
        LEFT_OUT.includes(specifier) && context.parentURL?.endsWith('/@kubernetes/client-node/dist/config.js') === true
          ? { url: NOTHING, shortCircuit: true }
          : next(specifier, context),
    });
    try {
      // Not an import specifier: the types are those of the package's index.
      const module = new URL('config.js', import.meta.resolve('@kubernetes/client-node')).href;
      return (await import(module)) as { readonly KubeConfig: new () => KubeConfig };
    } finally {
      hooks.deregister();
    }
  })();
  return library;
}

const LEFT_OUT: readonly string[] = ['./gen/index.js', 'undici'];
const NOTHING = `data:text/javascript,${encodeURIComponent(
  'export const createConfiguration = undefined, ServerConfiguration = undefined, Agent = undefined, ProxyAgent = undefined;',
)}`;
