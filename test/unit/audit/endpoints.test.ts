import assert from 'node:assert/strict';
import { type Endpoint, namespacesOf, parseDestination, resolveEndpoint } from '../../../src/audit/endpoints.ts';
import type { Inventory } from '../../../src/audit/inventory.ts';
import { SluiceError } from '../../../src/errors.ts';
import { formatAddress } from '../../../src/policy/address.ts';
import { inventory } from './inventory-of.ts';

const SHOP = inventory(`
apiVersion: v1
kind: Namespace
metadata: { name: shop }
---
apiVersion: v1
kind: Pod
metadata: { name: web-1, namespace: shop, labels: { app: web } }
spec: { containers: [{ name: c, ports: [{ name: http, containerPort: 8080 }] }] }
status: { podIPs: [{ ip: 10.244.1.1 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: web-2, namespace: shop, labels: { app: web } }
spec: { containers: [{ name: c, ports: [{ name: http, containerPort: 9090 }] }] }
status: { podIPs: [{ ip: 10.244.1.2 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: web-0, namespace: shop, labels: { app: web } }
status: { phase: Succeeded, podIPs: [{ ip: 10.244.1.3 }] }
---
apiVersion: v1
kind: Pod
metadata: { name: other, namespace: deploy, labels: { app: other } }
status: { podIPs: [{ ip: 10.244.2.1 }] }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: web, namespace: shop }
spec: { selector: { matchLabels: { app: web } }, template: { metadata: { labels: { app: web } } } }
---
apiVersion: apps/v1
kind: Deployment
metadata: { name: other, namespace: default }
spec: { selector: { matchLabels: { app: x } }, template: { metadata: { labels: { app: x } } } }
---
apiVersion: v1
kind: Service
metadata: { name: web, namespace: shop }
spec: { clusterIP: 10.96.0.7, selector: { app: web }, ports: [{ port: 80, targetPort: http }] }
---
apiVersion: v1
kind: Service
metadata: { name: sliced, namespace: shop }
spec: { clusterIP: 10.96.0.8, selector: { app: web }, ports: [{ name: a, port: 80 }, { name: b, port: 81 }] }
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: { name: sliced-x, namespace: shop, labels: { kubernetes.io/service-name: sliced } }
ports: [{ name: a, port: 8080 }, { name: b, port: 8081 }]
endpoints:
  - { addresses: [10.244.1.1], conditions: { ready: true }, targetRef: { kind: Pod, name: web-1 } }
  - { addresses: [192.0.2.9], conditions: { ready: false } }
`);

function resolve(text: string, of: Inventory = SHOP, namespace = 'default'): Promise<Endpoint> {
  return resolveEndpoint(of, text, namespace);
}

/** What is said of a name that stands for nothing, or for too much. */
async function refusal(text: string, namespace = 'default'): Promise<string> {
  const error: unknown = await resolve(text, SHOP, namespace).then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  assert.ok(error instanceof SluiceError, `${text} stands for something`);
  assert.equal(error.exitStatus, 2);
  return `${error.code}: ${error.message} | ${error.hint}`;
}

function podNames(endpoint: Endpoint): string[] {
  return 'pods' in endpoint ? endpoint.pods.map(({ name }) => name) : [];
}

