import assert from 'node:assert/strict';
import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import type { Inventory } from '../../../src/audit/inventory.ts';
import { lintInput } from '../../../src/audit/lint-inventory.ts';
import { readDirectory } from '../../../src/audit/manifest-inventory.ts';
import { codesPage, parseCode } from '../../../src/commands/lint-codes.ts';
import { LintDocument } from '../../../src/commands/lint-document.ts';
import type { LintSelection } from '../../../src/commands/lint-report.ts';
import { sarif } from '../../../src/commands/lint-sarif.ts';
import { lintTable } from '../../../src/commands/lint-table.ts';
import { lintInventory } from '../../../src/commands/lint.ts';
import { SluiceError } from '../../../src/errors.ts';
import { plain } from '../../../src/output/colour.ts';
import { formatAddress } from '../../../src/policy/address.ts';
import { LINT_CODES } from '../../../src/policy/lint/codes.ts';
import { SarifSchema } from './sarif-schema.ts';

const ROOT = join(import.meta.dirname, '../../..');

const WORKLOADS = `
apiVersion: apps/v1
kind: Deployment
metadata: {name: web, namespace: shop}
spec:
  selector: {matchLabels: {app: web}}
  template:
    metadata: {labels: {app: web}}
    spec: {containers: [{name: web, ports: [{name: http, containerPort: 8080}]}]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: db, namespace: shop}
spec:
  selector: {matchLabels: {app: db}}
  template:
    metadata: {labels: {app: db}}
    spec: {containers: [{name: db, ports: [{name: postgres, containerPort: 5432}]}]}
---
apiVersion: batch/v1
kind: CronJob
metadata: {name: backup, namespace: shop}
spec:
  jobTemplate:
    spec:
      template:
        metadata: {labels: {app: backup}}
        spec: {containers: [{name: backup}]}
`;

const DB = `apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: db
  namespace: shop
spec:
  podSelector:
    matchLabels: {app: db}
  ingress:
  - from:
    - podSelector:
        matchLabels: {app: wep}
    - ipBlock:
        cidr: 192.0.2.7/24
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: db-again
  namespace: shop
spec:
  podSelector:
    matchLabels: {app: db}
  ingress: []
---
apiVersion: networking.k8s.io/v1
kind: NetworkPolicy
metadata:
  name: web
  namespace: shop
spec:
  podSelector: {matchLabels: {app: web}}
  ingress:
  - from: [{ipBlock: {cidr: 192.0.2.0/33}}]
`;

const ALL: LintSelection = { only: [], ignore: [], severity: 'note', namespaces: [] };

