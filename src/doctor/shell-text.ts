/** Text for a shell: what a remedy is made of. */

/** One word, quoted where a shell would read it as anything else. */
export function word(text: string): string {
  return /^[\w@%+=:,./-]+$/.test(text) ? text : `'${text.replaceAll("'", String.raw`'\''`)}'`;
}

/** Commands and comments, a line each. */
export function lines(...parts: readonly (string | readonly string[] | undefined)[]): string {
  return parts.flatMap((part) => part ?? []).join('\n');
}

/** A command that writes a text, which ends with a newline, into a file; its directory is made. */
export function writeFileCommand(path: string, text: string): string {
  const directory = path.slice(0, Math.max(1, path.lastIndexOf('/')));
  const made = path.includes('/') ? `mkdir -p ${word(directory)}\n` : '';
  return `${made}cat > ${word(path)} <<'END'\n${text}END`;
}

/** Sets a value below /proc/sys until the next boot. The name of an interface may have dots in it: then slashes part the words. */
export function sysctlCommand(key: string, value: string): string {
  const name = key.includes('.') ? key : key.replaceAll('/', '.');
  return lines(
    `sysctl -w ${word(`${name}=${value}`)}`,
    '# That lasts until the next boot; for good, put the same into a file in /etc/sysctl.d.',
  );
}
