import assert from 'node:assert/strict';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, relative, resolve } from 'node:path';
import { parseAllDocuments } from 'yaml';
import { ApiServer, findPrograms } from '../../src/lab/api/api-server.ts';
import { run } from '../../src/lab/namespaces.ts';
import { eventually } from '../kernel/support/eventually.ts';
import { describeWithApi } from './support/describe-with-api.ts';

const MANIFESTS = resolve(import.meta.dirname, '../../manifests');
const OVERLAYS = readdirSync(join(MANIFESTS, 'overlays'));

type Fields = Readonly<Record<string, unknown>>;

interface Container {
  readonly name: string;
  readonly image: string;
  readonly args: readonly string[];
  readonly securityContext: Readonly<Record<string, unknown>>;
  readonly env: readonly { readonly name: string; readonly valueFrom?: unknown }[];
  readonly volumeMounts?: readonly { readonly name: string; readonly mountPath: string }[];
}

describeWithApi('the manifests', function () {
  this.timeout(60_000);
  let state: string;
  let api: ApiServer;

  before(async () => {
    state = mkdtempSync(join(tmpdir(), 'sluice-api-'));
    api = await ApiServer.start({ state });
  });

  after(async () => {
    await api?.close();
    rmSync(state, { recursive: true, force: true });
  });

  /** @param directory below manifests/, or an absolute one */
  async function built(directory: string): Promise<readonly Fields[]> {
    const { stdout } = await run(undefined, [join(findPrograms(), 'kubectl'), 'kustomize', resolve(MANIFESTS, directory)]);
    return parseAllDocuments(stdout).map((document) => document.toJS() as Fields);
  }

  interface DaemonSetPod {
    readonly pod: Record<string, unknown>;
    readonly container: Container;
    readonly containers: readonly Container[];
  }

  function containerOf(objects: readonly Fields[]): DaemonSetPod {
    const daemonSet = objects.find(({ kind }) => kind === 'DaemonSet') ?? assert.fail('no DaemonSet');
    const pod = (daemonSet['spec'] as { template: { spec: Record<string, unknown> } }).template.spec;
    const containers = pod['containers'] as [Container];
    return { pod, container: containers[0], containers };
  }

  /** An overlay of ours with components, as somebody else would write it; its directory. */
  function composed(name: string, base: string, components: readonly string[]): string {
    const directory = join(state, name);
    mkdirSync(directory);
    const manifests = relative(directory, MANIFESTS);
    const kustomization = { resources: [`${manifests}/${base}`], components: components.map((each) => `${manifests}/components/${each}`) };
    writeFileSync(join(directory, 'kustomization.yaml'), JSON.stringify(kustomization));
    return directory;
  }

  /** Gives all to the API server, which checks it strictly. @returns what kubectl says of it */
  async function dryRun(directory: string): Promise<string> {
    const kubectl = [api.kubectl, '--kubeconfig', api.kubeconfig('admin')];
    // What the rest is in has to be there for a dry run.
    await run(undefined, [...kubectl, 'apply', '-f', join(MANIFESTS, 'base/namespace.yaml')]);
    const apply = ['apply', '--server-side', '--dry-run=server', '--validate=strict', '-k', directory];
    return (await run(undefined, [...kubectl, ...apply])).stdout;
  }

  for (const overlay of OVERLAYS) {
    it(`${overlay}: the API server takes all of it, strictly`, async () => {
      const stdout = await dryRun(join(MANIFESTS, 'overlays', overlay));
      for (const kind of ['daemonset.apps/sluice', 'serviceaccount/sluice', 'clusterrole.rbac.authorization.k8s.io/sluice'])
        assert.match(stdout, new RegExp(kind));
    });
  }

  it('give the agent CAP_NET_ADMIN and nothing else', async () => {
    const { pod, container } = containerOf(await built('base'));
    assert.equal(pod['hostNetwork'], true);
    assert.equal(pod['priorityClassName'], 'system-node-critical');
    assert.deepEqual(pod['securityContext'], { seccompProfile: { type: 'RuntimeDefault' } });
    assert.deepEqual(container.securityContext, {
      runAsUser: 0,
      runAsGroup: 0,
      privileged: false,
      allowPrivilegeEscalation: false,
      readOnlyRootFilesystem: true,
      capabilities: { drop: ['ALL'], add: ['NET_ADMIN'] },
    });
    // Of the node it has no files; what it mounts is the pod's own, for the socket of sluice observe.
    assert.deepEqual(pod['volumes'], [{ name: 'run', emptyDir: { medium: 'Memory', sizeLimit: '1Mi' } }]);
    assert.deepEqual(container.env, [{ name: 'NODE_NAME', valueFrom: { fieldRef: { fieldPath: 'spec.nodeName' } } }]);
  });

  it('let metrics be read with a token, and take a taint away, where these components are added', async () => {
    const directory = composed('overlay', 'base', ['metrics-token', 'startup-taint']);
    const objects = await built(directory);
    assert.deepEqual(containerOf(objects).container.args, [
      'agent',
      '--status-file=/run/sluice/status.json',
      '--metrics-address=:9477',
      '--metrics-authentication=token',
      '--startup-taint=sluice/agent-not-ready',
    ]);
    const roles = objects.filter(({ kind }) => kind === 'ClusterRole').map(({ metadata }) => (metadata as Fields)['name']);
    assert.ok(roles.includes('sluice-metrics-access') && roles.includes('sluice-startup-taint'), roles.join());
  });

  describe('of canal', () => {
    const HOST_PATHS = ['/etc/cni/net.d', '/run/flannel'];

    function hostPaths(pod: Readonly<Record<string, unknown>>): readonly string[] {
      const volumes = pod['volumes'] as readonly { readonly hostPath?: { readonly path: string } }[];
      return volumes.flatMap(({ hostPath }) => (hostPath === undefined ? [] : [hostPath.path])).toSorted();
    }

    it('add the network to the agent, with CAP_NET_ADMIN and nothing else', async () => {
      const { pod, containers } = containerOf(await built('overlays/canal'));
      assert.deepEqual(
        containers.map(({ name, image }) => `${name} ${image}`),
        ['agent sluice:0.1.0', 'network sluice:0.1.0'],
      );
      const [agent, network] = containers;
      assert.deepEqual(network?.securityContext, agent?.securityContext);
      assert.deepEqual(network?.securityContext['capabilities'], { drop: ['ALL'], add: ['NET_ADMIN'] });
      assert.equal(network.securityContext['privileged'], false);
      assert.deepEqual(network.env, agent?.env);
      assert.deepEqual(pod['tolerations'], [{ operator: 'Exists' }]);
      assert.equal(pod['initContainers'], undefined);
    });

    it('give it of the node what it writes, and no program', async () => {
      const { pod, containers } = containerOf(await built('overlays/canal'));
      assert.deepEqual(hostPaths(pod), HOST_PATHS);
      assert.deepEqual(containers[0]?.volumeMounts, [{ name: 'run', mountPath: '/run/sluice' }]);
      assert.deepEqual(
        containers[1]?.volumeMounts?.map(({ mountPath }) => mountPath),
        ['/etc/kube-flannel', '/run/flannel', '/etc/cni/net.d'],
      );
    });

    it('call both as they can be called, on four ports of the node', async () => {
      const { containers } = containerOf(await built('overlays/canal'));
      const program = resolve(MANIFESTS, '../bin/sluice.js');
      const ports: string[] = [];
      for (const { args } of containers) {
        const { stdout } = await run(undefined, [process.execPath, program, ...args, '--print-config']);
        for (const [, port = ''] of stdout.matchAll(/^(?:\w+Address|healthzPort): .*?(\d+)"? /gm)) ports.push(port);
        if (args[0] === 'network') assert.match(stdout, /^ipMasq: true /m);
      }
      assert.deepEqual(ports.toSorted(), ['9477', '9478', '9479', '9480']);
    });

    it('ask at ports that are listened on', async () => {
      const { containers } = containerOf(await built('overlays/canal'));
      const network = containers[1] as unknown as Record<string, { readonly httpGet: unknown }>;
      for (const [probe, path] of [
        ['livenessProbe', '/healthz'],
        ['readinessProbe', '/readyz'],
      ] as const) {
        assert.deepEqual(network[probe]?.httpGet, { host: '127.0.0.1', port: 9480, path });
      }
    });

    it('have a network and a CNI configuration that are read without a word, the second being flannel’s', async () => {
      const { parseNetConf } = await import('../../src/network/net-conf.ts');
      const { conflist } = await import('../../src/network/cni/conflist.ts');
      const configMap = (await built('overlays/canal')).find(({ kind }) => kind === 'ConfigMap') ?? assert.fail('no ConfigMap');
      assert.equal((configMap['metadata'] as Fields)['name'], 'kube-flannel-cfg');
      const data = configMap['data'] as Readonly<Record<string, string>>;
      const conf = parseNetConf(data['net-conf.json'] ?? '', 'net-conf.json');
      assert.deepEqual([conf.backend.type, conf.enableNFTables, conf.warnings], ['vxlan', true, []]);
      const node = { mtu: 1450, subnets: [], networks: [], ipMasq: true, bridge: 'cni0' };
      assert.deepEqual(conflist({ ...node, template: JSON.parse(data['cni-conf.json'] ?? '') }), conflist(node));
    });

    it('are taken with every component, each for its own container', async () => {
      const directory = composed('canal', 'overlays/canal', ['metrics-token', 'startup-taint', 'tun', 'iptables']);
      const { pod, containers } = containerOf(await built(directory));
      assert.deepEqual(
        containers.map(({ args }) => args[0]),
        ['agent', 'network'],
      );
      assert.deepEqual(containers[0]?.args.slice(1), [
        '--status-file=/run/sluice/status.json',
        '--metrics-address=:9477',
        '--metrics-authentication=token',
        '--startup-taint=sluice/agent-not-ready',
      ]);
      assert.deepEqual(containers[0]?.securityContext['capabilities'], { drop: ['ALL'], add: ['NET_ADMIN'] });
      // Two components need the same one.
      assert.deepEqual(containers[1]?.securityContext['capabilities'], { drop: ['ALL'], add: ['NET_ADMIN', 'NET_RAW', 'NET_RAW'] });
      assert.equal(containers[1]?.securityContext['privileged'], false);
      assert.deepEqual(hostPaths(pod), ['/dev/net/tun', ...HOST_PATHS, '/run/xtables.lock']);
      assert.deepEqual(containers[1]?.volumeMounts?.map(({ mountPath }) => mountPath).toSorted(), [
        '/dev/net/tun',
        '/etc/cni/net.d',
        '/etc/kube-flannel',
        '/run/flannel',
        '/run/xtables.lock',
      ]);
      const stdout = await dryRun(directory);
      for (const kind of ['configmap/kube-flannel-cfg', 'clusterrole.rbac.authorization.k8s.io/sluice-network'])
        assert.match(stdout, new RegExp(kind));
    });

    it('let it read all nodes, write their status, and do nothing else', async () => {
      const admin = [api.kubectl, '--kubeconfig', api.kubeconfig('admin')];
      await run(undefined, [...admin, 'apply', '--server-side', '-k', join(MANIFESTS, 'overlays/canal')]);
      const verbs = ['get', 'list', 'watch', 'create', 'update', 'patch', 'delete'];
      const granted = async (resource: string): Promise<readonly string[]> => {
        const answers = await Promise.all(
          verbs.map(async (verb) => {
            const [name = '', subresource] = resource.split('/');
            const what = [verb, name, '--all-namespaces', ...(subresource === undefined ? [] : ['--subresource', subresource])];
            const agent = [api.kubectl, '--kubeconfig', api.kubeconfig('agent')];
            return (await run(undefined, [...agent, 'auth', 'can-i', ...what], { check: false })).stdout.trim() === 'yes';
          }),
        );
        return verbs.filter((_verb, index) => answers[index]);
      };
      // The API server follows its own roles a little later.
      await eventually(async () => (await granted('nodes')).join() === 'get,list,watch', 'nodes can be read');
      await eventually(async () => (await granted('nodes/status')).join() === 'patch', 'their status can be written');
      // As the agent needs them.
      await eventually(async () => (await granted('pods')).join() === 'list,watch', 'pods can be listed');
      for (const resource of ['pods/status', 'configmaps', 'secrets']) assert.deepEqual(await granted(resource), [], resource);
    });
  });

  it('have alerts that Prometheus can read', async () => {
    const { stdout } = await run(undefined, ['promtool', 'check', 'rules', join(MANIFESTS, 'monitoring/alerts.yaml')]);
    assert.match(stdout, /SUCCESS: \d+ rules found/);
  });

  it('have a dashboard and alerts that ask for no metric that the agent does not have, in queries that Prometheus can read', async () => {
    const { AgentMetrics } = await import('../../src/observability/metrics.ts');
    const { body } = await new AgentMetrics({ version: '0', byRule: true }).page();
    const known = new Set(
      [...body.matchAll(/^# TYPE (\S+) (\S+)$/gm)].flatMap(([, name = '', type]) => (type === 'histogram' ? [`${name}_bucket`] : [name])),
    );
    const dashboard = JSON.parse(readFileSync(join(MANIFESTS, 'monitoring/dashboard.json'), 'utf8')) as {
      panels: { title: string; targets: { expr: string }[] }[];
    };
    const queries = dashboard.panels.flatMap(({ targets }) => targets.map(({ expr }) => expr));
    assert.ok(queries.length > 12);
    const alerts = readFileSync(join(MANIFESTS, 'monitoring/alerts.yaml'), 'utf8');
    for (const [name] of [...queries, alerts].join('\n').matchAll(/\b(sluice|process)_[a-z_]+/g)) assert.ok(known.has(name), name);
    // As rules, with Grafana's own words put in.
    const rules = queries.map((expr, index) => ({
      record: `q:${index}`,
      expr: expr.replaceAll('$__rate_interval', '5m').replaceAll('$instance', '.*'),
    }));
    const file = join(state, 'queries.yaml');
    writeFileSync(file, JSON.stringify({ groups: [{ name: 'dashboard', rules }] }));
    const { stdout } = await run(undefined, ['promtool', 'check', 'rules', file]);
    assert.match(stdout, new RegExp(`SUCCESS: ${queries.length} rules found`));
  });
});
