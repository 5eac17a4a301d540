# What is done inside the router's container, by one call each: $1 says what. It needs a shell with coreutils or BusyBox,
# HAProxy, and perl or socat.
#
#   alive                     fails unless HAProxy answers
#   facts SERVICE...          prints what is there: files, and of each process its servers, keys and certificates
#   keep FOLDER SERVICE...    takes the services' files over from FOLDER, and gives HAProxy the commands there
#   load FOLDER SERVICE...    takes the services' files over from FOLDER, where a service without files is one to remove,
#                             and reloads where HAProxy accepts them
#   run FOLDER                gives HAProxy the commands of FOLDER/commands, one a line: PID COMMAND; `<<PATH` at a line's
#                             end stands for the content of PATH
#   end FOLDER SECONDS        waits until the servers in FOLDER/leaving (PID BACKEND/NAME) have no request, at most for
#                             SECONDS; removes them, and prints those that still had one
set -u
umask 007
etc=/etc/slipway-router
run=/run/router

# `each` sends lines of standard input, PID COMMAND, and prints each line's number before its answer. `tell` sends one to
# the master. HAProxy answers one command a connection, and closes.
if command -v perl > /dev/null; then
    each() {
        perl -MSocket -ne 'BEGIN { $master = shift @ARGV }
            chomp; my ($pid, $command) = split / /, $_, 2; my ($more, $s) = ("");
            if ($command =~ s/<<(.+)$/<</) { local $/; open(my $file, "<", $1) or die "$1: $!\n"; $more = <$file> . "\n" }
            # HAProxy refuses for a moment while it reloads.
            for my $left (reverse 0 .. 50) {
                socket($s, AF_UNIX, SOCK_STREAM, 0);
                last if connect($s, pack_sockaddr_un($master));
                die "$!\n" if !$left;
                select(undef, undef, undef, 0.1);
            }
            syswrite($s, ($pid eq "master" ? "" : "\@!$pid ") . "$command\n$more"); shutdown($s, 1);
            print "%% $.\n"; print while <$s>' "$run/master.sock"
    }
else
    talk() { socat -t 60 - "UNIX-CONNECT:$run/master.sock,retry=50,interval=0.1"; }
    each() {
        number=0
        while IFS= read -r line; do
            number=$((number + 1))
            echo "%% $number"
            to="@!${line%% *} " command=${line#* } path=
            if [ "$to" = '@!master ' ]; then to=; fi
            case $command in *'<<'*) path=${command##*<<} command="${command%<<*}<<" ;; esac
            { printf '%s%s\n' "$to" "$command"; if [ -n "$path" ]; then cat "$path"; echo; fi; } | talk
        done
    }
fi

tell() { printf '%s\n' "master $1" | each; }

# PIDs of the workers, the newest first.
workers() { tell 'show proc' | awk '$2 == "worker" { print $1 }'; }

fail() { printf '%s\n' "$1" >&2; exit 1; }

if ! command -v perl > /dev/null && ! command -v socat > /dev/null; then
    fail 'its image has neither perl nor socat; take one that has: the official image haproxy without -alpine'
fi

locked() {
    if command -v flock > /dev/null; then
        exec 9> "$run/lock"
        flock 9
    fi
}

facts() { # SERVICE...
    for service in "$@"; do
        for file in "services/$service.cfg" "keys/$service.acl"; do
            [ -f "$etc/$file" ] || continue
            echo "%% file $file"
            cat "$etc/$file"
        done
        if [ -f "$etc/certificates/$service.pem" ]; then
            echo "%% certificate $service $(sha256sum < "$etc/certificates/$service.pem" | cut -d ' ' -f 1)"
        fi
    done
    for pid in $(workers); do
        echo "%% worker $pid"
        {
            echo "$pid show env"
            echo "$pid show servers state"
            for service in "$@"; do
                echo "$pid show acl $etc/keys/$service.acl"
                echo "$pid show ssl cert $etc/certificates/$service.pem"
            done
        } | each
    done
}

take() { # FOLDER SERVICE: the files from there; what is not there goes.
    for file in "services/$2.cfg" "keys/$2.acl" "certificates/$2.pem"; do
        mkdir -p "$etc/${file%/*}"
        if [ -f "$1/$file" ]; then mv "$1/$file" "$etc/$file"; else rm -f "$etc/$file"; fi
    done
}

# Whether somebody listens on the port: the state 0A in /proc/net/tcp is LISTEN.
taken() { # PORT
    cat /proc/net/tcp /proc/net/tcp6 2> /dev/null |
        awk -v port=":$(printf '%04X' "$1")\$" '$4 == "0A" && $2 ~ port { found = 1 } END { exit !found }'
}

address_of() { sed -n 's/^ *bind \([^ ]*\).*/\1/p' "$1" 2> /dev/null; }

# Listens on an address for a moment. A reload that cannot do that would close the listeners of all services for a while.
listen() { # ADDRESS PORT
    printf 'global\n  noreuseport\ndefaults\n  mode tcp\n  timeout connect 1s\n  timeout client 1s\n  timeout server 1s\n' > "$run/try.cfg"
    printf 'frontend try\n  bind %s\n  tcp-request connection reject\n' "$1" >> "$run/try.cfg"
    haproxy -db -f "$run/try.cfg" > "$run/try.log" 2>&1 &
    trial=$!
    while kill -0 "$trial" 2> /dev/null; do
        if taken "$2"; then
            kill "$trial"
            wait "$trial" 2> /dev/null
            return 0
        fi
        sleep 0.02
    done
    case $(cat "$run/try.log") in
    *'ermission denied'*)
        least=$(cat /proc/sys/net/ipv4/ip_unprivileged_port_start 2> /dev/null || echo 1024)
        fail "port: ports below $least are not for the router's user. The host allows it with \`sysctl net.ipv4.ip_unprivileged_port_start=$2\`"
        ;;
    *'assign requested'*) fail "port: the host has no address ${1%:*}. Name one of its own, or none for all of them" ;;
    *) fail "port: $(sed -n 's/.*\(cannot bind.*\)/\1/p' "$run/try.log" | head -n 1). Choose another port" ;;
    esac
}

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

