import assert from 'node:assert/strict';
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Server } from 'node:http';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { selectEndpoints } from '../../../src/commands/matrix-endpoints.ts';
import { gridOf } from '../../../src/commands/matrix-grid.ts';
import { matrixPage } from '../../../src/commands/matrix-page.ts';
import { Equivalence } from '../../../src/policy/equivalence.ts';
import type { Party } from '../../../src/policy/equivalence-parties.ts';
import { interpretPolicy } from '../../../src/policy/meaning.ts';
import { ipv4 } from '../../../src/policy/address.ts';
import type { Pod } from '../../../src/policy/objects.ts';
import { worldOf } from '../../../src/policy/world.ts';

/** What somebody may call a pod or a label who wants the page to run it, or to fetch something. */
const HOSTILE = '</script><script>document.title="taken"</script><!--<img src=http://127.0.0.1:1/x onerror=alert(1)>&lt;"\'';

function pod(namespace: string, name: string, host: number, labels: Readonly<Record<string, string>> = { app: name }): Pod {
  return {
    namespace,
    name,
    uid: `${namespace}/${name}`,
    node: 'n1',
    labels: new Map(Object.entries(labels)),
    addresses: [ipv4(0x0a00_0000 + host)],
    hostNetwork: false,
    terminal: false,
    createdAt: 0,
    ports: [],
    declaredPorts: [{ protocol: 'TCP', port: name === 'db' ? 5432 : 80 }],
  };
}

function page(pods: readonly Pod[]): string {
  const db = interpretPolicy('shop', 'db', {
    podSelector: { matchLabels: { app: 'db' } },
    ingress: [{ from: [{ podSelector: { matchLabels: { app: 'web' } } }] }],
  });
  const world = worldOf({ pods, policies: [db] });
  const equivalence = new Equivalence(world, pods);
  const { parties } = selectEndpoints([], pods, world);
  const portsOf = ({ pod }: Party) => (pod?.declaredPorts ?? []).map(({ protocol, port }) => ({ protocol, first: port, last: port }));
  const grid = gridOf({ equivalence, sources: parties, destinations: parties, portsOf, by: 'group' });
  return [...matrixPage({ grid, origin: 'the directory shop', by: 'group', missing: [] })].join('');
}

const PODS = [pod('shop', 'web', 1), pod('shop', 'db', 2), pod('dev', 'shell', 3)];

