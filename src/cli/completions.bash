
# The first word that is not an option, nor the value of one, is the job.
_childminder_with_job() {
    local at word is_function=
    for ((at = 1; at <= COMP_CWORD; at++)); do
        word=${COMP_WORDS[at]}
        case $word in
            --) ((at++)); break ;;
            --@NAMES@)
                [[ $word == --function ]] && is_function=1
                # readline splits words at '='.
                [[ ${COMP_WORDS[at + 1]} == = ]] && ((at++))
                ((at++))
                ;;
            --*) ;;
            -*)
                [[ $word == -*f* ]] && is_function=1
                # The value is the rest of the word, or the next word.
                [[ $word =~ ^-[^@LETTERS@]*[@LETTERS@]$ ]] && ((at++))
                ;;
            *) break ;;
        esac
    done
    # What is typed is an option or its value.
    if ((at > COMP_CWORD)); then
        case $3 in
            --restart-on | --never-on) COMPREPLY=($(compgen -W "@CAUSES@" -- "$2")) ;;
            --forward) COMPREPLY=($(compgen -W "all none" -- "$2")) ;;
            *) _childminder "$@" ;;
        esac
    elif [[ $is_function ]]; then
        COMPREPLY=($(compgen -W "@FUNCTIONS@" -- "$2"))
    elif declare -F _comp_command_offset >/dev/null; then
        _comp_command_offset "$at"
    elif declare -F _command_offset >/dev/null; then
        _command_offset "$at"
    elif ((at >= COMP_CWORD)); then
        COMPREPLY=($(compgen -c -- "$2"))
    else
        COMPREPLY=($(compgen -f -- "$2"))
    fi
}
complete -o bashdefault -o default -F _childminder_with_job childminder
