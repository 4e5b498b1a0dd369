/** `sluice completion bash|zsh`: what a shell reads to complete commands of sluice, names of namespaces and pods included. */
import { Argument, Command } from 'commander';

const SHELLS = ['bash', 'zsh'] as const;
type Shell = (typeof SHELLS)[number];

/**
 * The candidates come from `sluice __complete`, a line each, a tab before what is said of them; the last line tells whether names of files
 * are wanted as well (`:0`) or not (`:4`), as kubectl's plugins have it. bash takes `:` for the end of a word, and is handed no more of a
 * candidate than stands behind the last.
 */
const SCRIPTS: Readonly<Record<Shell, string>> = {
  bash: `# sluice completion for bash: source <(sluice completion bash)
_sluice() {
  local word="\${COMP_LINE:0:COMP_POINT}" line directive before
  word="\${word##*[[:space:]]}"
  local -a words=()
  read -ra words <<<"\${COMP_LINE:0:COMP_POINT}"
  [[ -n $word ]] && unset 'words[-1]'
  local -a lines=()
  mapfile -t lines < <("\${words[0]}" __complete "\${words[@]:1}" "$word" 2>/dev/null)
  [[ \${#lines[@]} -eq 0 ]] && return
  directive="\${lines[-1]}"
  unset 'lines[-1]'
  [[ $word == *:* && $COMP_WORDBREAKS == *:* ]] && before="\${word%:*}:"
  COMPREPLY=()
  for line in "\${lines[@]}"; do
    line="\${line%%$'\\t'*}"
    COMPREPLY+=("\${line#"$before"}")
  done
  [[ \${#COMPREPLY[@]} -eq 1 && \${COMPREPLY[0]} == */ ]] && compopt -o nospace
  [[ $directive == ":0" ]] && compopt -o default
}
complete -F _sluice sluice kubectl-sluice
`,
  zsh: `#compdef sluice kubectl-sluice
# sluice completion for zsh: source <(sluice completion zsh), or as a file _sluice in a directory of $fpath
_sluice() {
  local -a lines candidates
  local line directive
  lines=("\${(@f)$("\${words[1]}" __complete "\${(@)words[2,CURRENT]}" 2>/dev/null)}")
  directive="\${lines[-1]}"
  for line in "\${(@)lines[1,-2]}"; do
    if [[ $line == *$'\\t'* ]]; then
      candidates+=("\${\${line%%$'\\t'*}//:/\\\\:}:\${line#*$'\\t'}")
    else
      candidates+=("\${line//:/\\\\:}")
    fi
  done
  if (( \${#candidates} )); then
    if [[ \${#candidates} -eq 1 && "\${candidates[1]}" == */* && "\${candidates[1]%%:*}" == */ ]]; then
      _describe 'sluice' candidates -S ''
    else
      _describe 'sluice' candidates
    fi
  fi
  [[ $directive == ":0" ]] && _files
}
compdef _sluice sluice kubectl-sluice
`,
};

export function command(): Command {
  return new Command('completion')
    .description('Print what a shell reads to complete commands of sluice, names of namespaces and pods included.')
    .addArgument(new Argument('<shell>', 'the shell').choices(SHELLS))
    .addHelpText(
      'after',
      '\nFor this shell: source <(sluice completion bash). For all: put that line into ~/.bashrc or ~/.zshrc.\n' +
        'As kubectl sluice it is completed by kubectl itself, where kubectl_complete-sluice is in the PATH.',
    )
    .action((shell: Shell) => void process.stdout.write(SCRIPTS[shell]));
}
