# Starts HAProxy with the services that are known; $1 is the configuration that holds for all of them, $2 its Lua.
set -eu
umask 007
folder=/run/router
printf '%s\n' "$1" > "$folder/global.cfg"
printf '%s\n' "$2" > "$folder/refuse.lua"
# HAProxy reads a copy: what is in the volume changes before it is known to be good. In a fresh volume there is nothing.
rm -rf "$folder/services"
mkdir "$folder/services"
for file in /etc/slipway-router/services/*.cfg; do
    if [ -f "$file" ]; then cp "$file" "$folder/services/"; fi
done
# As the first process it gets the signals.
exec haproxy -W -S "$folder/master.sock,mode,600" -f "$folder/global.cfg" -f "$folder/services"
