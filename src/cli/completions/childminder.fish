
# Prints the words of the job that stand before the cursor; fails while options are typed.
function __childminder_job_words
    set -l words (commandline -opc)
    set -e words[1]
    while set -q words[1]
        set -l word $words[1]
        switch $word
            case --
                set -e words[1]
                break
            case '--*=*'
            case --@NAMES@
                # The value that is being typed is no job.
                set -q words[2]
                or return 1
                set -e words[1]
            case '--*'
            case '-*'
                # The value is the rest of the word, or the next word.
                if string match -qr -- '^-[^@LETTERS@]*[@LETTERS@]$' $word
                    set -q words[2]
                    or return 1
                    set -e words[1]
                end
            case '*'
                break
        end
        set -e words[1]
    end
    # An option at the cursor is ours if no word of the job stands before it.
    if not set -q words[1]
        string match -q -- '-*' (commandline -ct)
        and return 1
    end
    string join \n -- $words
    return 0
end

function __childminder_has_no_job
    test -z "$(__childminder_job_words)"
end

# Behind the options stands a function of ours with -f, else a command with its own completion.
function __childminder_job
    set -l job (__childminder_job_words)
    or return
    if string match -qr -- '^(--function(=.*)?|-[^-@LETTERS@]*f.*)$' (commandline -opc)
        set -q job[1]
        or string join \n -- @FUNCTIONS@
        return
    end
    complete -C (string join ' ' -- (string escape -- $job) (commandline -ct))
end

# Lists with commas.
complete -c childminder -n __childminder_has_no_job -x -l restart-on -a '(__fish_append , @CAUSES@)'
complete -c childminder -n __childminder_has_no_job -x -l never-on -a '(__fish_append , @CAUSES@)'
complete -c childminder -n __childminder_has_no_job -x -l forward -a '(__fish_append , all none @SIGNALS@)'
complete -c childminder -n __childminder_has_no_job -x -l stop-on -a '(__fish_append , @SIGNALS@)'

complete -c childminder -f -k -n __childminder_job_words -a '(__childminder_job)'
