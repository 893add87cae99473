#compdef worker
# zsh completion for worker: source <(worker completion zsh), after compinit

_worker() {
    local line word
    local -a found
    for line in "${(@f)$(command worker complete -- "${(@)words[2,CURRENT]}" 2>/dev/null)}"; do
        case $line in
            '') ;;
            :file*) _files; return ;;
            :program*) _command_names -e; return ;;
            *) word=${line%%$'\t'*}; found+=("${word//:/\\:}:${line#*$'\t'}") ;;
        esac
    done
    _describe -V worker found
}
compdef _worker worker
