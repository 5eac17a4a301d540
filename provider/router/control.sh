# What is done inside the router's container, by one call each: $1 says what. It needs a shell with coreutils or BusyBox,
# HAProxy, and perl or socat.
#
#   alive                     fails unless HAProxy answers
#   facts SERVICE             prints what is there: files, and of each process its servers, keys and certificate
#   keep FOLDER SERVICE       takes the service's files over from FOLDER, and gives HAProxy the commands there
#   load FOLDER SERVICE PORT  takes the service's files over from FOLDER, and reloads where HAProxy accepts them
#   run FOLDER                gives HAProxy the commands of FOLDER/commands, one a line: PID COMMAND; `<<PATH` at a line's
#                             end stands for the content of PATH
#   end FOLDER SECONDS        waits until the servers in FOLDER/leaving (PID BACKEND/NAME) have no request, at most for
#                             SECONDS; removes them, and prints those that still had one
#   remove SERVICE            removes the service's files, and reloads
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

facts() { # SERVICE
    for file in "services/$1.cfg" "keys/$1.acl"; do
        [ -f "$etc/$file" ] || continue
        echo "%% file $file"
        cat "$etc/$file"
    done
    if [ -f "$etc/certificates/$1.pem" ]; then
        echo "%% certificate $(sha256sum < "$etc/certificates/$1.pem" | cut -d ' ' -f 1)"
    fi
    for pid in $(workers); do
        echo "%% worker $pid"
        each << END
$pid show env SLIPWAY_ROUTE_$1
$pid show servers state
$pid show acl $etc/keys/$1.acl
$pid show ssl cert $etc/certificates/$1.pem
END
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

load() { # FOLDER SERVICE PORT
    other=$(grep -lE "^ *bind .*:$3( |\$)" "$run"/services/*.cfg 2> /dev/null | grep -v "/$2.cfg\$" | head -n 1)
    if [ -n "$other" ]; then
        other=${other##*/}
        fail "port: the service ${other%.cfg} has the port $3. Choose another port"
    fi
    address=$(address_of "$1/services/$2.cfg") former=$(address_of "$run/services/$2.cfg")
    # Another address with the same port is still held by the service itself.
    if [ "${former##*:}" != "$3" ]; then
        if taken "$3"; then fail "port: another program of the host listens on port $3. End it, or choose another port"; fi
        listen "$address" "$3"
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
    rm -f "$run"/services/*.cfg
    cp "$run"/next/*.cfg "$run/services/"
    if ! reload; then
        take "$run/before" "$2"
        if [ -f "$etc/services/$2.cfg" ]; then cp "$etc/services/$2.cfg" "$run/services/"; else rm -f "$run/services/$2.cfg"; fi
        reload
        fail 'reload: HAProxy could not start with it'
    fi
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
    while IFS=' ' read -r pid server; do
        if ! grep -qxF "$server" "$1/busy"; then
            echo "$pid set server $server state maint"
            echo "$pid del server $server"
        fi
    done < "$1/leaving" | each > /dev/null
    sort -u "$1/busy"
}

case $1 in
alive) workers | grep -q '[0-9]' ;;
facts) facts "$2" ;;
keep)
    locked
    take "$2" "$3"
    cp "$etc/services/$3.cfg" "$run/services/"
    if [ -f "$2/commands" ]; then each < "$2/commands"; fi
    ;;
load) locked && load "$2" "$3" "$4" ;;
run) each < "$2/commands" ;;
end) end "$2" "$3" ;;
remove)
    locked
    rm -rf "$etc/incoming/$2"
    take /nonexistent "$2"
    rm -f "$run/services/$2.cfg"
    # Also where the file was gone: the one that removed it may have ended before the reload.
    if tell '@1 show stat' | grep -q "^$2,FRONTEND,"; then reload || fail 'reload: HAProxy could not start without it'; fi
    ;;
esac
status=$?
# What was brought is used up; of calls that were ended before, too.
case $1 in keep | load | run | end) rm -rf "${2%/*}" ;; esac
exit $status
