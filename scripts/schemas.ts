/**
 * The JSON Schemas of all that sluice prints for programs, one file a kind in docs/schema/: made of the schemas that the commands themselves
 * are typed by. `node scripts/schemas.ts` writes them; a test says when they are out of date.
 */
import { mkdirSync, readdirSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import * as z from 'zod';

const ROOT = resolve(import.meta.dirname, '..');
export const SCHEMA_DIRECTORY = join(ROOT, 'docs/schema');

/** Modules that hold schemas of documents and lines. */
function modules(): string[] {
  const commands = readdirSync(join(ROOT, 'src/commands')).filter((name) => name.endsWith('-document.ts'));
  return [...commands.map((name) => `src/commands/${name}`), 'src/observability/observed-flow.ts'].map((path) => join(ROOT, path));
}

/** Text of each file, by its name. */
export async function schemaFiles(): Promise<ReadonlyMap<string, string>> {
  const files = new Map<string, string>();
  for (const path of modules()) {
    const exported = (await import(pathToFileURL(path).href)) as Readonly<Record<string, unknown>>;
    for (const value of Object.values(exported)) {
      const kind = kindOf(value);
      if (kind === undefined || !(value instanceof z.ZodObject)) continue;
      const schema = z.toJSONSchema(value, {
        io: 'output',
        reused: 'inline',
        // What a later release adds is no mistake.
        override: ({ jsonSchema }) => {
          if (jsonSchema.additionalProperties === false) delete jsonSchema.additionalProperties;
        },
      });
      files.set(`${kind}.json`, `${JSON.stringify({ title: kind, ...schema }, undefined, 2)}\n`);
    }
  }
  return new Map([...files].toSorted(([a], [b]) => (a < b ? -1 : 1)));
}

/** What a document says it is; undefined of schemas of parts. */
function kindOf(value: unknown): string | undefined {
  if (!(value instanceof z.ZodObject)) return undefined;
  const shape: Readonly<Record<string, unknown>> = value.shape;
  const { kind, apiVersion } = shape;
  if (!(kind instanceof z.ZodLiteral) || apiVersion === undefined) return undefined;
  const [only] = kind.values;
  return typeof only === 'string' ? only : undefined;
}

if (import.meta.main) {
  mkdirSync(SCHEMA_DIRECTORY, { recursive: true });
  for (const [name, text] of await schemaFiles()) writeFileSync(join(SCHEMA_DIRECTORY, name), text);
}