describe('the page of a matrix', () => {
  it('allows itself its own style and script, and nothing else', () => {
    const text = page(PODS);
    const [, policy = ''] = /http-equiv="Content-Security-Policy" content="([^"]*)"/u.exec(text) ?? [];
    const hash = (element: string): string => `'sha256-${createHash('sha256').update(element).digest('base64')}'`;
    const [, style = ''] = /<style>([^]*?)<\/style>/u.exec(text) ?? [];
    const scripts = [...text.matchAll(/<script>([^]*?)<\/script>/gu)].map(([, script = '']) => script);
    assert.equal(scripts.length, 1);
    assert.equal(
      policy,
      `default-src 'none'; style-src ${hash(style)}; script-src ${hash(scripts[0] ?? '')}; base-uri 'none'; form-action 'none'`,
    );
    // Nothing in it names another place.
    assert.doesNotMatch(text, /\b(?:src|href)=|url\(|@import|https?:|\bfetch\(|XMLHttpRequest|WebSocket/u);
  });

  it('has data that no name in it can break out of', () => {
    const text = page([...PODS, pod('shop', HOSTILE, 9, { [HOSTILE]: HOSTILE })]);
    assert.equal([...text.matchAll(/<script/gu)].length, 2);
    assert.equal([...text.matchAll(/<\/script/gu)].length, 2);
    assert.doesNotMatch(text, /<img|<!--</u);
    const [, json = ''] = /id="data">([^]*?)<\/script>/u.exec(text) ?? [];
    const data = JSON.parse(json) as { sources: { name: string; labels: Record<string, string> }[] };
    const hostile = data.sources.find(({ name }) => name === `shop/${HOSTILE}`);
    assert.deepEqual(hostile?.labels, { [HOSTILE]: HOSTILE });
  });

  it('says what the answer lacks', () => {
    const missing = [{ what: 'nodes', reason: 'HTTP 403 <b>', consequence: 'Addresses of nodes count as outside.' }];
    const equivalence = new Equivalence(worldOf({ pods: PODS }), PODS);
    const grid = gridOf({ equivalence, sources: [], destinations: [], portsOf: () => [], by: 'group' });
    const text = [...matrixPage({ grid, origin: 'the cluster', by: 'group', missing })].join('');
    const [, json = ''] = /id="data">([^]*?)<\/script>/u.exec(text) ?? [];
    const data = JSON.parse(json) as { notes: string[] };
    assert.deepEqual(data.notes, ['Missing are nodes: HTTP 403 <b>. Addresses of nodes count as outside.']);
  });

  it('has text that stands out from its ground by 4.5 at least, light and dark', () => {
    const [, style = ''] = /<style>([^]*?)<\/style>/u.exec(page(PODS)) ?? [];
    const schemes = [/:root \{([^}]*)\}/u, /:root\[data-theme="dark"\] \{([^}]*)\}/u].map((scheme) => {
      const colours = [...(scheme.exec(style)?.[1] ?? '').matchAll(/--([\w-]+): (#[0-9a-f]{6})/gu)];
      return new Map(colours.map(([, name = '', colour = '']) => [name, luminance(colour)]));
    });
    for (const colours of schemes) {
      for (const [text, ground] of [
        ['text', 'ground'],
        ['text', 'raised'],
        ['soft', 'ground'],
        ['soft', 'raised'],
        ['allowed', 'allowed-ground'],
        ['denied', 'denied-ground'],
        ['partly', 'partly-ground'],
        ['partly', 'ground'],
      ] as const) {
        const [a = 0, b = 0] = [colours.get(text), colours.get(ground)];
        const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
        assert.ok(contrast >= 4.5, `${text} on ${ground}: ${contrast.toFixed(2)}`);
      }
    }
  });
});

/** Relative luminance (WCAG 2.2). */
function luminance(colour: string): number {
  const [red = 0, green = 0, blue = 0] = [1, 3, 5].map((at) => {
    const part = Number.parseInt(colour.slice(at, at + 2), 16) / 255;
    return part <= 0.04045 ? part / 12.92 : ((part + 0.055) / 1.055) ** 2.4;
  });
  return 0.2126 * red + 0.7152 * green + 0.0722 * blue;
}

describe('the page of a matrix in a browser', function () {
  this.timeout(120_000);
  let directory: string;

  before(function () {
    if (spawnSync('chromium', ['--version']).error !== undefined) {
      console.log('    (no chromium here: the page was not opened)');
      this.skip();
    }
    directory = mkdtempSync(join(tmpdir(), 'sluice-page-'));
  });

  after(() => {
    if (directory !== undefined) rmSync(directory, { recursive: true, force: true });
  });

  /** The document as it is once the script has run. @param flags more of chromium's */
  async function dump(text: string, fragment: string, flags: readonly string[] = []): Promise<string> {
    const file = join(directory, 'page.html');
    writeFileSync(file, text);
    const child = spawn(
      'chromium',
      [
        '--headless=new',
        '--no-sandbox',
        '--disable-gpu',
        `--user-data-dir=${join(directory, 'profile')}`,
        '--window-size=1440,900',
        '--virtual-time-budget=5000',
        ...flags,
        '--dump-dom',
        `${pathToFileURL(file).href}${fragment}`,
      ],
      { stdio: ['ignore', 'pipe', 'ignore'] },
    );
    let out = '';
    for await (const chunk of child.stdout.setEncoding('utf8')) out += String(chunk);
    return out;
  }

  /** Labels of the cells that are drawn. */
  function cells(dom: string): string[] {
    return [...dom.matchAll(/<div class="cell (?:allowed|denied|partly)[^"]*"[^>]*aria-label="([^"]*)"/gu)]
      .map(([, label = '']) => label)
      .sort();
  }

  it('shows every pair', async () => {
    assert.deepEqual(cells(await dump(page(PODS), '')), [
      'dev/shell to shop/db: denied',
      'dev/shell to shop/web: allowed',
      'shop/db to dev/shell: allowed',
      'shop/db to shop/web: allowed',
      'shop/web to dev/shell: allowed',
      'shop/web to shop/db: allowed',
    ]);
  });

  it('searches by what its address says: whom it reaches, and who reaches it', async () => {
    const dom = await dump(page(PODS), '#q=db');
    assert.deepEqual(cells(dom), [
      'dev/shell to shop/db: denied',
      'shop/db to dev/shell: allowed',
      'shop/db to shop/web: allowed',
      'shop/web to shop/db: allowed',
    ]);
    // Label, namespace, port and verdict as well.
    assert.deepEqual(cells(await dump(page(PODS), '#from=app%3Dweb&port=5432')), ['shop/web to shop/db: allowed']);
    assert.deepEqual(cells(await dump(page(PODS), '#from=dev&verdict=denied')), ['dev/shell to shop/db: denied']);
    assert.match(await dump(page(PODS), '#q=nobody'), /<p id="nothing">/u);
  });

  it('says why, for the cell that is asked about', async () => {
    const dom = await dump(page(PODS), '#to=db&cell=0,0');
    const [, why = ''] = /<aside id="why"[^>]*>([^]*)<\/aside>/u.exec(dom) ?? [];
    assert.match(
      why.replaceAll(/<[^>]*>/gu, ' ').replaceAll(/\s+/gu, ' '),
      /shop\/web → shop\/db .*5432\/TCP: allowed .*admitted by shop\/db spec\.ingress\[0\]\.from\[0\]/u,
    );
  });

  it('runs nothing that a name holds, and asks nobody for anything', async () => {
    const asked: string[] = [];
    const server: Server = createServer((request, response) => {
      asked.push(request.url ?? '');
      response.end();
    });
    await new Promise<void>((resolve) => {
      server.listen(0, '127.0.0.1', resolve);
    });
    const address = server.address();
    const port = typeof address === 'object' && address !== null ? address.port : 0;
    const hostile = HOSTILE.replace('127.0.0.1:1', `127.0.0.1:${port}`);
    const text = page([...PODS, pod('shop', hostile, 9, { [hostile]: hostile })]);
    // Whatever it asked for by name would come to the server as well.
    const dom = await dump(text, '#cell=0,0', [`--host-resolver-rules=MAP * 127.0.0.1:${port}`]);
    server.close();
    assert.match(dom, /<title>Who reaches whom<\/title>/u);
    assert.ok(cells(dom).length > 6);
    // The browser's own services may try to call home; the page has not been told of any path of theirs.
    assert.deepEqual(
      asked.filter((url) => url === '/x' || url === '/favicon.ico'),
      [],
    );
  });
});
