# What is done inside the router's container, by one call each: $1 says what. Shell and HAProxy are all it needs.
#
#   alive                   fails unless HAProxy answers
#   facts SERVICE           prints what is there: files, processes, their servers, keys and certificate
#   run FOLDER              gives HAProxy the commands of FOLDER/commands, one a line: PID COMMAND; `<<PATH` at a line's
#                           end stands for the content of PATH
#   load FOLDER SERVICE PORT  takes the service's files over from FOLDER, and reloads where HAProxy accepts them
#   keep FOLDER SERVICE     takes the files over without a reload
#   remove SERVICE          removes the service's files, and reloads
#   idle SECONDS SERVER...  waits until the servers (PID BACKEND/NAME) have no request, at most for SECONDS
set -u
umask 007
etc=/etc/slipway-router
run=/run/router

# One command a connection: HAProxy answers and closes.
if command -v perl > /dev/null; then
    talk() {
        perl -MSocket -e 'my $s; socket($s, AF_UNIX, SOCK_STREAM, 0) && connect($s, pack_sockaddr_un($ARGV[0])) or die "$!\n";
            local $/; my $said = <STDIN>; syswrite($s, $said); shutdown($s, 1); print <$s>' "$run/master.sock"
    }
elif command -v socat > /dev/null; then
    talk() { socat -t 60 - "UNIX-CONNECT:$run/master.sock"; }
else
    talk() { nc "local:$run/master.sock"; }
fi

tell() { printf '%s\n' "$1" | talk; }

# PIDs of the workers, the newest first.
workers() { tell 'show proc' | awk '$2 == "worker" { print $1 }'; }

locked() {
    if command -v flock > /dev/null; then
        exec 9> "$run/lock"
        flock 9
    fi
}

fail() { printf '%s\n' "$1" >&2; exit 1; }

facts() {
    for file in "services/$1.cfg" "keys/$1.acl"; do
        [ -f "$etc/$file" ] || continue
        echo "%% file $file"
        cat "$etc/$file"
    done
    if [ -f "$etc/certificates/$1.pem" ]; then
        echo "%% certificate $(sha256sum < "$etc/certificates/$1.pem" | cut -d ' ' -f 1)"
    fi
    for pid in $(workers); do
        mark=
        # The variable outlives the service that it was set for.
        if tell "@!$pid show stat" | grep -q "^$1,FRONTEND,"; then
            mark=$(tell "@!$pid show env SLIPWAY_ROUTE_$1" | sed -n "s/^SLIPWAY_ROUTE_$1=//p")
        fi
        echo "%% worker $pid $mark"
        echo '%% servers'
        tell "@!$pid show servers state" | awk -v name="$1" '$2 == name || index($2, name ":") == 1 { print $2, $4, $7, $8 }'
        echo '%% keys'
        tell "@!$pid show acl $etc/keys/$1.acl" | awk 'NF == 2 && $1 ~ /^0x/ { print $2 }'
        echo '%% loaded'
        tell "@!$pid show ssl cert $etc/certificates/$1.pem" | sed -n 's/^SHA1 FingerPrint: //p'
    done
}

# Commands are told apart in what is printed by a line with their number.
commands() {
    number=0
    while IFS= read -r line; do
        number=$((number + 1))
        echo "%% $number"
        pid=${line%% *} command=${line#* } path=
        case $command in *'<<'*) path=${command##*<<} command="${command%<<*}<<" ;; esac
        { printf '@!%s %s\n' "$pid" "$command"; if [ -n "$path" ]; then cat "$path"; echo; fi; } | talk
    done < "$1"
}

take() { # FOLDER SERVICE: the files from there; what is not there goes.
    for file in "services/$2.cfg" "keys/$2.acl" "certificates/$2.pem"; do
        mkdir -p "$etc/${file%/*}"
        if [ -f "$1/$file" ]; then mv "$1/$file" "$etc/$file"; else rm -f "$etc/$file"; fi
    done
}

# Whether somebody who is not this router listens on the port: `rx_queue st` of /proc/net/tcp, 0A is LISTEN.
taken() {
    hexadecimal=$(printf '%04X' "$1")
    cat /proc/net/tcp /proc/net/tcp6 2> /dev/null | awk -v port=":$hexadecimal\$" '$4 == "0A" && $2 ~ port { found = 1 } END { exit !found }'
}

ports_of() { sed -n 's/^ *bind .*:\([0-9]*\)\( .*\)\{0,1\}$/\1/p' "$@" 2> /dev/null; }

# How often the master began anew; part of what `show proc` prints: `PID master 6 [failed: 1] ...`.
attempts() { awk '$2 == "master" { print $3 }'; }

reload() {
    before=$(tell 'show proc' | attempts)
    waited=0
    while [ "$waited" -lt 200 ]; do
        # Its socket may refuse for a moment after the reload before: then it is told again.
        if [ $((waited % 20)) = 0 ]; then tell reload > /dev/null 2>&1; fi
        sleep 0.05
        waited=$((waited + 1))
        found=$(tell 'show proc' 2> /dev/null)
        now=$(printf '%s\n' "$found" | attempts)
        if [ -z "$now" ] || [ "$now" = "$before" ]; then continue; fi
        case $found in *'[failed: 0]'*) return 0 ;; *) return 1 ;; esac
    done
    return 1
}

