# fish completion for worker: worker completion fish | source

function __worker_complete
    set -l line (commandline -opc) (commandline -ct)
    for candidate in (command worker complete -- $line[2..-1] 2>/dev/null)
        switch $candidate
            case ':file*'
                __fish_complete_path (commandline -ct)
            case ':program*'
                __fish_complete_command
            case '*'
                echo $candidate
        end
    end
end
complete -c worker -f -k -a '(__worker_complete)'