# Whether the services' ports can be had: by nobody else here, by no other program.
ports() { # FOLDER SERVICE...
    folder=$1
    shift
    for service in "$@"; do
        [ -f "$folder/services/$service.cfg" ] || continue
        address=$(address_of "$folder/services/$service.cfg")
        port=${address##*:}
        other=$(grep -lE "^ *bind .*:$port( |\$)" "$run"/next/*.cfg | grep -v "/$service.cfg\$" | head -n 1)
        if [ -n "$other" ]; then
            other=${other##*/}
            fail "port: the service ${other%.cfg} has the port $port. Choose another port"
        fi
        # A port that this router has is passed on, also with another address.
        if ! grep -qE "^ *bind .*:$port( |\$)" "$run"/services/*.cfg 2> /dev/null; then
            if taken "$port"; then fail "port: another program of the host listens on port $port. End it, or choose another port"; fi
            listen "$address" "$port"
        fi
    done
}

load() { # FOLDER SERVICE...
    folder=$1
    shift
    rm -rf "$run/next" "$run/before"
    mkdir "$run/next" "$run/before" "$run/before/services" "$run/before/keys" "$run/before/certificates"
    cp "$run"/services/*.cfg "$run/next/" 2> /dev/null
    for service in "$@"; do
        rm -f "$run/next/$service.cfg"
        if [ -f "$folder/services/$service.cfg" ]; then cp "$folder/services/$service.cfg" "$run/next/"; fi
    done
    ports "$folder" "$@"
    # Keys and certificates are where the files name them before those are looked at; they are no harm without them.
    for service in "$@"; do
        for file in "services/$service.cfg" "keys/$service.acl" "certificates/$service.pem"; do
            if [ -f "$etc/$file" ]; then cp "$etc/$file" "$run/before/$file"; fi
        done
        take "$folder" "$service"
    done
    if ! said=$(haproxy -c -f "$run/global.cfg" -f "$run/next" 2>&1); then
        for service in "$@"; do take "$run/before" "$service"; done
        fail "refused: $said"
    fi
    rm -rf "$run/former"
    cp -r "$run/services" "$run/former"
    rm -f "$run"/services/*.cfg
    cp "$run"/next/*.cfg "$run/services/" 2> /dev/null
    if ! reload; then
        for service in "$@"; do take "$run/before" "$service"; done
        rm -f "$run"/services/*.cfg
        cp "$run"/former/*.cfg "$run/services/" 2> /dev/null
        reload
        fail 'reload: HAProxy could not start with it'
    fi
}

keep() { # FOLDER SERVICE...
    folder=$1
    shift
    for service in "$@"; do
        take "$folder" "$service"
        cp "$etc/services/$service.cfg" "$run/services/"
    done
    each < "$folder/commands"
}

# The lines of `show stat` of all processes that are named in FOLDER/leaving, each behind its process.
requests() { # FOLDER
    cut -d ' ' -f 1 "$1/leaving" | sort -u | while IFS= read -r pid; do
        printf '%s\n' "$pid show stat" | each | sed "s/^/$pid,/"
    done
}

end() { # FOLDER SECONDS
    deadline=$(($(date +%s) + $2))
    while :; do
        requests "$1" > "$1/requests"
        # The sixth field of a line, with the process before it, is the number of requests under way.
        awk -F '[ ,/]' 'FNR == NR { leaving[$1 "," $2 "," $3] = $2 "/" $3; next }
            { key = $1 "," $2 "," $3 } key in leaving && $6 + 0 > 0 { print leaving[key] }' "$1/leaving" "$1/requests" > "$1/busy"
        if [ ! -s "$1/busy" ] || [ "$(date +%s)" -ge "$deadline" ]; then break; fi
        sleep 0.1
    done
    # Connections that are kept for later are closed in maintenance, each by its own thread: there may be one yet.
    for _ in 1 2 3 4 5 6 7 8 9 10; do
        while IFS=' ' read -r pid server; do
            if ! grep -qxF "$server" "$1/busy"; then
                echo "$pid set server $server state maint"
                echo "$pid del server $server"
            fi
        done < "$1/leaving" | each > "$1/removed"
        if ! grep -q 'still has connections' "$1/removed"; then break; fi
        sleep 0.2
    done
    sort -u "$1/busy"
}

what=$1
shift
case $what in
alive) workers | grep -q '[0-9]' ;;
facts) facts "$@" ;;
keep) locked && keep "$@" ;;
load) locked && load "$@" ;;
run) each < "$1/commands" ;;
end) end "$1" "$2" ;;
esac
status=$?
case $what in
keep | load | run | end)
    rm -rf "$1"
    # What calls that were ended have left.
    find "$etc/incoming" -mindepth 1 -maxdepth 1 -mmin +60 -exec rm -rf {} + 2> /dev/null
    ;;
esac
exit $status
