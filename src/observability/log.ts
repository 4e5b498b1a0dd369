/** The agent's log: one JSON object a line on standard output, errors with their code and cause. */
import { type Logger, pino } from 'pino';
import { LogWriter } from './log-writer.ts';
import { openOutput } from './standard-output.ts';

export type { Logger } from 'pino';

export type LogLevel = 'debug' | 'info' | 'warn' | 'error';

/** Where the lines of this process go: to standard output, and whoever does not read it is not waited for (see {@link LogWriter}). */
export function openLogWriter(): LogWriter {
  const writer = new LogWriter(openOutput());
  process.on('exit', () => writer.flush());
  return writer;
}

/** Lines are written at once, as long as somebody reads them: an agent that is killed has logged what it did. */
export function createLog(level: LogLevel, bindings: Readonly<Record<string, string>>, writer: LogWriter): Logger {
  const logTo = (stream: { write(line: string): void }): Logger =>
    pino(
      {
        level,
        base: bindings,
        timestamp: () => `,"time":"${new Date().toISOString()}"`,
        formatters: { level: (label) => ({ level: label }) },
        messageKey: 'message',
      },
      stream,
    );
  writer.tellOfDropped((dropped) => {
    let line = '';
    // At this level it is told of whatever the agent's is.
    logTo({ write: (text) => void (line = text) }).error(
      { code: 'LOG_LINES_DROPPED', dropped },
      'log lines were dropped here, because nobody read them in time',
    );
    return line;
  });
  return logTo(writer);
}

/** What is worth logging of something thrown: no stack where its code says what it is. */
export function errorFields(error: unknown): Record<string, unknown> {
  if (!(error instanceof Error)) return { error: String(error) };
  const code = 'code' in error && typeof error.code === 'string' ? error.code : undefined;
  return { error: error.message, ...(code === undefined ? { stack: error.stack } : { code }) };
}