describe('sluice lint', () => {
  let home: string;
  let shop: string;

  before(() => {
    home = mkdtempSync(join(tmpdir(), 'sluice-lint-'));
    shop = join(home, 'my shop');
    for (const [file, text] of [
      ['workloads.yaml', WORKLOADS],
      ['policies/db.yaml', DB],
    ] as const) {
      mkdirSync(dirname(join(shop, file)), { recursive: true });
      writeFileSync(join(shop, file), text);
    }
  });

  after(() => rmSync(home, { recursive: true }));

  async function documentOf(selection: Partial<LintSelection> = {}): Promise<LintDocument> {
    return await lintInventory(await readDirectory(shop), { ...ALL, ...selection });
  }

  function run(...args: string[]): { readonly status: number | null; readonly stdout: string; readonly stderr: string } {
    const { status, stdout, stderr } = spawnSync(process.execPath, [join(ROOT, 'bin/sluice.js'), 'lint', ...args], {
      cwd: home,
      encoding: 'utf8',
      env: { ...process.env, NO_COLOR: '1' },
    });
    return { status, stdout, stderr };
  }

  it('shows findings object by object, with their lines, in the width that there is', async () => {
    const lines = [...lintTable(await documentOf(), plain, 80)];
    assert.deepEqual(lines, [
      'namespace shop',
      '  note     PODS_NOT_ISOLATED',
      '           1 of 3 workloads (backup) is isolated by no policy: everybody may',
      '           speak to it, and it to everybody.',
      '           Remedy: begin with a policy {podSelector: {}, policyTypes: [Ingress,',
      '             Egress]}, which denies everything, and add what is needed.',
      '',
      'shop/db  policies/db.yaml',
      '  warning  PEER_SELECTS_NOTHING at spec.ingress[0].from[0].podSelector, line 11',
      '           no pod and no workload of namespace shop matches app=wep, and a',
      '           podSelector alone looks nowhere else: the peer matches nothing.',
      '           Remedy: did you mean app=web? Pods of this namespace carry that.',
      '  warning  CIDR_HOST_BITS at spec.ingress[0].from[1].ipBlock.cidr, line 14',
      '           "192.0.2.7/24" has bits set beyond its length, and is read as',
      '           192.0.2.0/24: write that.',
      '           Remedy: write the network as it is read, or /32 (/128) if the one',
      '             address is meant.',
      '',
      'shop/db-again  policies/db.yaml',
      '  note     POLICY_REDUNDANT at line 16',
      '           policy db isolates at least the same pods, and admits all that this',
      '           one does: without it nothing would change, in this cluster or any',
      '           other.',
      '           see shop/db (policies/db.yaml:1): makes it redundant',
      '           Remedy: delete it, or change what it was meant to add.',
      '',
      'shop/web  policies/db.yaml',
      '  error    CIDR_INVALID at spec.ingress[0].from[0].ipBlock.cidr, line 34',
      '           "192.0.2.0/33" is no CIDR; the peer matches nothing. Right are',
      '           10.0.0.0/8 and fd00::/8.',
      '           Remedy: write an address and a length, as in 10.0.0.0/8 or fd00::/8.',
      '',
      '1 error, 2 warnings, 2 notes in 3 policies',
    ]);
  });

  it('makes a document of the schema', async () => {
    const document = LintDocument.parse(await documentOf({ severity: 'warning' }));
    const { findings, origin, ...head } = document;
    assert.equal(origin, `the directory ${shop}`);
    assert.deepEqual(head, {
      apiVersion: 'sluice.dev/v1',
      kind: 'Lint',
      policies: 3,
      errors: 1,
      warnings: 2,
      notes: 0,
      hidden: 2,
      skipped: [],
      missing: [],
    });
    const [first] = findings;
    assert.ok(first);
    const { fingerprint, ...rest } = first;
    assert.match(fingerprint, /^[0-9a-f]{32}$/u);
    assert.deepEqual(rest, {
      code: 'PEER_SELECTS_NOTHING',
      severity: 'warning',
      object: { kind: 'NetworkPolicy', namespace: 'shop', name: 'db' },
      path: 'spec.ingress[0].from[0].podSelector',
      file: 'policies/db.yaml',
      line: 11,
      message:
        'no pod and no workload of namespace shop matches app=wep, and a podSelector alone looks nowhere else: the peer matches nothing',
      remedy: 'did you mean app=web? Pods of this namespace carry that',
      related: [],
    });
  });

  it('writes SARIF that is of the standard, with places below the directory that it is called in', async () => {
    const log = SarifSchema.parse(sarif(await documentOf(), 'my shop', home));
    const [only] = log.runs;
    assert.ok(only);
    assert.deepEqual(
      only.tool.driver.rules.map(({ id }) => id),
      LINT_CODES,
    );
    for (const { ruleId, ruleIndex } of only.results) assert.equal(only.tool.driver.rules[ruleIndex]?.id, ruleId);
    const result = only.results.find(({ ruleId }) => ruleId === 'POLICY_REDUNDANT');
    assert.ok(result);
    const { partialFingerprints, ruleIndex, ...rest } = result;
    assert.equal(ruleIndex, LINT_CODES.indexOf('POLICY_REDUNDANT'));
    assert.match(partialFingerprints['sluiceLint/v1'] ?? '', /^[0-9a-f]{32}$/u);
    const uri = 'my%20shop/policies/db.yaml';
    assert.deepEqual(rest, {
      ruleId: 'POLICY_REDUNDANT',
      level: 'note',
      message: {
        text: 'Policy db isolates at least the same pods, and admits all that this one does: without it nothing would change, in this cluster or any other. Delete it, or change what it was meant to add.',
      },
      locations: [
        {
          physicalLocation: { artifactLocation: { uri }, region: { startLine: 16 } },
          logicalLocations: [{ name: 'db-again', fullyQualifiedName: 'NetworkPolicy/shop/db-again', kind: 'object' }],
        },
      ],
      relatedLocations: [
        {
          id: 0,
          message: { text: 'Makes it redundant.' },
          physicalLocation: { artifactLocation: { uri }, region: { startLine: 1 } },
          logicalLocations: [{ name: 'db', fullyQualifiedName: 'NetworkPolicy/shop/db', kind: 'object' }],
        },
      ],
    });
    // What is of no file is of the directory; what is elsewhere has its whole URI; of an API server there are no files.
    const placeOf = (directory: string | undefined, from: string): string | undefined => {
      const [first] = sarif({ ...document, findings: document.findings.slice(0, 1) }, directory, from).runs[0]?.results ?? [];
      return first?.locations[0]?.physicalLocation?.artifactLocation.uri;
    };
    const document = await documentOf();
    assert.equal(placeOf('my shop', home), 'my%20shop');
    assert.equal(placeOf(shop, ROOT), `file://${shop.replaceAll(' ', '%20')}`);
    assert.equal(placeOf(undefined, home), undefined);
  });

  it('gives a finding the same fingerprint when lines move, and each its own', async () => {
    const before = (await documentOf()).findings;
    const file = join(shop, 'policies/db.yaml');
    writeFileSync(file, `# a comment\n\n${DB}`);
    const after = (await documentOf()).findings;
    writeFileSync(file, DB);
    assert.deepEqual(
      after.map(({ fingerprint }) => fingerprint),
      before.map(({ fingerprint }) => fingerprint),
    );
    assert.equal(after[1]?.line, 13);
    assert.equal(new Set(before.map(({ fingerprint }) => fingerprint)).size, before.length);
  });

  it('looks for what it is asked for', async () => {
    const codes = async (selection: Partial<LintSelection>): Promise<string[]> =>
      (await documentOf(selection)).findings.map(({ code }) => code);
    assert.deepEqual(await codes({ only: ['CIDR_HOST_BITS', 'CIDR_INVALID'] }), ['CIDR_HOST_BITS', 'CIDR_INVALID']);
    assert.deepEqual(await codes({ only: ['CIDR_HOST_BITS', 'CIDR_INVALID'], ignore: ['CIDR_INVALID'] }), ['CIDR_HOST_BITS']);
    assert.deepEqual(await codes({ severity: 'error' }), ['CIDR_INVALID']);
    assert.deepEqual(await codes({ namespaces: ['other'] }), []);
  });

  it('says what it cannot look for', async () => {
    const policies = join(shop, 'policies');
    const document = await lintInventory(await readDirectory(policies), ALL);
    assert.ok(document.skipped[0]?.codes.includes('POLICY_SELECTS_NOTHING'));
    const text = [...lintTable(document, plain, 200)].join('\n');
    assert.match(text, /^Not looked for, since no pods and no workloads are known/mu);
  });

  describe('as a command', () => {
    it('ends with 1 where something is found that --fail-on names, and else with 0', function () {
      this.timeout(60_000);
      assert.equal(run('--source', 'my shop').status, 1);
      assert.equal(run('--source', 'my shop', '--fail-on', 'never').status, 0);
      assert.equal(run('--source', 'my shop', '--ignore', 'CIDR_INVALID,PEER_SELECTS_NOTHING', '--ignore', 'cidr-host-bits').status, 0);
      assert.equal(run('--source', 'my shop', '--only', 'POLICY_REDUNDANT', '--fail-on', 'note').status, 1);
      const { stdout, stderr, status } = run('--source', 'my shop', '-o', 'sarif');
      assert.equal(status, 1);
      // What is wrong with policies is said once.
      assert.doesNotMatch(stderr, /CIDR/u);
      SarifSchema.parse(JSON.parse(stdout));
    });

    it('ends with 2 where it is called wrongly, and says what would be right', function () {
      this.timeout(60_000);
      const cases: readonly (readonly [args: readonly string[], says: RegExp])[] = [
        [['--explain', 'DNS_FORGOTEN'], /Did you mean DNS_FORGOTTEN\?/u],
        [['--source', 'my shop', '--ignore', 'NONSENSE'], /there is no code "NONSENSE"/u],
        [['--source', 'my shop', '-n', 'shp'], /there is no namespace "shp"[^]*Did you mean shop\?/u],
        [['--source', 'my shop', '--severity', 'bad'], /choices are error, warning, note/u],
      ];
      for (const [args, says] of cases) {
        const { status, stderr } = run(...args);
        assert.equal(status, 2, stderr);
        assert.match(stderr, says);
      }
    });

    it('lists codes, and explains one', function () {
      this.timeout(60_000);
      const { stdout } = run('--list');
      assert.equal(stdout.split('\n').length - 1, LINT_CODES.length);
      assert.match(stdout, /^DNS_FORGOTTEN +warning +an egress policy without DNS$/mu);
      assert.match(run('--explain', 'DNS_FORGOTTEN').stdout, /^DNS_FORGOTTEN \(warning\)[^]*^Instead:$/mu);
    });
  });

  it('takes a cluster for whole, unless pods or namespaces of it may not be read; a directory never', async () => {
    const directory = await readDirectory(shop);
    const isWhole = async (kind: Inventory['kind'], what?: string): Promise<boolean> => {
      const missing = what === undefined ? [] : [{ what, reason: '', consequence: '' }];
      return (await lintInput({ ...directory, kind, missing })).isWhole;
    };
    assert.equal(await isWhole('directory'), false);
    assert.equal(await isWhole('cluster'), true);
    assert.equal(await isWhole('bundle'), true);
    assert.equal(await isWhole('cluster', 'nodes'), true);
    assert.equal(await isWhole('cluster', 'pods of other namespaces than shop'), false);
    assert.equal(await isWhole('cluster', 'namespaces'), false);
  });

  it('takes in what workloads will make, and of Services the address within the cluster', async () => {
    writeFileSync(
      join(shop, 'service.yaml'),
      'apiVersion: v1\nkind: Service\nmetadata: {name: web, namespace: shop}\nspec: {clusterIP: 10.96.0.1, externalIPs: [192.0.2.1], ports: [{port: 80}]}',
    );
    const { templates, services } = await lintInput(await readDirectory(shop));
    rmSync(join(shop, 'service.yaml'));
    assert.deepEqual(
      templates.map(({ name, labels }) => [name, labels.get('app')]),
      [
        ['backup', 'backup'],
        ['db', 'db'],
        ['web', 'web'],
      ],
    );
    assert.deepEqual(
      services.map(({ name, addresses }) => [name, addresses.map(formatAddress)]),
      [['web', ['10.96.0.1']]],
    );
  });

  it('takes codes in any case', () => {
    assert.equal(parseCode('dns-forgotten'), 'DNS_FORGOTTEN');
    assert.throws(() => parseCode('x'), SluiceError);
  });

  it('has every code in docs/lint.md, as the table of codes says it', () => {
    assert.equal(readFileSync(join(ROOT, 'docs/lint.md'), 'utf8'), codesPage(), 'write it anew: node scripts/lint-page.ts');
  });
});
