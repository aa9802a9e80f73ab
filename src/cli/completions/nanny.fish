
# The newest runs of the record, each with its name, verdict and time.
function __fish_nanny_run_ids
    set -l words (commandline -opc)
    set -l files
    for at in (seq (count $words))
        switch $words[$at]
            case --central-log
                set -a files --central-log $words[(math $at + 1)]
            case '--central-log=*'
                set -a files --central-log (string replace -- --central-log= '' $words[$at])
        end
    end
    set files (string replace -r -- '^~/' $HOME/ $files)
    # The first blank separates an id from its description.
    nanny ids $files 2>/dev/null | string replace ' ' \t
end

# Both words of `completions`.
complete -c nanny -f -n "__fish_nanny_using_subcommand completions" -n "not __fish_seen_subcommand_from @SHELLS@" -a "@SHELLS@"
complete -c nanny -f -n "__fish_nanny_using_subcommand completions" -n "__fish_seen_subcommand_from @SHELLS@" -a "nanny childminder"

complete -c nanny -f -k -n "__fish_nanny_using_subcommand why" -a "(__fish_nanny_run_ids)"
