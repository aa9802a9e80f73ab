# The newest runs of the record, each with its name, verdict and time.
_nanny_run_ids() {
    local -a line files runs
    local at
    line=(${(z)LBUFFER})
    for (( at = 1; at <= $#line; at++ )); do
        case $line[at] in
            (--central-log) files+=(--central-log "${${(Q)line[at + 1]}/#\~\//$HOME/}") ;;
            (--central-log=*) files+=(--central-log "${${(Q)line[at]#*=}/#\~\//$HOME/}") ;;
        esac
    done
    runs=(${(f)"$(nanny ids $files 2>/dev/null)"})
    runs=(${runs/ /:})
    _describe -V -t runs run runs
}

