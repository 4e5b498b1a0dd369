/** What Prometheus is told of the log of any daemon. */
import { Counter } from 'prom-client';

/** The counter of lines that were dropped. @param dropped how many so far */
export function droppedLines(dropped: () => number): Counter {
  return new Counter({
    name: 'sluice_log_lines_dropped_total',
    help: 'Lines of the log that were dropped, because nobody read them in time',
    registers: [],
    collect() {
      this.reset();
      this.inc(dropped());
    },
  });
}
