/** The agent's log: one JSON object a line on standard output, errors with their code and cause. */
import { type Logger, pino } from 'pino';

export type { Logger } from 'pino';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** Lines are written at once: an agent that is killed has logged what it did. */
export function createLog(level: LogLevel, bindings: Readonly<Record<string, string>>): Logger {
  return pino(
    {
      level,
      base: bindings,
      timestamp: () => `,"time":"${new Date().toISOString()}"`,
      formatters: { level: (label) => ({ level: label }) },
      messageKey: 'message',
    },
    pino.destination({ fd: 1, sync: true }),
  );
}

/** What is worth logging of something thrown: no stack where its code says what it is. */
export function errorFields(error: unknown): Record<string, unknown> {
  if (!(error instanceof Error)) return { error: String(error) };
  const code = 'code' in error && typeof error.code === 'string' ? error.code : undefined;
  return { error: error.message, ...(code === undefined ? { stack: error.stack } : { code }) };
}
