
# Behind `why` stands a run; the newest ones are offered.
_nanny_with_runs() {
    local at file is_why= files=()
    for ((at = 1; at < COMP_CWORD; at++)); do
        case ${COMP_WORDS[at]} in
            --central-log)
                # readline splits words at '='.
                [[ ${COMP_WORDS[at + 1]} == = ]] && ((at++))
                ((at++))
                file=${COMP_WORDS[at]/#\~\//$HOME/}
                files+=(--central-log "$file")
                ;;
            why) is_why=1 ;;
        esac
    done
    if [[ $is_why && $2 != -* && $3 != --central-log && $3 != = ]]; then
        file=$(nanny ids "${files[@]}" 2>/dev/null | cut -d ' ' -f 1)
        COMPREPLY=($(compgen -W "$file" -- "$2"))
        # The newest first, and no names of files.
        compopt -o nosort +o default +o bashdefault 2>/dev/null
    else
        _nanny "$@"
    fi
}
complete -o bashdefault -o default -F _nanny_with_runs nanny
