/**
 * What a person expects of a step (`expect.yaml`): a default and rows of exceptions, of which the last that fits decides.
 *
 *     default: allow
 *     rows:
 *       - deny  any -> dev/*
 *       - allow dev/client, outside -> dev/web on 80/TCP, 53 over IPv4
 *
 * What needs no row: a pod and its own node always reach one another (row 28), and a pod itself (row 30).
 */
import { isMap, isScalar, isSeq } from 'yaml';
import * as z from 'zod';
import type { Family } from '../policy/address.ts';
import { type Place, parseYaml, readText, scenarioError, shown } from './manifests.ts';
import type { Measured, ProbeProtocol } from './prober/protocol.ts';

/** A probe, as far as a row can tell probes apart. */
export interface ExpectedProbe {
  /** `namespace/pod`, `node/NAME`, or the name of a host outside. */
  readonly source: string;
  readonly destination: string;
  /** 0 with ICMP. */
  readonly port: number;
  readonly protocol: ProbeProtocol;
  readonly family: Family;
}

interface PortPattern {
  readonly first: number;
  readonly last: number;
  /** Undefined: each. */
  readonly protocol: ProbeProtocol | undefined;
}

interface Row {
  readonly place: Place;
  readonly verdict: Measured;
  readonly sources: readonly string[];
  readonly destinations: readonly string[];
  /** Undefined: all. */
  readonly ports: readonly PortPattern[] | undefined;
  /** Undefined: both. */
  readonly family: Family | undefined;
}

const VERDICTS = { allow: 'allowed', deny: 'denied' } as const;
const ROW = /^(allow|deny)\s+(.+?)\s*->\s*(.+?)(?:\s+on\s+(.+?))?(?:\s+over\s+IPv([46]))?$/u;
const PORT = /^(?:(\d{1,5})(?:-(\d{1,5}))?)?(?:(?:^|\/)(TCP|UDP|SCTP|ICMP))?$/u;
const NAME = /^(any|[a-z0-9*]([-a-z0-9.*]*[a-z0-9*])?(\/[a-z0-9*]([-a-z0-9.*]*[a-z0-9*])?)?)$/u;

const ROW_HINT =
  'A row is: allow|deny SOURCES -> DESTINATIONS [on PORTS] [over IPv4|IPv6], as in: allow dev/*, outside -> dev/web on 80/TCP';

const list = (text: string): string[] => text.split(',').map((item) => item.trim());

type RowContent = Omit<Row, 'place'>;

/** One row's text. */
const rowSchema = z.string().transform((text, context): RowContent => {
  const fail = (message: string): never => {
    context.addIssue({ code: 'custom', message });
    return z.NEVER;
  };
  const [, verdict, from, to, on, family] = ROW.exec(text.trim()) ?? [];
  if ((verdict !== 'allow' && verdict !== 'deny') || from === undefined || to === undefined)
    return fail(`${JSON.stringify(text)} is no row`);
  for (const name of [...list(from), ...list(to)]) {
    if (!NAME.test(name))
      return fail(`${JSON.stringify(name)} names nobody: write any, namespace/pod (with * for any part), node/NAME or a host outside`);
  }
  const ports: PortPattern[] = [];
  for (const item of on === undefined ? [] : list(on)) {
    const [matched, digits, end, protocol] = PORT.exec(item) ?? [];
    const first = Number(digits ?? 0);
    const last = Number(end ?? digits ?? 65_535);
    if (matched === undefined || matched === '' || last > 65_535 || first > last)
      return fail(`${JSON.stringify(item)} is no port: write 80, 80/TCP, 8000-8010/UDP or SCTP`);
    ports.push({ first, last, protocol: protocol as ProbeProtocol | undefined });
  }
  return {
    verdict: VERDICTS[verdict],
    sources: list(from),
    destinations: list(to),
    ports: on === undefined ? undefined : ports,
    family: family === undefined ? undefined : family === '4' ? 4 : 6,
  };
});

const fileSchema = z.strictObject({
  default: z.enum(['allow', 'deny']).default('allow'),
  rows: z.array(rowSchema).default([]),
});

export class Expectation {
  readonly #default: Measured;
  readonly #rows: readonly Row[];
  readonly place: Place;

  constructor(place: Place, defaultVerdict: Measured, rows: readonly Row[]) {
    this.place = place;
    this.#default = defaultVerdict;
    this.#rows = rows;
  }

  /** @throws LabError `SCENARIO_EXPECTATION` with file and line */
  static read(file: string): Expectation {
    const { documents, lines } = parseYaml(file, readText(file));
    const place = { file: shown(file), line: 1 };
    const [document, ...more] = documents;
    if (more.length > 0) throw scenarioError('SCENARIO_EXPECTATION', place, `expected one document, found ${documents.length}`);
    const rowNodes = isMap(document?.contents) ? document.contents.get('rows', true) : undefined;
    const lineOf = (index: number): number => {
      const item: unknown = isSeq(rowNodes) ? rowNodes.items[index] : undefined;
      return isScalar(item) && item.range ? lines.linePos(item.range[0]).line : 1;
    };
    const read = fileSchema.safeParse(document?.toJS() ?? {});
    if (!read.success) {
      const [issue] = read.error.issues;
      const index = issue?.path[1];
      const line = typeof index === 'number' ? lineOf(index) : 1;
      throw scenarioError(
        'SCENARIO_EXPECTATION',
        { ...place, line },
        `${issue?.path.join('.') || 'the file'}: ${issue?.message ?? 'cannot be read'}`,
        ROW_HINT,
      );
    }
    const rows = read.data.rows.map((row, index): Row => ({ ...row, place: { ...place, line: lineOf(index) } }));
    return new Expectation(place, VERDICTS[read.data.default], rows);
  }

  /** @throws LabError `SCENARIO_EXPECTATION` where a row names somebody that is not there: most likely a slip of the pen */
  check(names: readonly string[]): void {
    for (const { place, sources, destinations } of this.#rows) {
      for (const pattern of [...sources, ...destinations]) {
        if (names.some((name) => fits(pattern, name))) continue;
        throw scenarioError('SCENARIO_EXPECTATION', place, `${pattern} is nobody in this step`, `There are: ${names.join(', ')}`);
      }
    }
  }

  verdict(probe: ExpectedProbe): Measured {
    const row = this.#rows.findLast(
      ({ sources, destinations, ports, family }) =>
        sources.some((pattern) => fits(pattern, probe.source)) &&
        destinations.some((pattern) => fits(pattern, probe.destination)) &&
        (family === undefined || family === probe.family) &&
        (ports === undefined || ports.some((port) => portFits(port, probe))),
    );
    return row?.verdict ?? this.#default;
  }
}

/** `any`: everybody; `*` stands for any part of a name, and never for its slash. */
function fits(pattern: string, name: string): boolean {
  if (pattern === 'any' || pattern === name) return true;
  if (!pattern.includes('*')) return false;
  const expression = pattern.split('*').map((part) => part.replaceAll('.', '\\.'));
  return new RegExp(`^${expression.join('[^/]*')}$`, 'u').test(name);
}

function portFits({ first, last, protocol }: PortPattern, probe: ExpectedProbe): boolean {
  return probe.port >= first && probe.port <= last && (protocol === undefined || protocol === probe.protocol);
}