describe('the ends of a connection', () => {
  it('are pods, with their namespace or in the one that is given', async () => {
    assert.equal((await resolve('shop/web-1')).name, 'shop/web-1');
    assert.equal((await resolve('web-1', SHOP, 'shop')).name, 'shop/web-1');
    assert.equal((await resolve('pod/web-1', SHOP, 'shop')).name, 'shop/web-1');
    assert.equal((await resolve('shop/po/web-1')).name, 'shop/web-1');
  });

  it('are the pods of a workload that have not ended', async () => {
    const endpoint = await resolve('shop/deploy/web');
    assert.equal(endpoint.name, 'shop/deployment/web');
    assert.deepEqual(podNames(endpoint), ['web-1', 'web-2']);
    assert.deepEqual(podNames(await resolve('deployments/web', SHOP, 'shop')), ['web-1', 'web-2']);
  });

  it('are the pods of a namespace', async () => {
    assert.deepEqual(podNames(await resolve('ns/shop')), ['web-0', 'web-1', 'web-2']);
  });

  it('are addresses and blocks, host bits masked', async () => {
    assert.deepEqual((await resolve('10.0.0.1')).name, '10.0.0.1');
    assert.deepEqual((await resolve('10.0.0.1/8')).name, '10.0.0.0/8');
    assert.deepEqual((await resolve('fd00::0:1')).name, 'fd00::1');
  });

  it('are the endpoints of a Service, on the number that each pod gives its named port', async () => {
    const endpoint = await resolve('shop/svc/web');
    assert.ok(endpoint.kind === 'service');
    assert.deepEqual(
      endpoint.backends.map(({ address, port, protocol, pod }) => [formatAddress(address), port, protocol, pod?.name]),
      [
        ['10.244.1.1', 8080, 'TCP', 'web-1'],
        ['10.244.1.2', 9090, 'TCP', 'web-2'],
      ],
    );
  });

  it('are those of its EndpointSlices where it has any, pods or not, ready or not', async () => {
    const endpoint = await resolve('shop/svc/sliced');
    assert.ok(endpoint.kind === 'service');
    assert.deepEqual(
      endpoint.backends.map(({ servicePort, address, port, pod, ready }) => [
        servicePort.port,
        formatAddress(address),
        port,
        pod?.name,
        ready,
      ]),
      [
        [80, '10.244.1.1', 8080, 'web-1', true],
        [80, '192.0.2.9', 8080, undefined, false],
        [81, '10.244.1.1', 8081, 'web-1', true],
        [81, '192.0.2.9', 8081, undefined, false],
      ],
    );
  });

  it('that are not there come with the name that was probably meant', async () => {
    assert.match(await refusal('shop/web-3'), /^NAME_UNKNOWN: there is no pod web-3 in namespace shop .*Perhaps shop\/web-0 is meant/u);
    assert.match(await refusal('shpo/web-1'), /There is no namespace shpo; perhaps shop is meant/u);
    assert.match(await refusal('shop/deploy/wbe'), /no Deployment wbe in namespace shop .*Perhaps web is meant/u);
    assert.match(await refusal('ns/shpo'), /perhaps shop is meant/u);
  });

  it('that begin names of pods are answered with these, and with the workload', async () => {
    assert.match(await refusal('shop/web'), /Pods that begin so: web-0, web-1, web-2\. All pods of a Deployment are shop\/deploy\/web/u);
  });

  it('that are somewhere else come with the namespace', async () => {
    assert.match(await refusal('shop/other'), /There is deploy\/other/u);
  });

  it('that may be two things have to be said', async () => {
    const said = await refusal('deploy/other');
    assert.match(said, /^NAME_AMBIGUOUS: "deploy\/other" may be the Deployment default\/deployment\/other or the pod deploy\/other/u);
    assert.match(said, /Say which: default\/deployment\/other or deploy\/pod\/other/u);
    assert.equal((await resolve('deploy/pod/other')).name, 'deploy/other');
  });

  it('that are no names are refused before anybody is asked', async () => {
    for (const text of ['', 'a/b/c/d', 'shop/thing/web', '10.0.0.300', 'shop/', 'a b', '../x']) {
      assert.match(await refusal(text), /^NAME_INVALID|^NAME_UNKNOWN/u, text);
    }
  });

  it('that look like something else are answered with what is wrong with that', async () => {
    assert.equal(await refusal('10.0.0.0/33'), 'NAME_INVALID: "10.0.0.0/33" is no block of addresses | Right are 10.0.0.0/8 and fd00::/8.');
    assert.match(await refusal('shop/web-1:80'), /^NAME_INVALID: .* Only a destination has a port\.$/u);
  });

  it('tell which namespaces have to be read', () => {
    assert.deepEqual(namespacesOf('shop/web', 'default'), ['shop']);
    assert.deepEqual(namespacesOf('svc/web', 'default'), ['default', 'svc']);
    assert.deepEqual(namespacesOf('ns/shop', 'default'), ['shop', 'ns']);
    assert.deepEqual(namespacesOf('10.0.0.0/8', 'default'), []);
  });
});

describe('a destination', () => {
  it('may have a port, and a protocol', () => {
    assert.deepEqual(parseDestination('shop/db:5432'), { name: 'shop/db', port: { kind: 'port', port: 5432, protocol: undefined } });
    assert.deepEqual(parseDestination('dns:53/udp'), { name: 'dns', port: { kind: 'port', port: 53, protocol: 'UDP' } });
    assert.deepEqual(parseDestination('web:http'), { name: 'web', port: { kind: 'port', port: 'http', protocol: undefined } });
    assert.deepEqual(parseDestination('web:ICMP'), { name: 'web', port: { kind: 'icmp' } });
    assert.deepEqual(parseDestination('shop/db'), { name: 'shop/db', port: undefined });
  });

  it('may be an IPv6 address, with a port in brackets', () => {
    assert.deepEqual(parseDestination('fd00::1'), { name: 'fd00::1', port: undefined });
    assert.deepEqual(parseDestination('fd00::/64'), { name: 'fd00::/64', port: undefined });
    assert.deepEqual(parseDestination('[fd00::1]:80/SCTP'), { name: 'fd00::1', port: { kind: 'port', port: 80, protocol: 'SCTP' } });
    assert.deepEqual(parseDestination('10.0.0.0/8:80'), { name: '10.0.0.0/8', port: { kind: 'port', port: 80, protocol: undefined } });
  });

  it('with a port that is none is refused', () => {
    for (const text of ['db:0', 'db:65536', 'db:', 'db:80/FTP', 'db:80/', 'db:-1', 'db:80/TCP/x', '[fd00::1]:x!']) {
      assert.throws(() => parseDestination(text), { code: 'DESTINATION_INVALID', exitStatus: 2 }, text);
    }
  });
});
