/**
 * A scenario: a directory of plain Kubernetes YAML that tells a cluster's story in steps. docs/lab.md describes the form.
 *
 *     scenario.yaml      title, and what is probed (optional)
 *     cluster/           nodes, namespaces, pods, policies: the start
 *     01-name/ …         what each step applies; `delete.yaml`: what it deletes; `expect.yaml`: who reaches whom then
 *
 * Everything is read and checked before anything is set up. @see readScenario
 */
import { existsSync, readdirSync, statSync } from 'node:fs';
import { basename, join } from 'node:path';
import { isScalar, isSeq } from 'yaml';
import * as z from 'zod';
import { parseAddress } from '../policy/address.ts';
import { LabError } from './errors.ts';
import { Expectation } from './expectation.ts';
import {
  type Place,
  type ScenarioObject,
  manifestFiles,
  parseYaml,
  readObjects,
  readReference,
  readText,
  scenarioError,
  shown,
} from './manifests.ts';

const portSchema = z.number().int().min(1).max(65_535);

const settingsSchema = z.strictObject({
  title: z.string().optional(),
  /** Names of the nodes, where the cluster has no Node objects. */
  nodes: z
    .array(z.string().regex(/^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$/u))
    .nonempty()
    .optional(),
  /** Names and addresses outside the cluster. */
  outside: z
    .record(
      z.string().regex(/^[a-z0-9]([-a-z0-9]*[a-z0-9])?$/u),
      z.array(z.string().refine((text) => parseAddress(text) !== undefined, 'is no IP address')).nonempty(),
    )
    .optional(),
  probe: z
    .strictObject({
      /** Instead of the ports that pods declare. */
      ports: z.array(portSchema).nonempty().optional(),
      protocols: z
        .array(z.enum(['TCP', 'UDP', 'SCTP', 'ICMP']))
        .nonempty()
        .default(['TCP', 'UDP', 'SCTP']),
      families: z
        .array(z.enum(['IPv4', 'IPv6']))
        .nonempty()
        .default(['IPv4', 'IPv6']),
      /** Whether nodes are probed, and probe, too. */
      nodes: z.boolean().default(false),
    })
    .default({ protocols: ['TCP', 'UDP', 'SCTP'], families: ['IPv4', 'IPv6'], nodes: false }),
});

export type ScenarioSettings = z.output<typeof settingsSchema>;

export interface Deletion {
  /** `NetworkPolicy dev/deny-all`. */
  readonly id: string;
  readonly place: Place;
}

export interface Step {
  /** The directory's name: `01-deny-all`; `cluster` for the start. */
  readonly name: string;
  /** Done before anything is applied. */
  readonly deletions: readonly Deletion[];
  readonly objects: readonly ScenarioObject[];
  readonly expectation: Expectation | undefined;
}

export interface Scenario {
  readonly name: string;
  readonly title: string;
  readonly settings: ScenarioSettings;
  readonly cluster: Step;
  readonly steps: readonly Step[];
}

const STEP = /^\d+[-_.]?/u;
const SPECIAL: ReadonlySet<string> = new Set(['delete.yaml', 'expect.yaml', 'delete.yml', 'expect.yml']);

/** @throws LabError `SCENARIO_…`, naming file and line: the directory cannot be read, or is not what a scenario is */
export function readScenario(directory: string): Scenario {
  if (!existsSync(directory) || !statSync(directory).isDirectory()) {
    throw new LabError('SCENARIO_MISSING', `${shown(directory)} is no directory`, {
      exitStatus: 2,
      hint: 'Name a directory as docs/lab.md describes it.',
    });
  }
  const cluster = join(directory, 'cluster');
  if (!existsSync(cluster)) {
    throw new LabError('SCENARIO_CLUSTER_MISSING', `${shown(directory)} has no directory cluster/`, {
      exitStatus: 2,
      hint: 'Put the nodes, namespaces and pods that the scenario starts with into it (docs/lab.md).',
    });
  }
  const steps = readdirSync(directory, { withFileTypes: true })
    .filter((entry) => entry.isDirectory() && STEP.test(entry.name))
    .map((entry) => entry.name)
    .toSorted((a, b) => Number.parseInt(a, 10) - Number.parseInt(b, 10) || (a < b ? -1 : 1));
  const settings = readSettings(join(directory, 'scenario.yaml'));
  const scenario: Scenario = {
    name: basename(directory),
    title: settings.title ?? basename(directory),
    settings,
    cluster: readStep(cluster, 'cluster'),
    steps: steps.map((name) => readStep(join(directory, name), name)),
  };
  checkStory(scenario);
  return scenario;
}

