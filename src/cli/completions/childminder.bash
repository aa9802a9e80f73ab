
# Completes the last word of a list with commas.
_childminder_list() {
    local before=
    [[ $2 == *,* ]] && before=${2%,*},
    COMPREPLY=($(compgen -P "$before" -W "$1" -- "${2##*,}"))
}

# The first word that is not an option, nor the value of one, is the job.
_childminder_with_job() {
    local at word is_function= value=$2 option=$3
    # readline splits words at '='.
    [[ $value == = ]] && value=
    [[ $option == = ]] && option=${COMP_WORDS[COMP_CWORD - 2]}
    for ((at = 1; at <= COMP_CWORD; at++)); do
        word=${COMP_WORDS[at]}
        case $word in
            --) ((at++)); break ;;
            --@NAMES@)
                [[ $word == --function ]] && is_function=1
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
        case $option in
            --restart-on | --never-on) _childminder_list "@CAUSES@" "$value" ;;
            --forward) _childminder_list "all none @SIGNALS@" "$value" ;;
            --stop-on) _childminder_list "@SIGNALS@" "$value" ;;
            *) _childminder "$1" "$value" "$option" ;;
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
