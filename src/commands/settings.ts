/**
 * Settings of a daemon: what each is called as a flag, in the environment and in a configuration file, what it may be, and what it is
 * where nobody says. A flag counts before the environment, the environment before the file, the file before the default.
 */
import { readFileSync } from 'node:fs';
import { Option } from 'commander';
import { parse as parseYaml, stringify } from 'yaml';
import * as z from 'zod';
import { SluiceError, systemErrorCode } from '../errors.ts';
import { nearest } from '../output/nearest.ts';

// --- what settings may be

export const name = z.string().min(1, 'expected a name, not an empty text');
export const file = z.string().min(1, 'expected a path, not an empty text');

/** Undefined: `off`. */
export const fileOrOff = file.transform((path) => (path === 'off' ? undefined : path));

/** Flags and environment give texts, the file whatever YAML has. */
export const number = (wanted: string, check: (value: number) => boolean) =>
  z
    .union([z.number(), z.string().trim().min(1).transform(Number)], { error: `expected ${wanted}` })
    .refine((value) => Number.isInteger(value) && check(value), { error: `expected ${wanted}` });

/** A text is taken apart at commas and blanks. */
export const texts = z.union([z.string().transform((text) => text.split(/[\s,]+/).filter((part) => part !== '')), z.array(name)], {
  error: 'expected a list of names',
});

export const list = texts.refine((names) => names.length > 0, { error: 'expected at least one name' });

/** As Go reads them (strconv.ParseBool): arguments of flanneld can stay as they are. */
const TRUE = ['true', 'True', 'TRUE', 't', 'T', '1'] as const;
const FALSE = ['false', 'False', 'FALSE', 'f', 'F', '0'] as const;

export const flag = z.union([z.boolean(), z.enum(TRUE).transform(() => true), z.enum(FALSE).transform(() => false)], {
  error: 'expected true or false',
});

export const choice = <const T extends readonly [string, ...string[]]>(values: T) =>
  z.enum(values, { error: `expected one of ${values.join(', ')}` });

/** `address:port`, `[::1]:port`, `:port` for every address; undefined: `off`. */
export const listenAddress = z
  .string({ error: 'expected an address and a port, such as 127.0.0.1:9477' })
  .transform((text, context): { host: string; port: number } | undefined => {
    if (text === 'off') return undefined;
    const [, host = '', port = ''] =
      /^(?:\[([0-9a-fA-F:.]+)\]|([^:[\]]*)):(\d{1,5})$/.exec(text)?.filter((part) => part !== undefined) ?? [];
    if (/^\d+$/.test(port) && Number(port) <= 65_535) return { host, port: Number(port) };
    context.addIssue({ code: 'custom', message: 'expected an address and a port, such as 127.0.0.1:9477, or off' });
    return z.NEVER;
  });

// --- the table

export interface SettingEntry {
  /** `--log-group <number>`; its name in the environment and in the file follows from it, unless `environment` says another. */
  readonly flags: string;
  readonly description: string;
  /** Undefined: there is none, and the setting may be absent. */
  readonly standard?: () => unknown;
  /** What help says of it, where it is no plain value. */
  readonly standardText?: string;
  /** Names in the environment, the first that is set; in place of the one that follows from the flag. */
  readonly environment?: readonly string[];
}

export interface ReadSettings<T> {
  readonly settings: T;
  /** As YAML, a setting a line, with where it comes from. */
  readonly text: string;
  /** Where a setting comes from, as a user would say it: `--node`, `$NODE_NAME`, `sluice.yaml: node`, `default`. */
  readonly origins: Readonly<Partial<Record<keyof T, string>>>;
}

/** A value that stands for none: whether a flag was given has to be seen. */
const UNSET = Symbol('unset');

/** The settings of one program, in the order of its help. */
export class SettingTable<S extends z.ZodObject> {
  readonly #schema: S;
  readonly #entries: Readonly<Record<string, SettingEntry>>;
  readonly #names: readonly string[];

  constructor(schema: S, entries: { readonly [N in keyof z.output<S>]-?: SettingEntry }) {
    this.#schema = schema;
    this.#entries = entries;
    this.#names = Object.keys(entries);
  }