load() { # FOLDER SERVICE PORT
    other=$(grep -lE "^ *bind .*:$3( |\$)" "$run"/services/*.cfg 2> /dev/null | grep -v "/$2.cfg\$" | head -n 1)
    if [ -n "$other" ]; then other=${other##*/}; fail "port: the service ${other%.cfg} has the port $3"; fi
    if ! ports_of "$run/services/$2.cfg" | grep -qx "$3" && taken "$3"; then
        fail "port: another program of the host listens on port $3"
    fi
    rm -rf "$run/next" "$run/before"
    mkdir "$run/next" "$run/before"
    # Keys and certificate are where the file names them before it is looked at; they are no harm without it.
    for file in "services/$2.cfg" "keys/$2.acl" "certificates/$2.pem"; do
        mkdir -p "$run/before/${file%/*}"
        if [ -f "$etc/$file" ]; then cp "$etc/$file" "$run/before/$file"; fi
    done
    take "$1" "$2"
    cp "$run"/services/*.cfg "$run/next/" 2> /dev/null
    cp "$etc/services/$2.cfg" "$run/next/"
    if ! said=$(haproxy -c -f "$run/global.cfg" -f "$run/next" 2>&1); then
        take "$run/before" "$2"
        fail "refused: $said"
    fi
    swap
    if ! reload; then
        take "$run/before" "$2"
        if [ -f "$etc/services/$2.cfg" ]; then cp "$etc/services/$2.cfg" "$run/services/"; else rm -f "$run/services/$2.cfg"; fi
        reload
        fail 'reload: HAProxy could not start with it, and goes on as before'
    fi
}

swap() {
    rm -f "$run"/services/*.cfg
    cp "$run"/next/*.cfg "$run/services/" 2> /dev/null
    rm -rf "$run/next"
}

case $1 in
alive) workers | grep -q . ;;
facts) facts "$2" ;;
run) commands "$2/commands"; rm -rf "$2" ;;
keep) locked; take "$2" "$3"; cp "$etc/services/$3.cfg" "$run/services/"; rm -rf "$etc/incoming/$3" ;;
load) locked; load "$2" "$3" "$4"; rm -rf "$etc/incoming/$3" "$run/before" ;;
remove)
    locked
    take /nonexistent "$2"
    if [ -f "$run/services/$2.cfg" ]; then rm -f "$run/services/$2.cfg"; fi
    # Also where the file was gone: the one that removed it may have ended before the reload.
    if tell '@1 show stat' | grep -q "^$2,FRONTEND,"; then reload || fail 'reload: HAProxy could not start without it'; fi
    ;;
idle)
    deadline=$(($(date +%s) + $2))
    shift 2
    while [ "$(date +%s)" -le "$deadline" ]; do
        busy=
        for server in "$@"; do
            pid=${server%% *} name=${server#* }
            requests=$(tell "@!$pid show stat" | awk -F , -v backend="${name%/*}" -v server="${name#*/}" '$1 == backend && $2 == server { print $5 }')
            if [ "${requests:-0}" != 0 ]; then busy="$busy $name"; fi
        done
        if [ -z "$busy" ]; then exit 0; fi
        sleep 0.1
    done
    echo "$busy"
    ;;
esac
