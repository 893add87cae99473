# bash completion for worker: source <(worker completion bash)

_worker() {
    local line word=${COMP_WORDS[COMP_CWORD]}
    COMPREPLY=()
    while IFS= read -r line; do
        case $line in
            :file*) compopt -o default ;;
            :program*) mapfile -t COMPREPLY < <(compgen -c -- "$word") ;;
            *) COMPREPLY+=("${line%%$'\t'*}") ;;
        esac
    done < <(command worker complete -- "${COMP_WORDS[@]:1:COMP_CWORD}" 2>/dev/null)
}
complete -F _worker worker