  /** The flags, without defaults. */
  options(): Option[] {
    return this.#names.map((setting) => {
      const { flags, description, standard, standardText } = this.#entry(setting);
      const option = new Option(flags, description);
      const text = standardText ?? (standard === undefined ? undefined : String(standard()));
      // What help says is not what is read: the value stays undefined.
      return text === undefined || text === 'false' ? option : option.default(UNSET, text);
    });
  }

  /** @throws SluiceError `SETTING_INVALID` with where the value comes from, `CONFIG_UNREADABLE` */
  read(
    given: Readonly<Record<string, unknown>>,
    environment: Readonly<Record<string, string | undefined>>,
    configFile: string | undefined,
  ): ReadSettings<z.output<S>> {
    const inFile = configFile === undefined ? {} : this.#readFile(configFile);
    const values: Record<string, unknown> = {};
    const origins: Record<string, string> = {};
    for (const setting of this.#names) {
      const { standard } = this.#entry(setting);
      const variable = this.#environmentNames(setting).find((each) => (environment[each] ?? '') !== '');
      if (given[setting] !== undefined && given[setting] !== UNSET)
        [values[setting], origins[setting]] = [given[setting], this.#flagName(setting)];
      else if (variable !== undefined) [values[setting], origins[setting]] = [environment[variable], `$${variable}`];
      else if (inFile[setting] !== undefined) [values[setting], origins[setting]] = [inFile[setting], `${configFile}: ${setting}`];
      else if (standard !== undefined) [values[setting], origins[setting]] = [standard(), 'default'];
    }
    const read = this.#schema.safeParse(values);
    if (!read.success) {
      const [issue] = read.error.issues;
      const setting = String(issue?.path[0]);
      throw wrongSetting(origins[setting] ?? setting, `${issue?.message ?? 'cannot be read'}, not ${JSON.stringify(values[setting])}`);
    }
    const text = this.#names
      .filter((setting) => values[setting] !== undefined)
      .map((setting) => `${line({ [setting]: values[setting] })}  # ${origins[setting]}\n`)
      .join('');
    return { settings: read.data, text, origins: origins as Partial<Record<keyof z.output<S>, string>> };
  }

  #entry(setting: string): SettingEntry {
    const entry = this.#entries[setting];
    if (entry === undefined) throw new Error(`there is no setting ${setting}`);
    return entry;
  }

  #environmentNames(setting: string): readonly string[] {
    return this.#entry(setting).environment ?? [`SLUICE_${snake(setting)}`];
  }

  #flagName(setting: string): string {
    return this.#entry(setting).flags.split(' ')[0] ?? '';
  }

  #readFile(path: string): Readonly<Record<string, unknown>> {
    let value: unknown;
    try {
      value = parseYaml(readFileSync(path, 'utf8'));
    } catch (cause) {
      const fault = systemErrorCode(cause) ?? (cause instanceof Error ? cause.message.split('\n')[0] : String(cause));
      throw new SluiceError('CONFIG_UNREADABLE', `the configuration ${path} cannot be read: ${fault}`, { exitStatus: 2, cause });
    }
    if (value === null || value === undefined) return {};
    if (typeof value !== 'object' || Array.isArray(value)) throw wrongSetting(path, 'expected settings, one a line: node: worker-1');
    const unknown = Object.keys(value).find((key) => !Object.hasOwn(this.#entries, key));
    if (unknown !== undefined) {
      const meant = nearest(unknown, this.#names);
      throw wrongSetting(
        `${path}: ${unknown}`,
        'there is no such setting',
        meant === undefined ? `There are: ${this.#names.join(', ')}.` : `Is ${meant} meant?`,
      );
    }
    return value as Readonly<Record<string, unknown>>;
  }
}

/** `logGroup` as `LOG_GROUP`. */
export function snake(setting: string): string {
  return setting.replaceAll(/[A-Z]/g, (letter) => `_${letter}`).toUpperCase();
}

function line(setting: Readonly<Record<string, unknown>>): string {
  return stringify(setting, { flowCollectionPadding: false, collectionStyle: 'flow' }).replaceAll(/^\{|\}\n$/g, '');
}

export function wrongSetting(where: string, what: string, hint?: string): SluiceError {
  return new SluiceError('SETTING_INVALID', `${where}: ${what}`, { exitStatus: 2, hint });
}
