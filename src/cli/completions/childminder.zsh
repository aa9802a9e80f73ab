# Behind the options stands a function of ours with -f, else a command with its own completion.
_childminder_job() {
    # With nothing before it, zsh takes it for the first word of the job.
    if [[ $words[1] == -- ]] && (( CURRENT > 1 )); then
        shift words
        (( CURRENT-- ))
    fi
    if (( ${+opt_args[-f]} || ${+opt_args[--function]} )); then
        (( CURRENT == 1 )) && _wanted functions expl function compadd - @FUNCTIONS@
    else
        _normal
    fi
}