function readSettings(file: string): ScenarioSettings {
  if (!existsSync(file)) return settingsSchema.parse({});
  const { documents, lines } = parseYaml(file, readText(file));
  const document = documents[0];
  const read = settingsSchema.safeParse(document?.toJS() ?? {});
  if (read.success) return read.data;
  const [issue] = read.error.issues;
  const path = (issue?.path ?? []).map((part) => (typeof part === 'symbol' ? String(part) : part));
  const node: unknown = path.length === 0 ? undefined : document?.getIn(path, true);
  const line = isScalar(node) && node.range ? lines.linePos(node.range[0]).line : 1;
  throw scenarioError(
    'SCENARIO_SETTINGS',
    { file: shown(file), line },
    `${path.join('.') || 'the file'}: ${issue?.message ?? 'cannot be read'}`,
  );
}

function readStep(directory: string, name: string): Step {
  const special = (base: string): string | undefined =>
    [join(directory, `${base}.yaml`), join(directory, `${base}.yml`)].find((file) => existsSync(file));
  const deleteFile = special('delete');
  const expectFile = special('expect');
  const objects = manifestFiles(directory)
    .filter((file) => !SPECIAL.has(basename(file)))
    .flatMap((file) => readObjects(file));
  const seen = new Map<string, Place>();
  for (const { id, place } of objects) {
    const first = seen.get(id);
    if (first !== undefined)
      throw scenarioError('SCENARIO_OBJECT', place, `${id} stands in this step twice, also at ${first.file}:${first.line}`);
    seen.set(id, place);
  }
  return {
    name,
    objects,
    deletions: deleteFile === undefined ? [] : readDeletions(deleteFile),
    expectation: expectFile === undefined ? undefined : Expectation.read(expectFile),
  };
}

function readDeletions(file: string): readonly Deletion[] {
  const { documents, lines } = parseYaml(file, readText(file));
  const [document] = documents;
  const start = { file: shown(file), line: 1 };
  const hint = 'It is a list of objects, as in: - NetworkPolicy dev/deny-all';
  if (!isSeq(document?.contents)) throw scenarioError('SCENARIO_DELETION', start, 'expected a list', hint);
  return document.contents.items.map((item) => {
    const place = { ...start, line: isScalar(item) && item.range ? lines.linePos(item.range[0]).line : 1 };
    const id = isScalar(item) && typeof item.value === 'string' ? readReference(item.value) : undefined;
    if (id === undefined) throw scenarioError('SCENARIO_DELETION', place, 'this names no object', hint);
    return { id, place };
  });
}

/** What can be told before anything runs: whether everything that is deleted is there. */
function checkStory({ cluster, steps }: Scenario): void {
  const present = new Map<string, ScenarioObject>();
  for (const step of [cluster, ...steps]) {
    for (const { id, place } of step.deletions) {
      if (!present.has(id))
        throw scenarioError('SCENARIO_DELETION', place, `${id} is not there to be deleted`, `There are: ${[...present.keys()].join(', ')}`);
      if (id.startsWith('Node ')) throw scenarioError('SCENARIO_DELETION', place, `${id} cannot be deleted: the lab's nodes stay`);
      for (const gone of deletedWith(id, present.values())) present.delete(gone);
    }
    for (const object of step.objects) {
      if (step !== cluster && object.kind === 'Node' && !present.has(object.id)) {
        throw scenarioError('SCENARIO_OBJECT', object.place, `${object.id} is new: nodes have to be in cluster/`);
      }
      present.set(object.id, object);
    }
  }
}

/** An object, and with a namespace everything in it. */
export function deletedWith(id: string, objects: Iterable<ScenarioObject>): readonly string[] {
  const namespace = /^Namespace (.+)$/u.exec(id)?.[1];
  return [...objects].filter((object) => object.id === id || object.namespace === namespace).map((object) => object.id);
}
